/** Array first, else network: what is decided, why, who is told, and in both forms of the calls. */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { BlockingConnect } from '../../../src/connect/blocking-connect.js';
import {
  AF_INET,
  familyOf,
  POLLIN,
  reasonText,
  SO_MECHANISM,
  SO_REASON,
  STPConnect,
} from '../../../src/connect/stp-connect.js';
import type { SocketReport } from '../../../src/daemon/reports.js';
import { NUMBERS } from '../../../src/layout/tables.js';
import { attach, type Host } from '../../../src/socket/host.js';
import { failsWith } from '../../conformance/rig.js';
import { type ArrayForTest, startArray, stopProcess, until } from '../../support/array.js';

const PORT = 7000;

async function host(t: ExecutionContext, array: ArrayForTest, name = 'host'): Promise<Host> {
  const made = await attach({ runDirectory: array.runDirectory, stg: 'test', name });
  t.teardown(() => made.close());
  return made;
}

function layer(t: ExecutionContext, options: ConstructorParameters<typeof STPConnect>[0] = {}) {
  const made = new STPConnect(options);
  t.teardown(() => made[Symbol.asyncDispose]());
  return made;
}

/** A service on the network that says which connection it is. */
async function tcpService(t: ExecutionContext): Promise<number> {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write('network');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

const reasonOf = (l: STPConnect | BlockingConnect, fd: number): string =>
  reasonText(l.getsockopt(fd, SO_REASON) as number);

test('the array is taken where it can be: the descriptor’s value and two options say so', async (t) => {
  const array = await startArray(t);
  const server = layer(t, { host: await host(t, array, 'server') });
  const client = layer(t, { host: await host(t, array, 'client') });
  const listener = await server.serve({ port: PORT, network: { host: '127.0.0.1', port: 0 } });
  t.is(familyOf(listener), 'either');
  t.is(server.getsockopt(listener, SO_REASON), NUMBERS.REASON_NONE);
  t.deepEqual(server.getsockopt(listener, 'storageName'), {
    family: 'stp',
    stg: 'test',
    port: PORT,
  });
  const network = { port: server.getsockname(listener).port };
  const [a, b] = await Promise.all([client.dial({ port: PORT, network }), server.accept(listener)]);
  for (const [l, fd] of [
    [client, a],
    [server, b],
  ] as const) {
    t.is(familyOf(fd), 'stp');
    t.is(l.getsockopt(fd, SO_MECHANISM), 'stp');
    t.is(reasonOf(l, fd), 'through the array');
  }
  await client.send(a, Buffer.from('x'));
  t.is((await server.receive(b, 1)).length, 1);
  t.deepEqual(client.traffic().inet, { sent: 0, received: 0 }, 'never both');
});

test('one listener on both: accept and poll give whichever comes, the value tells which', async (t) => {
  const array = await startArray(t);
  const server = layer(t, { host: await host(t, array) });
  const client = layer(t, { host: await host(t, array) });
  const listener = await server.serve({ port: 0, network: { port: 0 }, backlog: 4 });
  const storage = server.getsockopt(listener, 'storageName') as { port: number };
  const to = { port: storage.port, network: { port: server.getsockname(listener).port } };
  for (const use of ['array', 'network', 'array-first', 'network'] as const) {
    const readable = server.poll([{ fd: listener, events: POLLIN }], -1);
    const a = await client.dial(to, { use });
    t.deepEqual(await readable, [{ fd: listener, revents: POLLIN }]);
    const b = await server.accept(listener);
    t.is(familyOf(b), use === 'network' ? 'inet' : 'stp');
    t.is(familyOf(a), familyOf(b));
    t.is(reasonOf(client, a), use === 'network' ? 'asked for network' : 'through the array');
    t.is(
      reasonOf(server, b),
      use === 'network' ? 'peer came over the network' : 'through the array',
    );
    await client.send(a, Buffer.from(use));
    t.is((await server.receive(b, 20)).toString(), use);
  }
  await server.close(listener);
  await failsWith(t, client.dial(to), 'ECONNREFUSED');
});

test('no stpd, no STG, no STG named: the network, and why', async (t) => {
  const port = await tcpService(t);
  const to = { port: PORT, network: { host: '127.0.0.1', port } };
  const array = await startArray(t);
  const { runDirectory } = array;
  const cases = [
    ['no stpd', { array: { runDirectory: `${runDirectory}-none`, stg: 'test' } }],
    ['no such STG', { array: { runDirectory, stg: 'other' } }],
    ['no array in this process', {}],
  ] as const;
  for (const [reason, options] of cases) {
    const client = layer(t, options);
    const fd = await client.dial(to);
    t.is(familyOf(fd), 'inet');
    t.is(reasonOf(client, fd), reason);
    t.is((await client.receive(fd, 100)).toString(), 'network');
    const error = await failsWith(t, client.dial(to, { use: 'array' }), 'ENOENT', 'EAFNOSUPPORT');
    t.truthy(error.message);
  }
});

test('an STG that does not let the user in: the network, saying so', async (t) => {
  const stranger = ((process.getuid as () => number)() + 54321) % 60000;
  const { runDirectory } = await startArray(t, { allowUids: [stranger] });
  const port = await tcpService(t);
  const client = layer(t, { array: { runDirectory, stg: 'test' } });
  const fd = await client.dial({ port: PORT, network: { port } });
  t.is(reasonOf(client, fd), 'no access');
});

test('an attached peer that does not listen, and nobody attached at all, are told apart', async (t) => {
  const array = await startArray(t);
  const port = await tcpService(t);
  const to = { port: PORT, network: { port } };
  const client = layer(t, { host: await host(t, array) });
  t.is(reasonOf(client, await client.dial(to)), 'peer not attached');
  await host(t, array, 'peer');
  t.is(reasonOf(client, await client.dial(to)), 'peer does not listen');
});

test('stpctl socket list shows the network connection of a host, its reason, and its end', async (t) => {
  const array = await startArray(t);
  const port = await tcpService(t);
  const own = await host(t, array);
  const client = layer(t, { host: own });
  const fd = await client.dial({ port: PORT, network: { host: '127.0.0.1', port } });
  const row = await until('it is listed', async () => {
    return (await array.list<SocketReport>('socket', 'list'))[0];
  });
  t.like(row, {
    mechanism: 'tcp',
    reason: 'peer not attached',
    localHost: own.hostId,
    localPort: client.getsockname(fd).port,
    remotePort: port,
    remoteAddress: '127.0.0.1',
  });
  await client.close(fd);
  await until('it is gone', async () => (await array.list('socket', 'list')).length === 0);
});

test('a plain network socket of a host is listed as asked for, an accepted one as come', async (t) => {
  const array = await startArray(t);
  const both = layer(t, { host: await host(t, array) });
  const listener = await both.serve({ port: 0, network: { port: 0 } });
  const a = both.socket(AF_INET);
  await Promise.all([
    both.connect(a, { port: both.getsockname(listener).port }),
    both.accept(listener),
  ]);
  const reasons = await until('both are listed', async () => {
    const rows = await array.list<SocketReport>('socket', 'list');
    const tcp = rows.filter((row) => row.mechanism === 'tcp');
    return tcp.length === 2 && tcp.map((row) => row.reason).sort();
  });
  t.deepEqual(reasons, ['asked for network', 'peer came over the network']);
});

test('a full STG: the network, saying so', async (t) => {
  const array = await startArray(t, { connections: 2 });
  const server = layer(t, { host: await host(t, array) });
  const client = layer(t, { host: await host(t, array) });
  const listener = await server.serve({ port: PORT, network: { port: 0 } });
  const to = { port: PORT, network: { port: server.getsockname(listener).port } };
  const reasons: string[] = [];
  for (let i = 0; i < 3; i++) {
    const [fd] = await Promise.all([client.dial(to), server.accept(listener)]);
    reasons.push(reasonOf(client, fd));
  }
  t.deepEqual(reasons, ['through the array', 'through the array', 'STG full']);
});

test('what the array does not answer in time goes over the network, and nothing comes of it later', async (t) => {
  const array = await startArray(t);
  const server = layer(t, { host: await host(t, array) });
  const client = layer(t, { host: await host(t, array) });
  const port = await tcpService(t);
  const listener = server.STPsocket();
  await server.bind(listener, { port: PORT });
  await server.listen(listener, 1);
  await stopProcess(array.stpd);
  try {
    const fd = await client.dial({ port: PORT, network: { port } }, { arrayTimeoutMs: 100 });
    t.is(familyOf(fd), 'inet');
    t.is(reasonOf(client, fd), 'no answer in time');
  } finally {
    array.stpd.kill('SIGCONT');
  }
  // The late connection has ended already: no byte comes, for whoever accepts it.
  const b = await server.accept(listener);
  const late = server.receive(b, 1).then(
    (bytes) => bytes.length,
    (error: Error & { code: string }) => error.code,
  );
  t.true([0, 'ECONNRESET'].includes(await late));
});

test('an stpd that stands still when it is first needed is given up in time', async (t) => {
  const array = await startArray(t);
  const port = await tcpService(t);
  const client = layer(t, { array: { runDirectory: array.runDirectory, stg: 'test' } });
  await stopProcess(array.stpd);
  try {
    const fd = await client.dial({ port: PORT, network: { port } }, { arrayTimeoutMs: 50 });
    t.is(reasonOf(client, fd), 'no answer in time');
  } finally {
    array.stpd.kill('SIGCONT');
  }
});

test('an array that comes later is used by the next connection; one that stands does not change', async (t) => {
  const array = await startArray(t, { stgs: [] });
  const { runDirectory } = array;
  const port = await tcpService(t);
  const to = { port: PORT, network: { port } };
  const client = layer(t, { array: { runDirectory, stg: 'late' } });
  const before = await client.dial(to);
  t.is(reasonOf(client, before), 'no such STG');
  await array.stpctl('stg', 'create', 'late', '--boards', '4', '--ports', '8');
  const server = layer(t, { array: { runDirectory, stg: 'late' } });
  await server.serve({ port: PORT, network: { port: 0 } });
  const after = await client.dial(to);
  t.is(familyOf(after), 'stp');
  t.is(familyOf(before), 'inet');
  t.is((await client.receive(before, 100)).toString(), 'network');
});

test('after the death of stpd: the network, and established streams go on', async (t) => {
  const array = await startArray(t);
  const server = layer(t, { host: await host(t, array) });
  const client = layer(t, { host: await host(t, array) });
  const listener = await server.serve({ port: PORT, network: { port: 0 } });
  const to = { port: PORT, network: { port: server.getsockname(listener).port } };
  const [a, b] = await Promise.all([client.dial(to), server.accept(listener)]);
  array.stpd.kill('SIGKILL');
  await once(array.stpd, 'exit');
  const [c, d] = await Promise.all([client.dial(to), server.accept(listener)]);
  t.is(reasonOf(client, c), 'no stpd');
  t.is(familyOf(d), 'inet');
  await client.send(a, Buffer.from('still'));
  t.is((await server.receiveExactly(b, 5)).toString(), 'still');
});

test('both fail: the network’s code, and what the array lacks', async (t) => {
  const array = await startArray(t);
  const client = layer(t, { host: await host(t, array) });
  const to = { port: PORT, network: { host: '127.0.0.1', port: 1 } };
  const error = await failsWith(t, client.dial(to), 'ECONNREFUSED');
  t.regex(error.message, /127\.0\.0\.1:1\b.*not through the array: peer not attached/);
  const only = await failsWith(t, client.dial(to, { use: 'array' }), 'ECONNREFUSED');
  t.regex(only.message, /test:7000/);
});

test('wrong calls and the caller’s own limit are no reason to go over the network', async (t) => {
  const array = await startArray(t);
  const port = await tcpService(t);
  const client = layer(t, { host: await host(t, array) });
  const network = { port };
  await failsWith(t, client.dial({ port: 0, network }), 'EINVAL');
  await failsWith(t, client.dial({ port: PORT, network }, { arrayTimeoutMs: 0 }), 'EINVAL');
  const aborted = client.dial({ port: PORT, network }, { signal: AbortSignal.abort() });
  await failsWith(t, aborted, 'ABORT_ERR');
  t.deepEqual(client.traffic().inet, { sent: 0, received: 0 });
  await stopProcess(array.stpd);
  try {
    const late = client.dial({ port: PORT, network }, { timeoutMs: 50 });
    await failsWith(t, late, 'ETIMEDOUT');
    const signal = AbortSignal.timeout(50);
    await failsWith(t, client.dial({ port: PORT, network }, { signal }), 'ETIMEDOUT');
  } finally {
    array.stpd.kill('SIGCONT');
  }
});

test('a listener: ports that are taken are errors; without an array it is on the network', async (t) => {
  const array = await startArray(t, { ports: 1 });
  const one = layer(t, { host: await host(t, array) });
  const two = layer(t, { host: await host(t, array) });
  const network = { host: '127.0.0.1', port: 0 };
  const first = await one.serve({ port: PORT, network });
  await failsWith(t, two.serve({ port: PORT, network }), 'EADDRINUSE');
  const taken = { host: '127.0.0.1', port: one.getsockname(first).port };
  await one.close(first);
  // A dynamic port of the STG is free again, although the network's was not.
  const holder = await one.serve({ port: 0, network: taken });
  await failsWith(t, two.serve({ port: 0, network: taken }, { use: 'network' }), 'EADDRINUSE');
  // The STG has one port, and it is taken.
  const full = await two.serve({ port: 0, network });
  t.is(reasonOf(two, full), 'STG full');
  t.is(two.getsockopt(full, 'storageName'), null);
  await failsWith(t, two.serve({ port: 0, network }, { use: 'array' }), 'ENOBUFS');
  await one.close(holder);
  const alone = layer(t);
  const fd = await alone.serve({ port: PORT, network });
  t.is(reasonOf(alone, fd), 'no array in this process');
});

test('a connection that stpd is told of while it has died already is simply not listed', async (t) => {
  const array = await startArray(t);
  const port = await tcpService(t);
  const client = layer(t, { host: await host(t, array) });
  array.stpd.kill('SIGKILL');
  await once(array.stpd, 'exit');
  await sleep(20);
  const fd = await client.dial({ port: PORT, network: { port } });
  t.is((await client.receive(fd, 100)).toString(), 'network');
  await client.close(fd);
});

test('the calls that block decide alike', async (t) => {
  const array = await startArray(t);
  const { runDirectory } = array;
  const stg = { runDirectory, stg: 'test' };
  const open = async (options: Parameters<typeof BlockingConnect.open>[0]) => {
    const made = await BlockingConnect.open(options);
    t.teardown(() => made[Symbol.asyncDispose]());
    return made;
  };
  const client = await open({ array: stg });
  const server = await open({ array: stg });
  const listener = server.serve({ port: PORT, network: { port: 0 } });
  const to = { port: PORT, network: { port: server.getsockname(listener).port } };
  for (const use of ['array-first', 'network', 'array'] as const) {
    const a = client.dial(to, { use });
    t.is(server.poll([{ fd: listener, events: POLLIN }], 5000).length, 1);
    const b = server.accept(listener);
    t.is(familyOf(a), use === 'network' ? 'inet' : 'stp');
    t.is(familyOf(a), familyOf(b));
    t.is(reasonOf(client, a), use === 'network' ? 'asked for network' : 'through the array');
    client.send(a, Buffer.from(use));
    t.is(server.receive(b, 20).toString(), use);
  }
  t.is(reasonOf(client, client.dial({ ...to, port: 9 })), 'peer does not listen');
  const none = await open({ array: { runDirectory: `${runDirectory}-none`, stg: 'test' } });
  t.is(reasonOf(none, none.dial(to)), 'no stpd');
  t.throws(() => none.dial(to, { use: 'array' }), { code: 'EAFNOSUPPORT' });
  array.stpd.kill('SIGKILL');
  await once(array.stpd, 'exit');
  t.is(reasonOf(client, client.dial(to)), 'no stpd');
  for (let i = 0; i < 3; i++) t.is(familyOf(server.accept(listener)), 'inet');
});
