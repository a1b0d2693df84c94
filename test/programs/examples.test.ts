/**
 * The programs of examples/, run as they stand; and docs/programs.md, which is made of them.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { finished } from '../support/array.js';
import { scratchDirectory } from '../support/forward.js';
import { DOCUMENT, generated, PRINTS } from './document.js';
import { certificate, EXAMPLES, NO_OPENSSL, programRig } from './rig.js';

const rig = programRig(test);

async function prints(t: ExecutionContext<unknown>, name: string, cwd = EXAMPLES): Promise<void> {
  const child = spawn(process.execPath, [join(EXAMPLES, name)], {
    cwd,
    env: { ...process.env, STPD_RUN_DIR: rig().array.runDirectory, STG: 'test' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { code, stdout, stderr } = await finished(child);
  t.is(code, 0, stderr);
  /* Numbers of hosts and users are the run's own. */
  const plain = (text: string): string => text.replace(/host \d+, uid \d+/g, 'host 1, uid 1000');
  t.is(plain(stdout), PRINTS[name] ?? '');
}

for (const name of ['http.mjs', 'undici.mjs', 'ws.mjs']) {
  test(`${name} prints what the document says`, (t) => prints(t, name));
}

test('https.mjs prints what the document says', async (t) => {
  const pair = certificate();
  if (pair === undefined) {
    t.log(NO_OPENSSL);
    return t.pass();
  }
  const directory = scratchDirectory(t);
  writeFileSync(join(directory, 'key.pem'), pair.key);
  writeFileSync(join(directory, 'cert.pem'), pair.cert);
  await prints(t, 'https.mjs', directory);
});

test('docs/programs.md is what `npm run docs` writes', (t) => {
  const document = readFileSync(DOCUMENT, 'utf8');
  t.is(document, generated(document));
});
