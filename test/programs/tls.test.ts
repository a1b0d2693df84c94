/**
 * node:tls and node:https over STP sockets.
 */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer as createHttpsServer, type RequestOptions, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { connect, createServer, TLSSocket, type TlsOptions } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import type { StpSocket } from '../../src/index.js';
import { until } from '../support/array.js';
import { body, certificate, digestOf, listen, NO_OPENSSL, programRig, recipes } from './rig.js';

const rig = programRig(test);
const made = certificate();
const BYTES = 100_000_007;

type T = ExecutionContext<unknown>;

/** Runs where certificates can be made. */
const withTls = (name: string, run: (t: T, pair: { key: Buffer; cert: Buffer }) => Promise<void>) =>
  test(name, async (t) => {
    if (made !== undefined) return run(t, made);
    t.log(NO_OPENSSL);
    t.pass();
  });

/** A tls.Server on an STP port, and a client connected to it; both half-open. */
async function secured(t: T, options: TlsOptions = {}, client: TlsOptions = {}) {
  const { server: serverHost, client: clientHost } = rig();
  const server = createServer({ ...made, allowHalfOpen: true, ...options });
  const { port } = await listen(t, serverHost, server);
  const arrived = once(server, 'secureConnection') as Promise<[TLSSocket]>;
  arrived.catch(() => {});
  const socket = recipes.tlsOverStp(clientHost, port, {
    ca: made?.cert as Buffer,
    servername: 'demo',
    allowHalfOpen: true,
    ...client,
  } as never);
  t.teardown(() => socket.destroy());
  return { socket, server, arrived, port };
}

withTls('tls.connect over an STP socket: large data both ways at once', async (t) => {
  const { socket, arrived } = await secured(t);
  const [accepted] = await arrived;
  t.is(socket.getProtocol(), 'TLSv1.3');
  t.true(socket.authorized);
  const [up, down] = [body(BYTES), body(BYTES + 1)];
  const results = await Promise.all([
    digestOf(accepted),
    digestOf(socket),
    pipeline(up.stream, socket, { end: false }).then(() => socket.end()),
    pipeline(down.stream, accepted, { end: false }).then(() => accepted.end()),
  ]);
  t.deepEqual(results[0], { bytes: BYTES, digest: up.digest() });
  t.deepEqual(results[1], { bytes: BYTES + 1, digest: down.digest() });
});

withTls('new TLSSocket around an accepted STP socket', async (t, pair) => {
  const { server: serverHost, client: clientHost } = rig();
  /* TLS ends its own halves: below it both must be half-open. */
  const listener = serverHost.createServer({ allowHalfOpen: true }, (socket) => {
    const secure = new TLSSocket(socket as never, { isServer: true, ...pair });
    secure.pipe(secure);
  });
  listener.listen(0);
  await once(listener, 'listening');
  const raw = clientHost.connect({ port: listener.address()?.port ?? 0, allowHalfOpen: true });
  await once(raw, 'connect');
  const socket = connect({ socket: raw as never, ca: pair.cert, servername: 'demo' });
  const { stream, digest } = body(10_000_000);
  const back = digestOf(socket);
  await pipeline(stream, socket);
  t.deepEqual(await back, { bytes: 10_000_000, digest: digest() });
  listener.close();
});

withTls('close_notify ends one direction, the other goes on', async (t) => {
  const { socket, arrived } = await secured(t);
  const [accepted] = await arrived;
  const question: Buffer[] = [];
  accepted.on('data', (data) => question.push(data));
  socket.end('question');
  await once(accepted, 'end');
  t.is(String(Buffer.concat(question)), 'question');
  accepted.write('half an ');
  setTimeout(() => accepted.end('answer'), 100);
  t.is(await text(socket), 'half an answer');
});

withTls('a TLS socket that is destroyed ends the STP socket below it, as over TCP', async (t) => {
  const { socket, arrived } = await secured(t);
  const [accepted] = await arrived;
  socket.resume();
  const ended = once(socket, 'end');
  accepted.write('x', () => accepted.destroy());
  await ended;
  t.false(socket.destroyed, 'the half that is ours is still open');
});

withTls('a reset below is ECONNRESET above', async (t, pair) => {
  const { server: serverHost, client: clientHost } = rig();
  const accepted: StpSocket[] = [];
  const server = createServer(pair);
  server.on('connection', (socket) => accepted.push(socket as unknown as StpSocket));
  const { port } = await listen(t, serverHost, server);
  const socket = recipes.tlsOverStp(clientHost, port, { ca: pair.cert, servername: 'demo' });
  await once(socket, 'secureConnect');
  socket.resume();
  const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>;
  (await until('it is accepted', () => accepted[0])).resetAndDestroy();
  t.is((await failed)[0].code, 'ECONNRESET');
});

withTls('a client certificate is asked for and seen', async (t, pair) => {
  const { arrived } = await secured(t, { requestCert: true, ca: pair.cert }, pair);
  const [accepted] = await arrived;
  t.true(accepted.authorized);
  t.is(accepted.getPeerCertificate().subject.CN, 'demo');
});

withTls('a server that nobody vouches for is refused', async (t) => {
  const { socket, arrived } = await secured(t, {}, { ca: [] } as TlsOptions);
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  t.is(error.code, 'DEPTH_ZERO_SELF_SIGNED_CERT');
  await Promise.race([arrived, until('closed', () => socket.destroyed)]);
});

withTls('a session is resumed over the next STP socket', async (t, pair) => {
  const { socket, port } = await secured(t, { allowHalfOpen: false });
  socket.resume();
  const [session] = (await once(socket, 'session')) as [Buffer];
  socket.end();
  const again = recipes.tlsOverStp(rig().client, port, {
    ca: pair.cert,
    servername: 'demo',
    session,
  });
  t.teardown(() => again.destroy());
  await once(again, 'secureConnect');
  t.true(again.isSessionReused());
});

withTls('node:https: a body up and down, keep-alive', async (t, pair) => {
  const { server: serverHost, client: clientHost } = rig();
  let connections = 0;
  const server = createHttpsServer(pair, async (asked, answer) => {
    answer.end(JSON.stringify(await digestOf(asked)));
  });
  server.on('secureConnection', () => {
    connections += 1;
  });
  const { port } = await listen(t, serverHost, server);
  const options: RequestOptions = {
    method: 'PUT',
    host: 'demo',
    port,
    ca: pair.cert,
    createConnection: () =>
      recipes.tlsOverStp(clientHost, port, { ca: pair.cert, servername: 'demo' }),
  };
  for (let i = 1; i <= 2; i++) {
    const asked = request(options);
    const { stream, digest } = body(30_000_000 + i);
    const sent = pipeline(stream, asked);
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    await sent;
    t.deepEqual(JSON.parse(await text(response)), { bytes: 30_000_000 + i, digest: digest() });
  }
  t.is(connections, 2);
});
