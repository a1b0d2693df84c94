/** Calls that block: in threads of their own, over both mechanisms, and how they end. */
import { on, once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { BlockingConnect } from '../../../src/connect/blocking-connect.js';
import * as seed from '../../../src/connect/stp-calls.js';
import {
  AF_INET,
  AF_STP,
  O_NONBLOCK,
  POLLIN,
  POLLOUT,
  STPConnect,
} from '../../../src/connect/stp-connect.js';
import type { StgReport } from '../../../src/daemon/reports.js';
import { attach } from '../../../src/socket/host.js';
import { failsWith, throwsCode } from '../../conformance/rig.js';
import { startArray, until } from '../../support/array.js';
import type { Blocked, Task } from '../../support/blocking-task.js';
import { startHost } from '../../support/host-program.js';

const program = fileURLToPath(new URL('../../support/blocking-task.js', import.meta.url));

/** A worker, and its words one by one. */
function work(t: ExecutionContext, task: Task, transfer: readonly unknown[] = []) {
  const worker = new Worker(program, {
    workerData: task,
    transferList: transfer as never,
  });
  t.teardown(() => worker.terminate());
  const exited = once(worker, 'exit');
  const words = on(worker, 'message', { close: ['exit'] });
  const hear = async (): Promise<unknown> => {
    const { value, done } = await words.next();
    return done ? 'ended' : (value as [unknown])[0];
  };
  return { worker, exited, hear };
}

async function blocking(
  t: ExecutionContext,
  options: Parameters<typeof BlockingConnect.open>[0] = {},
): Promise<BlockingConnect> {
  const layer = await BlockingConnect.open(options);
  t.teardown(() => layer[Symbol.asyncDispose]());
  return layer;
}

async function looping(t: ExecutionContext, runDirectory: string): Promise<STPConnect> {
  const layer = new STPConnect({ host: await attach({ runDirectory, stg: 'test' }) });
  t.teardown(() => layer.closeAll());
  return layer;
}

test('poll blocks over a mixed set: listeners and streams of both mechanisms', async (t) => {
  const { runDirectory } = await startArray(t);
  const client = await looping(t, runDirectory);
  const { hear, exited } = work(t, { what: 'mixed', runDirectory });
  const [inetPort, stpPort] = (await hear()) as [number, number];
  const dial = async (family: number, port: number): Promise<number> => {
    const fd = client.socket(family);
    await client.connect(fd, { port });
    return fd;
  };
  const stp = await dial(AF_STP, stpPort);
  t.is(await hear(), 'stp accepted');
  const inet = await dial(AF_INET, inetPort);
  t.is(await hear(), 'inet accepted');
  for (let i = 0; i < 3; i++) {
    await client.send(inet, Buffer.from(`one ${i}`));
    t.is(await hear(), `inet one ${i}`);
    await client.send(stp, Buffer.from(`two ${i}`));
    t.is(await hear(), `stp two ${i}`);
  }
  await client.close(stp);
  t.is(await hear(), 'stp ended');
  await client.close(inet);
  t.is(await hear(), 'inet ended');
  await exited;
});

test('connections of both mechanisms are handed over to a thread, with the bytes read ahead', async (t) => {
  const { runDirectory } = await startArray(t);
  const server = await looping(t, runDirectory);
  const client = await looping(t, runDirectory);
  const pairs: { a: number; b: number }[] = [];
  for (const family of [AF_INET, AF_STP]) {
    const listener = server.socket(family);
    await server.listen(listener);
    const a = client.socket(family);
    const { port } = server.getsockname(listener);
    const [b] = await Promise.all([server.accept(listener), client.connect(a, { port })]);
    await client.send(a, Buffer.from('token.'));
    t.is((await server.receiveExactly(b, 2)).toString(), 'to');
    pairs.push({ a, b });
  }
  const given = pairs.map(({ b }) => server.handOver(b));
  for (const { b } of pairs) await failsWith(t, server.receive(b, 1), 'EBADF');
  const { exited } = work(
    t,
    { what: 'echo-handed', given },
    given.flatMap((one) => one.transfer),
  );
  for (const { a } of pairs) {
    await client.send(a, Buffer.from('more'));
    t.is((await client.receiveExactly(a, 8)).toString(), 'ken.more');
    const data = Buffer.alloc(3 << 20, 7);
    const [back] = await Promise.all([client.receiveExactly(a, data.length), client.send(a, data)]);
    t.is(Buffer.compare(back, data), 0);
    await client.shutdown(a, 'write');
    t.is((await client.receive(a, 1)).length, 0);
  }
  await exited;
});

test('a connection is adopted once, and not while its bytes are on their way', async (t) => {
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const server = await blocking(t);
  const listener = server.socket(AF_INET);
  server.listen(listener);
  const a = layer.socket(AF_INET);
  await layer.connect(a, { port: server.getsockname(listener).port });
  const b = server.accept(listener);
  const stuck = layer.send(a, Buffer.alloc(64 << 20));
  await sleep(50);
  throwsCode(t, () => layer.handOver(a), 'EBUSY');
  server.abort(b);
  await failsWith(t, stuck, 'ECONNRESET', 'EPIPE');
  const fresh = layer.socket(AF_INET);
  await layer.connect(fresh, { port: server.getsockname(listener).port });
  const given = layer.handOver(fresh);
  const fd = server.adopt(given);
  throwsCode(t, () => server.adopt(given), 'EBADF');
  server.send(fd, Buffer.from('x'));
  t.is(server.receive(server.accept(listener), 1).toString(), 'x');
});

test('an ended thread gives its sockets back: the peer is told, ports and slots are free', async (t) => {
  const array = await startArray(t);
  const { runDirectory } = array;
  const client = await looping(t, runDirectory);
  const { worker, hear } = work(t, { what: 'mixed', runDirectory });
  const [inetPort, stpPort] = (await hear()) as [number, number];
  const ends: number[] = [];
  for (const [family, port] of [
    [AF_INET, inetPort],
    [AF_STP, stpPort],
  ] as const) {
    const fd = client.socket(family);
    await client.connect(fd, { port });
    await hear();
    ends.push(fd);
  }
  await worker.terminate();
  t.is((await client.receive(ends[0] as number, 1)).length, 0, 'the kernel says an end');
  await failsWith(t, client.receive(ends[1] as number, 1), 'ECONNRESET');
  for (const fd of ends) await client.close(fd);
  await until('its slots and its place are free', async () => {
    const [stg] = await array.list<StgReport>('stg', 'list');
    return stg?.members.length === 1 && stg.connectionsUsed === 0 && stg.portsUsed === 0;
  });
  const again = client.socket(AF_INET);
  await client.bind(again, { port: inetPort });
  t.pass();
});

const calls: readonly Blocked[] = ['accept', 'connect', 'receive', 'send', 'poll'];

test('another thread ends each call by its stop word: ECANCELED', async (t) => {
  const array = await startArray(t);
  const { runDirectory } = array;
  const server = await looping(t, runDirectory);
  for (const mechanism of ['inet', 'stp'] as const) {
    const listener = server.socket(mechanism === 'stp' ? AF_STP : AF_INET);
    await server.bind(listener, { port: 0 });
    await server.listen(listener, 1);
    const { port } = server.getsockname(listener);
    // TCP's connect to an address that nobody answers for waits long enough.
    for (const call of calls.filter((c) => c !== 'connect')) {
      const stop = new Int32Array(new SharedArrayBuffer(4));
      const { hear, exited } = work(t, {
        what: 'block',
        runDirectory,
        call,
        mechanism,
        port,
        stop,
      });
      t.is(await hear(), 'blocking');
      await sleep(30);
      Atomics.store(stop, 0, 1);
      t.is(await hear(), 'ECANCELED', `${call} over ${mechanism}`);
      await exited;
      if (call !== 'accept') await server.abort(await server.accept(listener));
    }
  }
  // A full backlog makes a connect wait: the kernel holds one more than it is told.
  const holder = await blocking(t, { array: { runDirectory, stg: 'test' } });
  for (const mechanism of ['inet', 'stp'] as const) {
    const family = mechanism === 'stp' ? AF_STP : AF_INET;
    const listener = holder.socket(family);
    holder.listen(listener, 1);
    const { port } = holder.getsockname(listener);
    for (let i = 0; i < (mechanism === 'stp' ? 1 : 2); i++) {
      holder.connect(holder.socket(family), { port });
    }
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const task = { what: 'block', call: 'connect', runDirectory, mechanism, port, stop } as const;
    const { hear, exited } = work(t, task);
    t.is(await hear(), 'blocking');
    await sleep(50);
    Atomics.store(stop, 0, 1);
    t.is(await hear(), 'ECANCELED', `connect over ${mechanism}`);
    await exited;
    const limited = holder.socket(family);
    throwsCode(t, () => holder.connect(limited, { port }, { timeoutMs: 50 }), 'ETIMEDOUT');
  }
});

test('terminate() ends a thread in each call', async (t) => {
  const { runDirectory } = await startArray(t);
  const server = await looping(t, runDirectory);
  for (const mechanism of ['inet', 'stp'] as const) {
    const listener = server.socket(mechanism === 'stp' ? AF_STP : AF_INET);
    await server.listen(listener);
    const { port } = server.getsockname(listener);
    for (const call of calls.filter((c) => c !== 'connect')) {
      const { worker, hear } = work(t, { what: 'block', runDirectory, call, mechanism, port });
      t.is(await hear(), 'blocking');
      await sleep(30);
      await worker.terminate();
    }
  }
  t.pass();
});

test('the main thread need not run: two threads talk while it stands still', async (t) => {
  const { runDirectory } = await startArray(t);
  const layer = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const { worker, hear } = work(t, { what: 'mixed', runDirectory });
  const [inetPort, stpPort] = (await hear()) as [number, number];
  // From here on this thread never sees its event loop until the exchange is done.
  const inet = layer.socket(AF_INET);
  layer.connect(inet, { port: inetPort });
  const stp = layer.socket(AF_STP);
  layer.connect(stp, { port: stpPort });
  layer.send(inet, Buffer.from('by TCP'));
  layer.send(stp, Buffer.from('by the array'));
  layer.close(inet);
  layer.close(stp);
  await once(worker, 'exit');
  t.pass();
});

test('a killed peer is ECONNRESET for a call that blocks; what had arrived is read first', async (t) => {
  const { runDirectory } = await startArray(t);
  const layer = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const listener = layer.socket(AF_STP);
  layer.listen(listener);
  const peer = await startHost(t, runDirectory);
  const { port } = layer.getsockname(listener);
  const connected = peer.ask({ do: 'connect', port });
  const b = layer.accept(listener);
  const { socket } = await connected;
  await peer.ask({ do: 'send', socket: socket as number, bytes: 1000 });
  peer.child.kill('SIGKILL');
  t.is(layer.receiveExactly(b, 1000).length, 1000);
  throwsCode(t, () => layer.receive(b, 1), 'ECONNRESET');
  t.is(layer.poll([{ fd: b, events: POLLOUT }], 1000).length, 1);
});

test('stpd dies: accept says ENETDOWN, established streams go on, poll tells the listener', async (t) => {
  const array = await startArray(t);
  const { runDirectory } = array;
  const server = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const client = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const listener = server.socket(AF_STP);
  server.listen(listener);
  const a = client.socket(AF_STP);
  client.connect(a, { port: server.getsockname(listener).port });
  const b = server.accept(listener);
  array.stpd.kill('SIGKILL');
  throwsCode(t, () => server.accept(listener, { timeoutMs: 10_000 }), 'ENETDOWN');
  t.deepEqual(server.poll([{ fd: listener, events: POLLIN }], 1000), [
    { fd: listener, revents: POLLIN },
  ]);
  client.send(a, Buffer.from('on'));
  t.is(server.receive(b, 9).toString(), 'on');
  throwsCode(t, () => client.connect(client.socket(AF_STP), { port: 1 }), 'ENETDOWN');
});

test('host names are looked up by a thread of their own', async (t) => {
  const layer = await blocking(t);
  const listener = layer.socket(AF_INET);
  layer.bind(listener, { host: 'localhost', port: 0 });
  layer.listen(listener);
  const { port } = layer.getsockname(listener);
  const a = layer.socket(AF_INET);
  layer.connect(a, { host: 'localhost', port });
  t.is(layer.getpeername(a).port, port);
  const none = layer.socket(AF_INET);
  throwsCode(t, () => layer.connect(none, { host: 'no-such-host.invalid', port }), 'ENOTFOUND');
  t.is(layer.getsockopt(none, 'state'), 'unbound');
  layer.connect(none, { port });
});

test('what node:net has read and written comes through: one end blocks, the other is any program', async (t) => {
  const layer = await blocking(t);
  const listener = layer.socket(AF_INET);
  layer.listen(listener);
  const { port } = layer.getsockname(listener);
  const peer = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(peer, 'connect');
  const b = layer.accept(listener);
  layer.send(b, Buffer.from('hello'));
  t.is(String(await once(peer, 'data')), 'hello');
  peer.end('bye');
  await once(peer, 'finish');
  t.is(layer.receiveExactly(b, 3).toString(), 'bye');
  t.is(layer.receive(b, 1).length, 0);
  layer.close(b);
  await once(peer, 'close');
});

test('sockets of the same host on the event loop are served while a call blocks', async (t) => {
  const { runDirectory } = await startArray(t);
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const layer = new BlockingConnect({ host });
  const listener = layer.socket(AF_STP);
  layer.listen(listener);
  let received = 0;
  const server = host.createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      // In its callback a call may block, too.
      layer.poll([{ fd: listener, events: POLLIN }], 1);
    });
  });
  server.listen(0);
  await once(server, 'listening');
  const peer = await startHost(t, runDirectory);
  const { socket } = await peer.ask({ do: 'connect', port: server.address()?.port ?? 0 });
  await sleep(50);
  const sent = peer.ask({ do: 'send', socket: socket as number, bytes: 300_000 });
  for (let i = 0; i < 200 && received < 300_000; i++) {
    layer.poll([{ fd: listener, events: POLLIN }], 50);
  }
  t.is(received, 300_000);
  await sent;
  server.close();
});

// Alone: it counts the descriptors of the process.
test.serial('nothing is left behind: descriptors, pages, ports and slots', async (t) => {
  const array = await startArray(t);
  const { runDirectory } = array;
  const layer = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const round = (): void => {
    for (const family of [AF_INET, AF_STP]) {
      const listener = layer.socket(family);
      layer.listen(listener);
      const { port } = layer.getsockname(listener);
      for (let i = 0; i < 10; i++) {
        const a = layer.socket(family);
        if (i % 2 === 0) layer.bind(a, { port: 0 });
        layer.connect(a, { port });
        const b = layer.accept(listener);
        layer.send(a, Buffer.alloc(1000));
        layer.receive(b, 1000);
        if (i % 3 === 0) layer.abort(a);
        else layer.close(a);
        layer.close(b);
      }
      throwsCode(t, () => layer.connect(layer.socket(family), { port: 1 }), 'ECONNREFUSED');
      layer.close(listener);
    }
    layer.closeAll();
  };
  round();
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 5; i++) round();
  t.is(readdirSync('/proc/self/fd').length, before);
  await until('the STG is empty', async () => {
    const [stg] = await array.list<StgReport>('stg', 'list');
    return stg?.connectionsUsed === 0 && stg.portsUsed === 0 && stg.pagesFree === stg.pagesTotal;
  });
});

test("the seed's calls block with a layer that blocks", async (t) => {
  const { runDirectory } = await startArray(t);
  const layer = await blocking(t, { array: { runDirectory, stg: 'test' } });
  const listener = seed.STPsocket(layer);
  seed.STPbind(layer, listener, 0);
  seed.STPlisten(layer, listener, 5);
  const { port } = seed.STPgetsockname(layer, listener);
  const a = seed.STPsocket(layer);
  seed.STPconnect(layer, a, port);
  const b: number = seed.STPaccept(layer, listener);
  t.deepEqual(seed.STPgetpeername(layer, b), seed.STPgetsockname(layer, a));
  t.is(seed.STPsend(layer, a, Buffer.from('through the array')), 17);
  t.is(seed.STPpoll(layer, [{ fd: b, events: POLLIN }], -1).length, 1);
  t.is(seed.STPrecv(layer, b, 100).toString(), 'through the array');
  seed.STPsetsockopt(layer, b, O_NONBLOCK, true);
  throwsCode(t, () => seed.STPrecv(layer, b, 1), 'EAGAIN');
  seed.STPshutdown(layer, a, 'write');
  t.is(seed.STPrecv(layer, b, 1).length, 0);
  seed.STPclose(layer, a);
  throwsCode(t, () => seed.STPgetsockopt(layer, a, 'state'), 'EBADF');
});

test('AF_STP without a host: EAFNOSUPPORT; psk: ENOPROTOOPT; wrong time limits: EINVAL', async (t) => {
  const layer = await blocking(t);
  throwsCode(t, () => layer.socket(AF_STP), 'EAFNOSUPPORT');
  const fd = layer.socket(AF_INET);
  throwsCode(t, () => layer.setsockopt(fd, 'psk', {}), 'ENOPROTOOPT');
  throwsCode(t, () => layer.connect(fd, { port: 1 }, { timeoutMs: -1 }), 'EINVAL');
  throwsCode(t, () => layer.connect(fd, { port: 1, host: 'a\0b' }), 'EINVAL');
});
