/** docs/stpconnect.md names every call and option that the package exports. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import * as face from '../../../src/index.js';

test('every exported STP call and socket option stands in docs/stpconnect.md', (t) => {
  const file = fileURLToPath(new URL('../../../../docs/stpconnect.md', import.meta.url));
  const text = readFileSync(file, 'utf8');
  const names = Object.keys(face).filter((name) => /^(STP[a-z]|SO_[A-Z]+$|O_|TCP_)/.test(name));
  const missing = names.filter((name) => !text.includes(`\`${name}`));
  t.true(names.length > 25, `${names.length} names`);
  t.deepEqual(missing, []);
});
