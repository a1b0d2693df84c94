/**
 * The programs of examples/, run as they stand. The documents that are made of them:
 * snippets.test.ts.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type Finished, finished } from '../support/array.js';
import { scratchDirectory } from '../support/forward.js';
import { PRINTS } from './document.js';
import { certificate, EXAMPLES, NO_OPENSSL, programRig } from './rig.js';

const rig = programRig(test);

async function prints(
  t: ExecutionContext<unknown>,
  name: string,
  { cwd = EXAMPLES, args = [] }: { cwd?: string; args?: readonly string[] } = {},
): Promise<void> {
  const child = spawn(process.execPath, [join(EXAMPLES, name), ...args], {
    cwd,
    env: { ...process.env, STPD_RUN_DIR: rig().array.runDirectory, STG: 'test' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { code, stdout, stderr } = await finished(child);
  t.is(code, 0, stderr);
  /* Numbers of hosts and users, and the length of a file, are the run's own. */
  const plain = (text: string): string =>
    text
      .replace(/host \d+/g, 'host 1')
      .replace(/uid \d+/g, 'uid 1000')
      .replace(/(sent|received) \d+ bytes/g, '$1 10 bytes');
  t.is(plain(stdout), plain(PRINTS[name] ?? ''));
}

for (const name of ['http.mjs', 'undici.mjs', 'ws.mjs', 'pages.mjs', 'records.mjs']) {
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
  await prints(t, 'https.mjs', { cwd: directory });
});

test('file.mjs prints what the document says, and the copy is whole', async (t) => {
  const directory = scratchDirectory(t);
  const [from, to] = [join(directory, 'from'), join(directory, 'to')];
  writeFileSync(from, randomBytes(9_999_999));
  await prints(t, 'file.mjs', { args: [from, to] });
  t.true(readFileSync(from).equals(readFileSync(to)));
});

test('npm run example: an array of its own, which is gone with the program', async (t) => {
  const directory = scratchDirectory(t);
  const script = fileURLToPath(new URL('../../../scripts/example.mjs', import.meta.url));
  const start = (name: string): Promise<Finished> => {
    const { STPD_RUN_DIR: _, ...env } = process.env;
    return finished(
      spawn(process.execPath, [script, name], {
        env: { ...env, TMPDIR: directory },
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
  };
  const { code, stdout, stderr } = await start('http');
  t.is(code, 0, stderr);
  t.is(stdout.split('\n').length, 3);
  t.deepEqual(readdirSync(directory), []);
  const unknown = await start('nonsense');
  t.is(unknown.code, 2);
  t.regex(unknown.stderr, /usage: .*\n.*http\.mjs/);
});
