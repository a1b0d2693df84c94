/**
 * The STG is the unit of isolation: who is not in its access list gets EACCES and no descriptor.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { attach } from '../../src/index.js';
import { finished, startArray } from '../support/array.js';
import { OTHER_UID, packageForOthers } from '../support/other-user.js';

/** Attaches as another user and prints the code, and how many descriptors came with the answer. */
const program = (packageRoot: string, runDirectory: string): string => `
import { attach, native } from '${packageRoot}/dist/src/index.js';
const addon = native();
let descriptors = 0;
const receive = addon.receiveMessage;
Object.defineProperty(addon, 'receiveMessage', { value: (...args) => {
  const message = receive(...args);
  descriptors += message?.fds.length ?? 0;
  return message;
} });
try {
  const host = await attach({ runDirectory: '${runDirectory}', stg: 'test' });
  console.log('attached as host', host.hostId, 'uid', process.getuid());
  await host.close();
} catch (error) {
  console.log(error.code, descriptors, error.message);
}
`;

test('a user who is not in the access list gets EACCES and no descriptor', async (t) => {
  if (process.getuid?.() !== 0) {
    t.log('skipped: needs root, to become another user');
    return t.pass();
  }
  const array = await startArray(t, { allowUids: [0] });
  await using own = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.true(own.hostId > 0, 'a user in the list gets in');

  const result = await attachAs(t, array.runDirectory);
  t.regex(result.stdout, /^EACCES 0 EACCES: uid 65534 is not in the access list of STG 'test'/);
});

test('a user who is in the access list gets in', async (t) => {
  if (process.getuid?.() !== 0) {
    t.log('skipped: needs root, to become another user');
    return t.pass();
  }
  const array = await startArray(t, { allowUids: [0, OTHER_UID] });
  const result = await attachAs(t, array.runDirectory);
  t.regex(result.stdout, /^attached as host \d+ uid 65534/);
});

async function attachAs(
  t: import('ava').ExecutionContext,
  runDirectory: string,
): Promise<{ stdout: string }> {
  const { root } = packageForOthers(t, runDirectory);
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', program(root, runDirectory)],
    { uid: OTHER_UID, gid: OTHER_UID, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const result = await finished(child);
  t.is(result.stderr, '');
  return result;
}

test('an STG that does not exist is ENOENT', async (t) => {
  const array = await startArray(t);
  const error = await t.throwsAsync(attach({ runDirectory: array.runDirectory, stg: 'nothing' }), {
    code: 'ENOENT',
  });
  t.regex(error?.message ?? '', /there is no STG 'nothing'/);
});

test('without an array attach says what to start', async (t) => {
  const runDirectory = mkdtempSync(join(tmpdir(), 'stpd-none-'));
  t.teardown(() => rmSync(runDirectory, { recursive: true, force: true }));
  const error = await t.throwsAsync(attach({ runDirectory, stg: 'test' }), { code: 'ENOENT' });
  t.regex(error?.message ?? '', /no stpd serves .*start it with: stpd start --run-dir/);
});
