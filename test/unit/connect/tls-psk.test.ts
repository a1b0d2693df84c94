import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { HANDSHAKES_MAX } from '../../../src/connect/bounds.js';
import { AF_INET, STPConnect } from '../../../src/connect/stp-connect.js';
import type { StpError } from '../../../src/errors.js';
import { failsWith, stillWaits, throwsCode } from '../../conformance/rig.js';

const host = '127.0.0.1';
const keys = new Map([
  ['host-a', randomBytes(32)],
  ['host-b', randomBytes(32)],
]);
const keyOf = (identity: string): Buffer => keys.get(identity) as Buffer;

/** A listener with the keys above, and what it refused. */
async function listener(t: ExecutionContext, lookup = (id: string) => keys.get(id) ?? null) {
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const fd = layer.socket(AF_INET);
  const refusals: StpError[] = [];
  layer.setsockopt(fd, 'psk', { lookup, refused: (error: StpError) => refusals.push(error) });
  await layer.bind(fd, { host, port: 0 });
  await layer.listen(fd);
  const refusal = async (): Promise<StpError> => {
    for (;;) {
      const error = refusals.shift();
      if (error !== undefined) return error;
      await sleep(5);
    }
  };
  return { layer, fd, port: layer.getsockname(fd).port, refusal, refusals };
}

function dialer(t: ExecutionContext, psk?: { identity: string; key: Buffer }) {
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const fd = layer.socket(AF_INET);
  if (psk !== undefined) layer.setsockopt(fd, 'psk', psk);
  return { layer, fd };
}

test('both sides know who proved what', async (t) => {
  const server = await listener(t);
  const client = dialer(t, { identity: 'host-b', key: keyOf('host-b') });
  const [fd] = await Promise.all([
    server.layer.accept(server.fd),
    client.layer.connect(client.fd, { host, port: server.port }),
  ]);
  t.deepEqual(server.layer.getsockopt(fd, 'peer'), { by: 'psk', identity: 'host-b' });
  t.deepEqual(client.layer.getsockopt(client.fd, 'peer'), { by: 'psk', identity: 'host-b' });
});

test('a wrong key: EACCES on both sides, naming the identity; nothing is accepted', async (t) => {
  const server = await listener(t);
  const none = server.layer.accept(server.fd);
  const client = dialer(t, { identity: 'host-a', key: randomBytes(32) });
  const connecting = client.layer.connect(client.fd, { host, port: server.port });
  const error = await failsWith(t, connecting, 'EACCES');
  t.regex(error.message, /'host-a'/);
  const refusal = await server.refusal();
  t.is(refusal.code, 'EACCES');
  t.regex(refusal.message, /'host-a'.*key is not ours/);
  t.true(await stillWaits(none));
  await Promise.all([failsWith(t, none, 'ECANCELED'), server.layer.close(server.fd)]);
});

test('the key of another identity is a wrong key', async (t) => {
  const server = await listener(t);
  const client = dialer(t, { identity: 'host-a', key: keyOf('host-b') });
  await failsWith(t, client.layer.connect(client.fd, { host, port: server.port }), 'EACCES');
  t.is((await server.refusal()).code, 'EACCES');
});

test('an unknown identity looks like a wrong key to who tries it, not to who refuses it', async (t) => {
  const server = await listener(t);
  const messages: string[] = [];
  for (const identity of ['host-a', 'nobody']) {
    const client = dialer(t, { identity, key: randomBytes(32) });
    const connecting = client.layer.connect(client.fd, { host, port: server.port });
    const error = await failsWith(t, connecting, 'EACCES');
    messages.push(`${(error.cause as StpError).code} ${error.message.replace(identity, 'X')}`);
  }
  t.is(messages[0], messages[1]);
  t.regex((await server.refusal()).message, /key is not ours/);
  t.regex((await server.refusal()).message, /'nobody'.*no such identity/);
});

test('after a refusal the descriptor can be used with the right key', async (t) => {
  const server = await listener(t);
  const client = dialer(t, { identity: 'host-a', key: randomBytes(32) });
  await failsWith(t, client.layer.connect(client.fd, { host, port: server.port }), 'EACCES');
  client.layer.setsockopt(client.fd, 'psk', { identity: 'host-a', key: keyOf('host-a') });
  await client.layer.connect(client.fd, { host, port: server.port });
  t.is(client.layer.getsockopt(client.fd, 'state'), 'connected');
});

test('a plain peer of a TLS listener is cut off: EPROTO is told', async (t) => {
  const server = await listener(t);
  const client = dialer(t);
  await client.layer.connect(client.fd, { host, port: server.port });
  await client.layer.send(client.fd, Buffer.from('GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n'));
  t.is((await server.refusal()).code, 'EPROTO');
  const end = client.layer.receive(client.fd, 100);
  t.is(
    await end
      .then(
        (b) => b.length,
        (error: StpError) => error.code,
      )
      .then((x) => x === 0 || x === 'ECONNRESET'),
    true,
  );
});

test('a listener that does not speak TLS: EPROTO', async (t) => {
  const plain = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.end('220 some other service is ready\r\n');
  });
  await new Promise<void>((resolve) => plain.listen(0, host, resolve));
  t.teardown(() => plain.close());
  const { port } = plain.address() as net.AddressInfo;
  const client = dialer(t, { identity: 'host-a', key: keyOf('host-a') });
  await failsWith(t, client.layer.connect(client.fd, { host, port }), 'EPROTO');
});

test('close, signal and time limit end a connect in the handshake', async (t) => {
  const silent = net.createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => silent.listen(0, host, resolve));
  t.teardown(() => silent.close());
  const { port } = silent.address() as net.AddressInfo;
  const psk = { identity: 'host-a', key: keyOf('host-a') };
  const closed = dialer(t, psk);
  const connecting = failsWith(t, closed.layer.connect(closed.fd, { host, port }), 'ECANCELED');
  await sleep(50);
  await closed.layer.close(closed.fd);
  await connecting;
  const { layer, fd } = dialer(t, psk);
  await failsWith(t, layer.connect(fd, { host, port }, { timeoutMs: 50 }), 'ETIMEDOUT');
  const signal = AbortSignal.timeout(50);
  await failsWith(t, layer.connect(fd, { host, port }, { signal }), 'ETIMEDOUT');
});

test('who stays silent is cut after the limit, on both sides, and holds nobody up', async (t) => {
  t.timeout(60_000);
  const server = await listener(t);
  const silent = net.connect(server.port, host);
  silent.on('error', () => {});
  const cut = new Promise((resolve) => silent.once('close', resolve));
  const mute = net.createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => mute.listen(0, host, resolve));
  t.teardown(() => mute.close());
  const waiting = dialer(t, { identity: 'host-a', key: keyOf('host-a') });
  const { port } = mute.address() as net.AddressInfo;
  const timedOut = failsWith(t, waiting.layer.connect(waiting.fd, { host, port }), 'ETIMEDOUT');

  const client = dialer(t, { identity: 'host-a', key: keyOf('host-a') });
  await client.layer.connect(client.fd, { host, port: server.port });
  t.truthy(await server.layer.accept(server.fd));

  silent.resume();
  await Promise.all([cut, timedOut]);
  t.is((await server.refusal()).code, 'ETIMEDOUT');
});

test('unproved connections are capped; the next one is reset, and room comes back', async (t) => {
  const server = await listener(t);
  const idle = Array.from({ length: HANDSHAKES_MAX }, () => net.connect(server.port, host));
  for (const socket of idle) socket.on('error', () => {});
  await Promise.all(
    idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))),
  );
  await sleep(50);
  const psk = { identity: 'host-a', key: keyOf('host-a') };
  const surplus = dialer(t, psk);
  const connecting = surplus.layer.connect(surplus.fd, { host, port: server.port });
  await failsWith(t, connecting, 'ECONNRESET', 'EPIPE');
  t.is((await server.refusal()).code, 'EAGAIN');
  for (const socket of idle) socket.destroy();
  await sleep(50);
  const next = dialer(t, psk);
  await next.layer.connect(next.fd, { host, port: server.port });
  t.truthy(await server.layer.accept(server.fd));
});

test('closing the listener cuts what is in the handshake', async (t) => {
  const server = await listener(t);
  const silent = net.connect(server.port, host);
  silent.on('error', () => {});
  await new Promise((resolve) => silent.once('connect', resolve));
  await sleep(50);
  const cut = new Promise((resolve) => silent.once('close', resolve));
  silent.resume();
  await server.layer.close(server.fd);
  await cut;
  t.pass();
});

test('a lookup that throws or gives a short key refuses one connection, with a reason', async (t) => {
  const server = await listener(t, (identity) => {
    if (identity === 'short') return randomBytes(16);
    throw new Error('the key file is gone');
  });
  const expected = { thrown: ['EIO', /key file is gone/], short: ['EINVAL', /16 bytes/] } as const;
  for (const [identity, [code, message]] of Object.entries(expected)) {
    const client = dialer(t, { identity, key: randomBytes(32) });
    await failsWith(t, client.layer.connect(client.fd, { host, port: server.port }), 'EACCES');
    const refusal = await server.refusal();
    t.is(refusal.code, code);
    t.regex(refusal.message, message);
    t.is((await server.refusal()).code, 'EACCES');
  }
});

test('the option psk is checked when it is set, and never shows a key', (t) => {
  const { layer, fd } = dialer(t);
  const key = randomBytes(31);
  for (const value of [
    null,
    {},
    'secret',
    { identity: 'a' },
    { identity: '', key: randomBytes(32) },
    { identity: 'a\0b', key: randomBytes(32) },
    { identity: 'x'.repeat(200), key: randomBytes(32) },
    { identity: 'a', key },
    { identity: 'a', key: 'k'.repeat(32) },
  ]) {
    throwsCode(t, () => layer.setsockopt(fd, 'psk', value), 'EINVAL');
  }
  const error = t.throws(() => layer.setsockopt(fd, 'psk', { identity: 'a', key }));
  t.false(error?.message.includes(key.toString('hex')));
  throwsCode(t, () => layer.getsockopt(fd, 'psk'), 'ENOPROTOOPT');
});

test('the option of the wrong side, or set too late: EINVAL', async (t) => {
  const server = await listener(t);
  const { layer, fd } = dialer(t);
  layer.setsockopt(fd, 'psk', { lookup: () => null });
  await failsWith(t, layer.connect(fd, { host, port: server.port }), 'EINVAL');
  layer.setsockopt(fd, 'psk', { identity: 'host-a', key: keyOf('host-a') });
  await failsWith(t, layer.listen(fd), 'EINVAL');
  throwsCode(t, () => server.layer.setsockopt(server.fd, 'psk', { lookup: () => null }), 'EINVAL');
});

test('traffic over TLS counts the wire: more than the data, and failed handshakes too', async (t) => {
  const server = await listener(t);
  const wrong = dialer(t, { identity: 'host-a', key: randomBytes(32) });
  await failsWith(t, wrong.layer.connect(wrong.fd, { host, port: server.port }), 'EACCES');
  t.true(wrong.layer.traffic().inet.sent > 100);
  const client = dialer(t, { identity: 'host-a', key: keyOf('host-a') });
  const [fd] = await Promise.all([
    server.layer.accept(server.fd),
    client.layer.connect(client.fd, { host, port: server.port }),
  ]);
  const before = client.layer.traffic().inet.sent;
  await client.layer.send(client.fd, Buffer.alloc(100_000));
  await server.layer.receiveExactly(fd, 100_000);
  const moved = client.layer.traffic().inet.sent - before;
  t.true(moved > 100_000 && moved < 102_000, `${moved}`);
});
