import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../../src/native.js';
import {
  AlreadyRunningError,
  ATTACH_SOCKET,
  CONTROL_SOCKET,
  findHolder,
  isAlive,
  LOCK_FILE,
  prepareRunDirectory,
  RunDirectory,
  resolveRunDirectory,
} from '../../../src/run-directory.js';
import { temporaryDirectory, until } from './workbench.js';

const lockFile = (fd: number): boolean => native().lockFile(fd);

test('the option comes before the environment, and both before the user’s place', (t) => {
  const environment = { STPD_RUN_DIR: '/a', XDG_RUNTIME_DIR: '/run/user/5' };
  t.is(resolveRunDirectory('/b', environment, 5), '/b');
  t.is(resolveRunDirectory(undefined, environment, 5), '/a');
  t.is(resolveRunDirectory(undefined, { XDG_RUNTIME_DIR: '/run/user/5' }, 5), '/run/user/5/stpd');
  t.is(resolveRunDirectory(undefined, { XDG_RUNTIME_DIR: '/run/user/0' }, 0), '/run/stpd');
  t.is(resolveRunDirectory(undefined, {}, 4_000_000_000), '/tmp/stpd-4000000000');
});

test('an empty or relative variable is none; a relative option is from here', (t) => {
  const environment = { STPD_RUN_DIR: '', XDG_RUNTIME_DIR: 'relative' };
  t.is(resolveRunDirectory(undefined, environment, 4_000_000_000), '/tmp/stpd-4000000000');
  t.is(resolveRunDirectory('x', {}, 5), join(process.cwd(), 'x'));
  t.throws(() => resolveRunDirectory('', {}, 5), { code: 'EINVAL' });
});

test('a directory of another user at the place in /tmp is not talked to', (t) => {
  // /tmp/stpd-UID of a uid that cannot exist, made by us: for that uid it is another's.
  const uid = 4_000_000_000 + process.pid;
  const directory = `/tmp/stpd-${uid}`;
  mkdirSync(directory);
  t.teardown(() => rmdirSync(directory));
  t.throws(() => resolveRunDirectory(undefined, {}, uid), {
    code: 'EACCES',
    message: /belongs to/,
  });
});

test('a path that leaves no room for a socket’s name is refused in bytes, not characters', (t) => {
  const longest = `/${'x'.repeat(93)}`;
  t.is(resolveRunDirectory(longest, {}, 5), longest);
  t.throws(() => resolveRunDirectory(`${longest}x`, {}, 5), {
    code: 'ENAMETOOLONG',
    message: /has 95 bytes: socket names leave it at most 94/,
  });
  t.throws(() => resolveRunDirectory(`/${'é'.repeat(60)}`, {}, 5), { code: 'ENAMETOOLONG' });
});

test('the longest accepted directory holds a listening socket', async (t) => {
  const parent = temporaryDirectory(t);
  const path = join(parent, 'x'.repeat(94 - Buffer.byteLength(parent) - 1));
  prepareRunDirectory(resolveRunDirectory(path));
  const server = createServer();
  const listening = new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(join(path, CONTROL_SOCKET), () => resolve(undefined));
  });
  await t.notThrowsAsync(listening);
  t.true(existsSync(join(path, CONTROL_SOCKET)));
  await new Promise((resolve) => server.close(resolve));
});

test.serial('a directory that is made has mode 0755 under any umask', (t) => {
  const path = join(temporaryDirectory(t), 'run');
  const umask = process.umask(0o077);
  try {
    prepareRunDirectory(path);
  } finally {
    process.umask(umask);
  }
  t.is(statSync(path).mode & 0o777, 0o755);
});

test('a private directory stays private', (t) => {
  const path = temporaryDirectory(t);
  prepareRunDirectory(path);
  t.is(statSync(path).mode & 0o777, 0o700);
});

test('links, files and directories that others write to are refused', (t) => {
  const parent = temporaryDirectory(t);
  const target = join(parent, 'target');
  mkdirSync(target);
  symlinkSync(target, join(parent, 'link'));
  t.throws(() => prepareRunDirectory(join(parent, 'link')), { message: /is a symbolic link/ });
  writeFileSync(join(parent, 'file'), '');
  t.throws(() => prepareRunDirectory(join(parent, 'file')), { message: /file/ });
  t.throws(() => prepareRunDirectory(join(parent, 'file/below')), { code: 'ENOTDIR' });
  chmodSync(target, 0o775);
  t.throws(() => prepareRunDirectory(target), { code: 'EACCES', message: /chmod go-w/ });
});

test('a directory of another user is refused', (t) => {
  if (process.geteuid?.() !== 0) {
    t.log('skipped: giving a directory away needs root');
    t.pass();
    return;
  }
  const path = temporaryDirectory(t);
  chownSync(path, 65534, 65534);
  t.throws(() => prepareRunDirectory(path), { code: 'EACCES', message: /belongs to uid 65534/ });
});

test('the lock file says who runs, and only its owner may open it', async (t) => {
  const path = temporaryDirectory(t);
  await RunDirectory.take(path, lockFile);
  t.is(readFileSync(join(path, LOCK_FILE), 'utf8'), `${process.pid}\n`);
  t.is(statSync(join(path, LOCK_FILE)).mode & 0o777, 0o600);
});

test('a second one on a directory is refused with PID and directory', async (t) => {
  const path = temporaryDirectory(t);
  await RunDirectory.take(path, lockFile);
  const error = await t.throwsAsync(RunDirectory.take(path, lockFile), {
    instanceOf: AlreadyRunningError,
  });
  t.true(error?.message.includes(`pid ${process.pid}`) && error.message.includes(path));
});

test('who only asks whether the lock is free does not keep a daemon from starting', async (t) => {
  const path = temporaryDirectory(t);
  const fd = openSync(join(path, LOCK_FILE), 'w', 0o600);
  t.true(lockFile(fd));
  const taken = RunDirectory.take(path, lockFile);
  closeSync(fd);
  await t.notThrowsAsync(taken);
});

test('a lock file that is removed while it is taken is made again', async (t) => {
  const path = temporaryDirectory(t);
  let calls = 0;
  const removedMeanwhile = (fd: number): boolean => {
    calls += 1;
    if (calls < 3) unlinkSync(join(path, LOCK_FILE));
    // Once the name is free, once another has made a new file of that name.
    if (calls === 2) writeFileSync(join(path, LOCK_FILE), '', { mode: 0o600 });
    return lockFile(fd);
  };
  await RunDirectory.take(path, removedMeanwhile);
  t.is(calls, 3);
  t.is((await findHolder(path, lockFile))?.pid, process.pid);
});

test('the holder is found, and it is alive', async (t) => {
  const path = temporaryDirectory(t);
  t.is(await findHolder(path, lockFile), undefined);
  await RunDirectory.take(path, lockFile);
  const holder = await findHolder(path, lockFile);
  t.is(holder?.pid, process.pid);
  t.true(holder !== undefined && isAlive(holder));
});

test('a PID beside a free lock is nobody', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, LOCK_FILE), `${process.pid}\n`, { mode: 0o600 });
  t.is(await findHolder(path, lockFile), undefined);
});

test('a held lock with the number of a process that does not hold it names nobody', async (t) => {
  const path = temporaryDirectory(t);
  await RunDirectory.take(path, lockFile);
  // As from another PID namespace: process 1 exists, and has nothing to do with it.
  writeFileSync(join(path, LOCK_FILE), '1\n');
  await t.throwsAsync(findHolder(path, lockFile), { code: 'ESRCH', message: /another container/ });
});

test('a process that has ended and was not collected is not alive', async (t) => {
  // The shell becomes a sleep, which never collects the child it did not know of.
  const parent: ChildProcess = spawn('sh', ['-c', 'sh -c "echo \\$\\$" & exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => parent.kill('SIGKILL'));
  const text = await new Promise<string>((resolve) => {
    parent.stdout?.once('data', (data) => resolve(String(data)));
  });
  const pid = Number(text);
  const stat = (): string => readFileSync(`/proc/${pid}/stat`, 'utf8');
  await until(() => stat().includes(') Z '), 'the child becomes a zombie');
  const startTime = stat().split(') ')[1]?.split(' ')[19] ?? '';
  t.false(isAlive({ pid, startTime }));
});

test('a number that was used again is not the same process', (t) => {
  t.false(isAlive({ pid: process.pid, startTime: '1' }));
});

/** A socket whose owner was killed: the file stays. */
function leaveSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  return new Promise((resolve) => {
    spawn(process.execPath, ['-e', script]).once('exit', () => resolve());
  });
}

test('stale sockets are removed at take, and everything but foreign files at leave', async (t) => {
  const path = temporaryDirectory(t);
  await leaveSocket(join(path, ATTACH_SOCKET));
  await leaveSocket(join(path, CONTROL_SOCKET));
  t.is(readdirSync(path).length, 2);
  writeFileSync(join(path, 'notes'), 'mine');
  const run = await RunDirectory.take(path, lockFile);
  t.deepEqual(readdirSync(path).sort(), ['notes', LOCK_FILE]);
  run.leave();
  t.deepEqual(readdirSync(path), ['notes']);
});

test('a file that is not a socket is not removed', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, CONTROL_SOCKET), 'precious');
  await t.throwsAsync(RunDirectory.take(path, lockFile), { message: /in the way/ });
  t.is(readFileSync(join(path, CONTROL_SOCKET), 'utf8'), 'precious');
});
