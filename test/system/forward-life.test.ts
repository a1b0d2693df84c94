/**
 * stpctl forward from its start to its end: what prevents a start, signals, the socket's file, and
 * an stpd that goes away and comes back.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runProgram, startArray } from '../support/array.js';
import {
  dial,
  drain,
  type Forward,
  fate,
  fateOf,
  hostFor,
  pour,
  scratchDirectory,
  serve,
  sharedArray,
  spawnForward,
  startForward,
  until,
} from '../support/forward.js';
import { OTHER_UID, packageForOthers } from '../support/other-user.js';

const array = sharedArray(test);

type T = ExecutionContext<unknown>;

const run = (t: T, ...args: string[]) =>
  spawnForward(t, { runDirectory: array().runDirectory, args }).ended;

const start = (t: T, ...args: string[]): Promise<Forward> =>
  startForward(t, { runDirectory: array().runDirectory, args });

// --- what prevents a start -----------------------------------------------------------------------

for (const [args, message] of [
  [[], /missing required argument 'from'/],
  [['tcp:1'], /missing required argument 'to'/],
  [['tcp:1', 'tcp:2', 'tcp:3'], /too many arguments/],
  [['tcp:1', 'tcp:2', '--fast'], /unknown option '--fast'/],
  [['nowhere', 'tcp:2'], /'nowhere' is no address: use one of/],
  [['-', '-'], /both addresses are stdio/],
  [['tcp:0', 'tcp:1', '--max-connections', '0'], /--max-connections is '0'; give a whole .* 1 to/],
  [['tcp:0', 'tcp:1', '--max-connections=many'], /--max-connections is 'many'; give/],
  [['tcp:0', 'tcp:1', '--grace', '1.5'], /--grace is '1\.5'; give a whole number from 0 to 86400/],
  [['tcp:0', 'tcp:1', '--mode', '0600'], /--mode is for the file of a Unix socket; FROM must be/],
  [['unix:/tmp/x', 'tcp:1', '--mode', 'rw'], /--mode is 'rw'; give three octal digits, such as/],
  [['tcp:0', 'tcp:1', '--run-dir', ''], /the run directory is an empty name/],
] as const) {
  test.serial(`wrong usage: ${args.join(' ')}`, async (t) => {
    const { code, stdout, stderr } = await run(t, ...args);
    t.is(code, 2, stderr);
    t.is(stdout, '');
    t.regex(stderr, message);
  });
}

test.serial('no stpd is exit code 5, no such STG is 1, and both say what to do', async (t) => {
  const runDirectory = scratchDirectory(t);
  const none = await spawnForward(t, { runDirectory, args: ['tcp:0', 'stp:test:1'] }).ended;
  t.is(none.code, 5);
  t.regex(none.stderr, /stpctl: stpd is not running on .*; start it with: stpd start --run-dir/);
  const wrong = await run(t, 'stp:other:1', 'tcp:1');
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /stpctl: there is no STG 'other'; see 'stpctl stg list'/);
});

test.serial('an address that is taken is told plainly', async (t) => {
  const host = await hostFor(t, array().runDirectory);
  for (const kind of ['stp', 'tcp', 'unix'] as const) {
    const server = await serve(t, host, kind);
    const { code, stderr } = await run(t, server.address, 'tcp:1');
    t.is(code, 1, stderr);
    t.regex(stderr, /(another process listens|port \d+ of STG 'test' is taken)/);
    t.regex(stderr, /choose another|is taken/);
  }
  const elsewhere = await run(t, 'tcp:203.0.113.1:0', 'tcp:1');
  t.is(elsewhere.code, 1);
  t.regex(
    elsewhere.stderr,
    /cannot listen on tcp:203\.0\.113\.1:0: this machine has no such address/,
  );
});

test.serial('IPv6, where the machine has it', async (t) => {
  const probe = createServer().listen(0, '::1');
  const there = await Promise.race([
    once(probe, 'listening').then(() => true),
    once(probe, 'error').then(() => false),
  ]);
  probe.close();
  if (!there) {
    t.log('skipped: this machine has no IPv6 loopback');
    return t.pass();
  }
  const server = await serve(t, undefined, 'tcp', (socket) => void socket.pipe(socket as never));
  const inner = await start(t, 'tcp:[::1]:0', server.address);
  t.regex(inner.from, /^tcp:\[::1\]:\d+$/);
  const outer = await start(t, 'tcp:0', inner.from);
  const client = await dial(t, undefined, outer.from);
  client.end('six');
  t.is((await drain(client)).bytes, 3);
});

// --- signals -------------------------------------------------------------------------------------

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test.serial(`${signal} with nothing open: the end, in order`, async (t) => {
    const forward = await start(t, 'stp:test:0', 'tcp:1');
    forward.child.kill(signal);
    const { code, stderr } = await forward.ended;
    t.is(code, 0);
    t.regex(
      stderr,
      /\nstpctl: 0 connections \(0 ended, 0 reset, 0 found no target\), 0 B out, 0 B/,
    );
  });
}

test.serial('a signal lets streams end, and takes no more', async (t) => {
  const server = await serve(t, undefined, 'tcp');
  const forward = await start(t, 'tcp:0', server.address, '--grace', '600');
  const client = await dial(t, undefined, forward.from);
  const accepted = await until('it stands', () => server.sockets[0]);
  forward.child.kill('SIGTERM');
  await until('it says so', () =>
    /SIGTERM: no new connections; 1 open, which has 600 s to end/.test(forward.said()),
  );
  await t.throwsAsync(dial(t, undefined, forward.from), { code: 'ECONNREFUSED' });
  const arriving = drain(accepted);
  const sent = await pour(client, 500_000, 5);
  client.end();
  t.deepEqual(await arriving, sent);
  accepted.end();
  t.is((await drain(client)).bytes, 0);
  t.is((await forward.ended).code, 0);
});

test.serial('what goes on beyond the grace time is reset: exit code 4', async (t) => {
  const host = await hostFor(t, array().runDirectory);
  const server = await serve(t, host, 'stp');
  const forward = await start(t, 'tcp:0', server.address, '--grace', '0');
  const client = await dial(t, undefined, forward.from);
  const accepted = await until('it stands', () => server.sockets[0]);
  const fates = Promise.all([fate(client), fate(accepted)]);
  forward.child.kill('SIGINT');
  t.deepEqual(await fates, ['ECONNRESET', 'ECONNRESET']);
  const { code, stderr } = await forward.ended;
  t.is(code, 3);
  t.regex(stderr, /1 connection \(0 ended, 1 reset/);
});

test.serial('a second signal resets at once', async (t) => {
  const server = await serve(t, undefined, 'tcp');
  const forward = await start(t, 'tcp:0', server.address, '--grace', '86400');
  const client = await dial(t, undefined, forward.from);
  await until('it stands', () => server.sockets[0]);
  const ending = fate(client);
  forward.child.kill('SIGINT');
  await until('it waits', () => /SIGINT: no new/.test(forward.said()));
  forward.child.kill('SIGTERM');
  t.is(await ending, 'ECONNRESET');
  t.is((await forward.ended).code, 3);
});

// --- the file of a Unix socket -------------------------------------------------------------------

test.serial('the file has the mode, 0600 by default, and goes with the forward', async (t) => {
  const path = join(scratchDirectory(t), 'f.sock');
  for (const [args, mode] of [
    [[], 0o600],
    [['--mode', '0666'], 0o666],
    [['--mode', '660'], 0o660],
  ] as const) {
    const forward = await start(t, `unix:${path}`, 'tcp:1', ...args);
    t.is(statSync(path).mode & 0o777, mode);
    forward.child.kill('SIGTERM');
    await forward.ended;
    t.false(existsSync(path));
  }
});

test.serial('the stale file of a killed forward is replaced, a live one is refused', async (t) => {
  const path = join(scratchDirectory(t), 'f.sock');
  const first = await start(t, `unix:${path}`, 'tcp:1');
  const refused = await run(t, `unix:${path}`, 'tcp:1');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /another process listens on .*f\.sock; stop it, or choose another path/);
  first.child.kill('SIGKILL');
  await first.ended;
  t.true(existsSync(path));
  const both = await Promise.allSettled([
    start(t, `unix:${path}`, 'tcp:1'),
    start(t, `unix:${path}`, 'tcp:1'),
  ]);
  const alive = both.filter((one) => one.status === 'fulfilled');
  t.is(alive.length, 1, 'of two at once, one');
  const client = await dial(t, undefined, `unix:${path}`);
  t.regex(await fate(client), /^(end|ECONNRESET)$/);
});

test.serial('what is no socket is left alone; a directory that is not there is told', async (t) => {
  const directory = scratchDirectory(t);
  const file = join(directory, 'file');
  writeFileSync(file, 'kept');
  symlinkSync(file, join(directory, 'link'));
  for (const name of ['file', 'link']) {
    const { code, stderr } = await run(t, `unix:${directory}/${name}`, 'tcp:1');
    t.is(code, 1);
    t.regex(stderr, /is in the way and is no socket; remove it by hand/);
  }
  t.is(statSync(file).size, 4);
  const { code, stderr } = await run(t, `unix:${directory}/none/f.sock`, 'tcp:1');
  t.is(code, 1);
  t.regex(stderr, /none is no directory, so .* cannot be there; make it/);
});

// --- stpd ----------------------------------------------------------------------------------------

test.serial('stpd goes: streams go on; it comes back: so does the forward', async (t) => {
  const own = await startArray(t);
  const { runDirectory } = own;
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, undefined, 'tcp');
  const inner = await startForward(t, { runDirectory, args: ['stp:test:0', server.address] });
  const outer = await startForward(t, { runDirectory, args: ['tcp:0', inner.from] });
  const client = await dial(t, host, outer.from);
  const accepted = await until('it stands', () => server.sockets[0]);

  own.stpd.kill('SIGKILL');
  for (const { said } of [inner, outer]) {
    await until('it says that stpd is gone', () =>
      /stpd on .* is gone; established streams go on.*; waiting for it/.test(said()),
    );
  }
  const arriving = drain(accepted);
  const half = await pour(client, 1_000_000, 6);
  t.is(await fateOf(t, host, outer.from), 'ECONNRESET', 'a new one');
  t.regex(outer.said(), /was reset: stp:test:\d+: stpd on .* is gone/);

  const back = ['--run-dir', runDirectory];
  const size = ['--boards', '8', '--board-size', '4MiB'];
  t.is((await runProgram('stpd', ['start', ...back, ...size])).code, 0);
  t.teardown(() => runProgram('stpd', ['stop', ...back]));
  await until('it waits for its STG', () =>
    /not attached yet: there is no STG 'test'/.test(inner.said()),
  );
  const stg = ['stg', 'create', 'test', '--boards', '8', '--ports', '8', ...back];
  t.is((await runProgram('stpctl', stg)).code, 0);
  await until('it listens again', () => /listening on stp:test:\d+ again/.test(inner.said()));
  await until('the other has attached', () => /attached to STG 'test' again/.test(outer.said()));
  const next = await dial(t, undefined, outer.from);
  const second = await until('a new one stands', () => server.sockets[1]);
  second.end('hello');
  t.is((await drain(next)).bytes, 5);
  next.end();

  client.end();
  t.deepEqual(await arriving, half, 'the old one has lost nothing');
  accepted.end();
  t.is((await drain(client)).bytes, 0);
  for (const { child, ended } of [outer, inner]) {
    child.kill('SIGTERM');
    t.is((await ended).code, 0);
  }
});

test.serial('as another user than root', async (t) => {
  if (process.getuid?.() !== 0) {
    t.log('skipped: the tests run as an ordinary user already');
    return t.pass();
  }
  const { root } = packageForOthers(t, array().runDirectory);
  const stpctl = join(root, 'dist/src/ctl/stpctl.js');
  const path = join(root, 'f.sock');
  const server = await serve(t, undefined, 'tcp', (socket) => void socket.pipe(socket as never));
  const child = spawn(process.execPath, [stpctl, 'forward', `unix:${path}`, server.address], {
    uid: OTHER_UID,
    gid: OTHER_UID,
    cwd: '/',
    env: { ...process.env, STPD_RUN_DIR: array().runDirectory },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  await until('it listens', () => /forwarding/.test(said) || (child.exitCode !== null && said));
  t.is(statSync(path).uid, OTHER_UID, said);
  const client = await dial(t, undefined, `unix:${path}`);
  client.end('hello');
  t.is((await drain(client)).bytes, 5);

  const low = spawn(process.execPath, [stpctl, 'forward', 'stp:test:0', 'tcp:1'], {
    uid: OTHER_UID,
    gid: OTHER_UID,
    cwd: '/',
    env: { ...process.env, STPD_RUN_DIR: array().runDirectory },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let refused = '';
  low.stderr.on('data', (text) => {
    refused += text;
  });
  const [code] = await once(low, 'close');
  t.is(code, 1);
  t.regex(refused, /uid 65534 is not in the access list of STG 'test'/);
});
