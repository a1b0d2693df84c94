/**
 * What the director does about hosts that spoil their rings, and about connects that wait in the
 * backlog of a listener that goes.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { SEGMENT_MAP } from '../../src/layout/geometry.js';
import { MEMBER_RING } from '../../src/layout/tables.js';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';

const block = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
};

/** 'connect' or the code of the error. */
const outcome = (socket: StpSocket): Promise<string> =>
  new Promise((resolve) => {
    socket.once('connect', () => resolve('connect'));
    socket.once('error', (error: Error & { code?: string }) =>
      resolve(error.code ?? error.message),
    );
    socket.on('error', () => {});
  });

const listen = async (host: Host, port: number): Promise<void> => {
  const server = host.createServer();
  server.on('connection', (socket) => socket.on('error', () => {}));
  server.listen({ port });
  await once(server, 'listening');
};

test('a host that spoils its events and dies does not take stpd with it', async (t) => {
  const array = await startArray(t);
  const hostile = fork(fileURLToPath(new URL('../support/hostile-host.js', import.meta.url)), [
    array.runDirectory,
  ]);
  await once(hostile, 'exit');
  await until('the host is gone', async () => {
    const [stg] = await array.list<StgReport>('stg', 'list');
    return stg?.members.length === 0 && stg.connectionsUsed === 0;
  });
  t.is(array.stpd.exitCode, null);
});

test('a host that connects to one with spoiled events is not the one that is sent away', async (t) => {
  const array = await startArray(t);
  const spoiled = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const innocent = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => Promise.all([spoiled.close(), innocent.close()]));
  let sentAway = false;
  innocent.on('detached', () => {
    sentAway = true;
  });
  await listen(spoiled, 5000);
  await listen(innocent, 5001);
  spoiled.segment.store(SEGMENT_MAP.memberRings + MEMBER_RING.at.eventHead, 0x40000000);
  const left = once(spoiled, 'detached');
  await outcome(innocent.connect({ port: 5000 }));
  await left;
  t.is(await outcome(innocent.connect({ port: 5001 })), 'connect');
  t.false(sentAway);
});

test('connects that wait for a listener whose host dies are refused, and leave nothing', async (t) => {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory);
  const client = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  await server.ask({ do: 'listen', port: 5000, backlog: 1 });
  server.child.kill('SIGSTOP');
  const sockets = [1, 2, 3].map(() => client.connect({ port: 5000 }));
  const outcomes = sockets.map(outcome);
  t.is(await outcomes[0], 'connect');
  block(100);
  await server.kill();
  t.deepEqual(await Promise.all(outcomes), ['connect', 'ECONNREFUSED', 'ECONNREFUSED']);
  for (const socket of sockets) socket.destroy();
  await client.close();
  await until('no connection is left', async () => {
    const [stg] = await array.list<StgReport>('stg', 'list');
    return stg?.connectionsUsed === 0 && stg.pagesFree === stg.pagesTotal;
  });
});

test('connects refused when a listener closes do not come to the next one of that port', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const client = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => Promise.all([host.close(), client.close()]));
  const first = host.createServer();
  first.listen({ port: 5000, backlog: 1 });
  await once(first, 'listening');
  const outcomes = [1, 2, 3].map(() => outcome(client.connect({ port: 5000 })));
  await new Promise<void>((resolve) =>
    process.nextTick(resolve),
  ); /* connect asks on the next tick */
  block(100); /* the director has one connected and two waiting; nobody has accepted */
  first.close();
  const second = host.createServer();
  let strangers = 0;
  second.on('connection', () => strangers++);
  second.listen({ port: 5000 });
  await once(second, 'listening');
  t.deepEqual((await Promise.all(outcomes)).slice(1), ['ECONNREFUSED', 'ECONNREFUSED']);
  t.is(await outcome(client.connect({ port: 5000 })), 'connect');
  await until('the own connection has come', () => strangers > 0);
  t.is(strangers, 1);
});
