/**
 * An STG grows while it is in use: streams go on, hosts map what is new as they come to it, and one
 * that does not, or that dies meanwhile, holds nobody up.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ControlClient } from '../../src/daemon/control-client.js';
import type { BoardReport, StgReport } from '../../src/daemon/reports.js';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { type ArrayForTest, finished, startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';

/** stpd may have to wait for a core. */
const ANSWER_TIMEOUT_MS = 30_000;

/** An array of twelve boards, of which the STG has four. */
async function smallStg(t: ExecutionContext, connections = 16): Promise<ArrayForTest> {
  const array = await startArray(t, { boards: 12, boardSize: '1MiB', stgs: [] });
  const sizes = ['--boards', '4', '--ports', '16', '--connections', String(connections)];
  await array.stpctl('stg', 'create', 'test', ...sizes);
  return array;
}

/** What stpctl asks, without a process for each question. */
const asked = (array: ArrayForTest): ControlClient =>
  new ControlClient(array.runDirectory, ANSWER_TIMEOUT_MS);

const stgOf = async (array: ArrayForTest): Promise<StgReport> =>
  (await asked(array).stg('test')).stg;

const boardsOf = async (array: ArrayForTest): Promise<readonly BoardReport[]> =>
  (await asked(array).boards()).boards;

async function joined(t: ExecutionContext, array: ArrayForTest): Promise<Host> {
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  return host;
}

const grow = async (array: ArrayForTest, boardCount: number, more = 0): Promise<StgReport> =>
  (await asked(array).growStg('test', { boardCount, connections: more })).stg;

/** On a busy machine hosts may take longer than the answer waits. */
const allMapped = (array: ArrayForTest): Promise<unknown> =>
  until('every host has mapped it', async () => (await stgOf(array)).membersBehind.length === 0);

async function pair(from: Host, to: Host, port: number): Promise<[StpSocket, StpSocket]> {
  const server = to.createServer();
  server.listen(port);
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const socket = from.connect({ port });
  const [[other]] = await Promise.all([accepted, once(socket, 'connect')]);
  return [socket, other as StpSocket];
}

test('streams that move data while the STG grows lose no byte and use the new boards', async (t) => {
  const array = await smallStg(t);
  const [from, to] = [await joined(t, array), await joined(t, array)];
  const [socket, other] = await pair(from, to, 5000);
  const sent = createHash('sha256');
  const got = createHash('sha256');
  const block = randomBytes(1 << 20);
  let stop = false;
  const ended = once(other, 'end');
  other.on('data', (chunk: Buffer) => got.update(chunk));
  const sending = (async () => {
    for (let i = 0; !stop; i++) {
      block.writeUInt32LE(i);
      const copy = Buffer.from(block);
      sent.update(copy);
      if (!socket.write(copy)) await once(socket, 'drain');
    }
    socket.end();
  })();
  for (const boards of [1, 3, 2]) {
    await grow(array, boards);
    await allMapped(array);
  }
  await until('all ten boards move bytes', async () => {
    const boards = await boardsOf(array);
    return boards.slice(0, 10).every((board) => board.bytesMoved > 0);
  });
  stop = true;
  await Promise.all([sending, ended]);
  t.is(got.digest('hex'), sent.digest('hex'));
  const stg = await stgOf(array);
  t.deepEqual(stg.boards, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  t.is(stg.pagesTotal, 160);
  await until('no page is held', async () => (await stgOf(array)).pagesFree === 160);
});

test('a host that does not answer holds nobody up, and its streams go on', async (t) => {
  const array = await smallStg(t);
  const [from, to] = [await joined(t, array), await joined(t, array)];
  const stopped = await startHost(t, array.runDirectory);
  const { port = 0 } = await stopped.ask({ do: 'listen', port: 0 });
  const toStopped = from.connect({ port });
  toStopped.on('error', () => {}); /* when the test has ended */
  await once(toStopped, 'connect');
  const [socket, other] = await pair(from, to, 5000);
  const { hosts } = await asked(array).hosts();
  const row = hosts.find((host) => host.pid === stopped.child.pid);
  stopped.child.kill('SIGSTOP');
  t.teardown(() => stopped.child.kill('SIGCONT'));
  await array.stpctl('stg', 'grow', 'test', '--boards', '8');
  await until('the others have mapped it', async () =>
    (await stgOf(array)).membersBehind.every((id) => id === row?.id),
  );
  t.regex(await array.stpctl('stg', 'show', 'test'), /hosts that have not mapped all +\d+\n/);

  /* Between the others the new boards are used at once. */
  let arrived = 0;
  other.on('data', (chunk: Buffer) => {
    arrived += chunk.length;
  });
  socket.write(Buffer.alloc(4 << 20));
  await until('bytes over the new boards', () => arrived === 4 << 20);
  t.true((await boardsOf(array)).slice(4).every((board) => board.bytesMoved > 0));

  /* What it gets lies in pages that it has, whenever it looks. */
  const payload = 3 << 20;
  toStopped.write(Buffer.alloc(payload));
  await until('a window of it is in memory', () => toStopped.bytesWritten >= payload);
  stopped.child.kill('SIGCONT');
  await until('all has arrived', async () => {
    const { received, code } = await stopped.ask({ do: 'state', socket: 0 });
    t.is(code, undefined);
    return received === payload;
  });
  await allMapped(array);
});

test('a host that dies while the STG grows leaves nothing, and it grows on', async (t) => {
  const array = await smallStg(t);
  const host = await joined(t, array);
  const dying = await startHost(t, array.runDirectory);
  const { port = 0 } = await dying.ask({ do: 'listen', port: 0 });
  const socket = host.connect({ port });
  await once(socket, 'connect');
  const reset = once(socket, 'error').then(([error]) => error.code);
  socket.write(Buffer.alloc(8 << 20));
  dying.child.kill('SIGSTOP');
  const growing = grow(array, 4);
  setTimeout(() => dying.child.kill('SIGKILL'), 100);
  await growing;
  t.is(await reset, 'ECONNRESET');
  await allMapped(array);
  const stg = await grow(array, 4, 8);
  t.is(stg.boards.length, 12);
  await until('all is free again', async () => {
    const { pagesFree, pagesTotal, connectionsUsed, portsUsed } = await stgOf(array);
    return pagesFree === pagesTotal && connectionsUsed === 0 && portsUsed === 0;
  });
});

test('hosts that attach while it grows find all of it, whichever comes first', async (t) => {
  const array = await smallStg(t);
  const attaching = Array.from({ length: 12 }, async (_, i) => {
    await new Promise((resolve) => setTimeout(resolve, i * 60));
    return joined(t, array);
  });
  for (let i = 0; i < 4; i++) await grow(array, 1, 4);
  const hosts = await Promise.all(attaching);
  await allMapped(array);
  t.deepEqual(
    hosts.map((host) => host.connectionsMax),
    hosts.map(() => 32),
  );
});

test('connections that did not fit before it grew are made', async (t) => {
  const array = await smallStg(t, 4);
  const [from, to] = [await joined(t, array), await joined(t, array)];
  const server = to.createServer((socket) => socket.pipe(socket));
  server.listen(5000);
  await once(server, 'listening');
  const open = async (): Promise<StpSocket> => {
    const socket = from.connect({ port: 5000 });
    await once(socket, 'connect');
    return socket;
  };
  const sockets = await Promise.all([open(), open(), open(), open()]);
  await t.throwsAsync(open(), { code: 'ENOBUFS' });
  await grow(array, 0, 6);
  await allMapped(array);
  sockets.push(...(await Promise.all([open(), open(), open(), open(), open(), open()])));
  await t.throwsAsync(open(), { code: 'ENOBUFS' });
  for (const [i, socket] of sockets.entries()) {
    socket.write(`socket ${i}`);
    const [echo] = await once(socket, 'data');
    t.is(String(echo), `socket ${i}`);
  }
});

test('more than the array has is refused with the numbers, and changes nothing', async (t) => {
  const array = await smallStg(t);
  const refused = async (boards: number, connections: number): Promise<string> =>
    (await t.throwsAsync(grow(array, boards, connections), { code: 'ENOSPC' }))?.message ?? '';
  t.regex(
    await refused(9, 0),
    /has 4 boards and was to get 9 more, 8 of 12 are free; delete an STG, or start stpd with more/,
  );
  t.regex(
    await refused(0, 65536),
    /has 16 connections and was to get 65536 more; an STG has at most 65536/,
  );
  t.is((await stgOf(array)).boards.length, 4);
  for (let i = 0; i < 8; i++) await grow(array, 1);
  for (let i = 0; i < 7; i++) await grow(array, 0, 1);
  t.regex(await refused(0, 1), /has grown 15 times, which is the most/);
});

test('a user who does not run the array cannot make an STG grow', async (t) => {
  if (process.getuid?.() !== 0) {
    t.log('skipped: needs root, to become another user');
    return t.pass();
  }
  const array = await smallStg(t);
  await chmod(dirname(array.runDirectory), 0o755);
  const program = `
    const socketPath = ${JSON.stringify(join(array.runDirectory, 'control.sock'))};
    const headers = { 'content-type': 'application/json' };
    const call = require('http').request(
      { socketPath, method: 'POST', path: '/v1/stgs/test/grow', headers },
      (answer) => console.log(answer.statusCode));
    call.on('error', (error) => console.log(error.code));
    call.end('{"boardCount":1}');`;
  const { stdout } = await finished(
    spawn(process.execPath, ['-e', program], {
      uid: 65534,
      gid: 65534,
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  t.is(stdout.trim(), 'EACCES');
  t.is((await stgOf(array)).boards.length, 4);
});

test('what the director remembers of a connection in a new file is of that connection', async (t) => {
  const array = await smallStg(t, 1);
  const [from, to] = [await joined(t, array), await joined(t, array)];
  await grow(array, 1, 8);
  await allMapped(array);
  await pair(from, to, 5000); /* has the only slot of the first file */
  const [socket, other] = await pair(from, to, 5001);
  const { sockets } = await asked(array).sockets();
  const { id = '' } = sockets.find(({ remotePort }) => remotePort === 5001) ?? {};
  socket.end(Buffer.alloc(12_345));
  other.resume();
  await once(other, 'close');
  const trace = await until('both ends are closed', async () => {
    const lines = await array.stpctl('trace', id, '--no-follow');
    return /freed/.test(lines) && lines;
  });
  t.regex(trace, /sent 12345, received 0 bytes/);
  t.regex(trace, /sent 0, received 12345 bytes/);
});
