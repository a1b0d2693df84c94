import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import * as seed from '../../../src/connect/stp-calls.js';
import { AF_INET, AF_STP, POLLIN, STPConnect } from '../../../src/connect/stp-connect.js';
import { attach } from '../../../src/socket/host.js';
import { failsWith, throwsCode } from '../../conformance/rig.js';
import { startArray } from '../../support/array.js';

/** One layer over both mechanisms on each side. */
async function layers(t: ExecutionContext) {
  const { runDirectory } = await startArray(t);
  const make = async (name: string): Promise<STPConnect> => {
    const host = await attach({ runDirectory, stg: 'test', name });
    const layer = new STPConnect({ host });
    t.teardown(async () => {
      await layer.closeAll();
      await host.close();
    });
    return layer;
  };
  return { client: await make('client'), server: await make('server') };
}

async function pair(client: STPConnect, server: STPConnect, family: number) {
  const listener = server.socket(family);
  await server.listen(listener);
  const a = client.socket(family);
  const { port } = server.getsockname(listener);
  const [b] = await Promise.all([server.accept(listener), client.connect(a, { port })]);
  return { a, b };
}

test('one program, both mechanisms: the same code moves bytes over either descriptor', async (t) => {
  const { client, server } = await layers(t);
  for (const family of [AF_INET, AF_STP]) {
    const { a, b } = await pair(client, server, family);
    await client.send(a, Buffer.from('either'));
    t.is((await server.receiveExactly(b, 6)).toString(), 'either');
    t.is(server.getsockopt(b, 'family'), family);
  }
  t.deepEqual(client.traffic(), {
    inet: { sent: 6, received: 0 },
    stp: { sent: 6, received: 0 },
  });
});

test('poll takes a mixed set', async (t) => {
  const { client, server } = await layers(t);
  const inet = await pair(client, server, AF_INET);
  const stp = await pair(client, server, AF_STP);
  const entries = [inet.b, stp.b].map((fd) => ({ fd, events: POLLIN }));
  const first = server.poll(entries, -1);
  await client.send(stp.a, Buffer.from('x'));
  t.deepEqual(await first, [{ fd: stp.b, revents: POLLIN }]);
  await server.receive(stp.b, 1);
  const second = server.poll(entries, -1);
  await client.send(inet.a, Buffer.from('x'));
  t.deepEqual(await second, [{ fd: inet.b, revents: POLLIN }]);
});

test('an end that came before anybody read: a stream given out later still tells', async (t) => {
  const { client, server } = await layers(t);
  for (const family of [AF_INET, AF_STP]) {
    const { a, b } = await pair(client, server, family);
    await server.shutdown(b, 'write');
    await sleep(50); /* a mechanism that reads by itself has it by now */
    const stream = client.stream(a);
    t.true(stream.isPaused());
    t.false(stream.readableEnded);
    const ended = once(stream, 'end');
    stream.resume();
    await ended;
  }
});

test('an accepted STP socket knows its peer as stpd attests it', async (t) => {
  const { client, server } = await layers(t);
  const { b } = await pair(client, server, AF_STP);
  const peer = server.getsockopt(b, 'peer') as { by: string; uid: number; pid: number };
  t.is(peer.by, 'stpd');
  t.is(peer.uid, (process.getuid as () => number)());
  t.is(peer.pid, process.pid);
});

test('an STP socket has no host name and no key', async (t) => {
  const { client } = await layers(t);
  const fd = client.STPsocket();
  await failsWith(t, client.bind(fd, { host: 'localhost', port: 0 }), 'EINVAL');
  throwsCode(t, () => client.setsockopt(fd, 'psk', { lookup: () => null }), 'ENOPROTOOPT');
});

test("the seed's calls, by the seed's names", async (t) => {
  const { client, server } = await layers(t);
  const listener = seed.STPsocket(server);
  await seed.STPbind(server, listener, 0);
  await seed.STPlisten(server, listener, 5);
  const { port } = seed.STPgetsockname(server, listener);
  const a = seed.STPsocket(client);
  await seed.STPbind(client, a, 0);
  const [b] = await Promise.all([
    seed.STPaccept(server, listener),
    seed.STPconnect(client, a, port),
  ]);
  t.deepEqual(seed.STPgetpeername(server, b), seed.STPgetsockname(client, a));
  await seed.STPsend(client, a, Buffer.from('through the array'));
  t.is((await seed.STPrecv(server, b, 100)).toString(), 'through the array');
  seed.STPsetsockopt(client, a, 'timeoutMs', 1000);
  t.is(seed.STPgetsockopt(client, a, 'timeoutMs'), 1000);
  await seed.STPshutdown(client, a, 'write');
  t.is((await seed.STPpoll(server, [{ fd: b, events: POLLIN }], -1)).length, 1);
  await seed.STPclose(client, a);
  throwsCode(t, () => seed.STPgetsockname(client, a), 'EBADF');
});

test('a detached stream goes on in a worker, with the bytes that were read ahead', async (t) => {
  const { client, server } = await layers(t);
  const { a, b } = await pair(client, server, AF_STP);
  await client.send(a, Buffer.from('token'));
  t.is((await server.receiveExactly(b, 2)).toString(), 'to');
  const handle = server.detach(b);
  await failsWith(t, server.receive(b, 1), 'EBADF');
  const module = new URL('../../../src/socket/blocking-stream.js', import.meta.url).href;
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     import(${JSON.stringify(module)}).then(({ BlockingStream }) => {
       const stream = new BlockingStream(workerData);
       const into = new Uint8Array(100);
       for (let n = stream.receive(into); n > 0; n = stream.receive(into)) {
         stream.send(into.slice(0, n));
       }
       stream.close();
     });`,
    { eval: true, workerData: handle, transferList: [handle.port] },
  );
  const exited = new Promise((resolve, reject) =>
    worker.once('exit', resolve).once('error', reject),
  );
  await client.send(a, Buffer.from('.more'));
  await client.shutdown(a, 'write');
  t.is((await client.receiveExactly(a, 8)).toString(), 'ken.more');
  t.is((await client.receive(a, 1)).length, 0);
  await exited;
});
