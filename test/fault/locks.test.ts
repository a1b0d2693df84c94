/**
 * trap 17: a lock of a run that died goes with it, in any PID namespace; one that is held names its
 * holder (docs/decisions/0024).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { withLock } from '../../src/library/waiting-lock.js';
import { finished, stopProcess, until } from '../support/array.js';
import { lockFile } from '../unit/library/stand-ins.js';

const holder = fileURLToPath(new URL('./lock-holder.js', import.meta.url));
const NAME = 'library.lock';
/** Long enough to look more than once. */
const WAIT_MS = 200;
/** A process that cannot get a lock that is free fails the test by this. */
const WATCHDOG_MS = 60_000;
const NEW_NAMESPACES = ['unshare', '-r', '--pid', '--fork', '--kill-child', '--mount-proc'];
const canUnshare = spawnSync(NEW_NAMESPACES[0] as string, [...NEW_NAMESPACES.slice(1), 'true']);

function place(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-locks-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A process that has the lock; in namespaces of its own where `prefix` says so. */
async function hold(
  t: ExecutionContext,
  directory: string,
  prefix: readonly string[] = [],
): Promise<ChildProcess> {
  const [program, ...args] = [...prefix, process.execPath, holder, directory, NAME, '30000'];
  const child = spawn(program as string, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  await until('it holds the lock', () => said.includes('held'));
  return child;
}

const take = (directory: string, waitMs: number) =>
  withLock(directory, NAME, lockFile, () => 'taken', waitMs);

test('trap 17: a lock is gone with the kill -9 of its holder', async (t) => {
  const directory = place(t);
  const child = await hold(t, directory);
  const error = t.throws(() => take(directory, WAIT_MS), { code: 'EBUSY' });
  t.true(error.message.includes(`${join(directory, NAME)} is held by process ${child.pid} (`));
  t.regex(error.message, /lock-holder\.js .*for more than 0\.2 s; the lock goes when that process/);
  child.kill('SIGKILL');
  t.is(take(directory, WATCHDOG_MS), 'taken');
});

test('trap 17: a holder that is stopped is named as such, and its lock goes with it', async (t) => {
  const directory = place(t);
  const child = await hold(t, directory);
  await stopProcess(child);
  t.throws(() => take(directory, WAIT_MS), {
    code: 'EBUSY',
    message: new RegExp(`held by process ${child.pid} \\(.*\\), which is stopped`),
  });
  child.kill('SIGKILL');
  t.is(take(directory, WATCHDOG_MS), 'taken');
});

test('trap 17: PIDs are no identity: holders in a PID namespace, seen from both sides', async (t) => {
  if (canUnshare.status !== 0) {
    t.log('skipped: no right to make PID namespaces');
    return t.pass();
  }
  const directory = place(t);
  const inside = await hold(t, directory, NEW_NAMESPACES);
  t.throws(() => take(directory, WAIT_MS), { code: 'EBUSY', message: /is held by process \d+ \(/ });
  inside.kill('SIGKILL');
  t.is(take(directory, WATCHDOG_MS), 'taken');

  await hold(t, directory);
  const [program, ...args] = [...NEW_NAMESPACES, process.execPath, holder, directory, NAME, '100'];
  const { stdout } = await finished(spawn(program as string, args));
  t.regex(stdout, /EBUSY: .* is held by a process that cannot be seen from here/);
});
