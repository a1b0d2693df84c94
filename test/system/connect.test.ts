/** The program that `npm run test:nodes` runs in other Nodes, in this one. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { finished } from '../support/array.js';

test('STPConnect in both forms, and processes that end while a thread blocks', async (t) => {
  const program = fileURLToPath(new URL('smoke-connect.js', import.meta.url));
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'pipe'] });
  const { code, stdout, stderr } = await finished(child);
  t.is(code, 0, stdout + stderr);
  t.log(stdout.trim());
});
