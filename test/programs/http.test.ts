/**
 * node:http over STP sockets, server and client, by the recipes of examples/over-stp.mjs.
 */
import { once } from 'node:events';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type RequestOptions,
  request,
} from 'node:http';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import test, { type ExecutionContext } from 'ava';
import type { StpSocket } from '../../src/index.js';
import { until } from '../support/array.js';
import { body, digestOf, listen, programRig, recipes } from './rig.js';

const rig = programRig(test);
const GIB = 2 ** 30;

type T = ExecutionContext<unknown>;

/** A server of its own for one test, and how to ask it. */
async function served(t: T, onRequest: RequestListener) {
  const { server: serverHost, client: clientHost } = rig();
  const server = createServer(onRequest);
  const connections: StpSocket[] = [];
  server.on('connection', (socket) => connections.push(socket as unknown as StpSocket));
  const { port, listener } = await listen(t, serverHost, server);
  const agent = new recipes.StpAgent(clientHost);
  t.teardown(() => agent.destroy());
  const ask = (options: RequestOptions) => request({ host: 'demo', port, agent, ...options });
  const get = async (path: string): Promise<{ text: string; reused: boolean }> => {
    const asked = ask({ path }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return { text: await text(response), reused: asked.reusedSocket };
  };
  return { server, listener, port, connections, agent, ask, get };
}

test('keep-alive: a hundred requests over one connection', async (t) => {
  const { get, connections } = await served(t, (asked, answer) => answer.end(asked.url));
  for (let i = 0; i < 100; i++) {
    const { text: answer, reused } = await get(`/${i}`);
    t.is(answer, `/${i}`);
    t.is(reused, i > 0);
  }
  t.is(connections.length, 1);
});

test('a hundred requests at once: as many connections, which end when the agent does', async (t) => {
  const { get, connections, agent } = await served(t, (asked, answer) => answer.end(asked.url));
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => get(`/${i}`)));
  t.deepEqual(
    answers.map((answer) => answer.text),
    Array.from({ length: 100 }, (_, i) => `/${i}`),
  );
  t.is(connections.length, 100);
  agent.destroy();
  await until('all are closed', () => connections.every((socket) => socket.destroyed));
});

test('pipelined requests are answered in order', async (t) => {
  const { port } = await served(t, (asked, answer) => {
    /* The first are the slowest. */
    setTimeout(() => answer.end(`${asked.url};`), 50 - Number(asked.url?.slice(1)));
  });
  const socket = rig().client.connect({ port });
  const count = 50;
  socket.write(
    Array.from(
      { length: count },
      (_, i) =>
        `GET /${i} HTTP/1.1\r\nHost: demo\r\nConnection: ${i + 1 < count ? 'keep-alive' : 'close'}\r\n\r\n`,
    ).join(''),
  );
  const answer = await text(socket);
  const order = [...answer.matchAll(/\/(\d+);/g)].map((match) => Number(match[1]));
  t.deepEqual(
    order,
    Array.from({ length: count }, (_, i) => i),
  );
});

test('a body of 1 GiB goes up', async (t) => {
  t.timeout(600_000);
  const { ask } = await served(t, async (asked, answer) => {
    answer.end(JSON.stringify(await digestOf(asked)));
  });
  const { stream, digest } = body(GIB);
  const asked = ask({ method: 'POST', headers: { 'content-length': GIB } });
  const sent = pipeline(stream, asked);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  await sent;
  t.deepEqual(JSON.parse(await text(response)), { bytes: GIB, digest: digest() });
});

test('a body of 1 GiB comes down, chunked', async (t) => {
  t.timeout(600_000);
  let digest = (): string => '';
  const { ask } = await served(t, (_asked, answer) => {
    const made = body(GIB);
    digest = made.digest;
    pipeline(made.stream, answer).catch(() => {});
  });
  const asked = ask({}).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  t.is(response.headers['transfer-encoding'], 'chunked');
  t.deepEqual(await digestOf(response), { bytes: GIB, digest: digest() });
});

test('upgrade: both sides get the bare socket, and the bytes behind the request', async (t) => {
  const { server, ask } = await served(t, (_asked, answer) => answer.end());
  server.on('upgrade', (_asked, socket, head: Buffer) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    );
    socket.write(head);
    socket.pipe(socket);
  });
  const asked = ask({ headers: { connection: 'Upgrade', upgrade: 'echo' } });
  asked.end();
  const [, socket, head] = (await once(asked, 'upgrade')) as [unknown, StpSocket, Buffer];
  t.is(socket.stg, 'test');
  const { stream, digest } = body(20_000_000);
  const back = digestOf(socket);
  await pipeline(stream, socket);
  t.deepEqual(await back, { bytes: 20_000_000, digest: digest() });
  t.is(head.length, 0);
});

test('a client that goes away is seen by the server', async (t) => {
  let closed = false;
  const { ask } = await served(t, (asked, answer) => {
    asked.on('close', () => {
      closed = true;
    });
    answer.write('the beginning');
  });
  const asked = ask({}).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  await once(response, 'data');
  asked.on('error', () => {});
  asked.destroy();
  t.true(await until('the server has seen it', () => closed));
});

test('a server that goes away in the middle is an error for the client', async (t) => {
  const { ask } = await served(t, (_asked, answer) => {
    answer.writeHead(200, { 'content-length': 1000 });
    answer.write('not all of it', () => answer.destroy());
  });
  const asked = ask({}).end();
  asked.on('error', () => {});
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  await t.throwsAsync(text(response), { code: 'ECONNRESET' });
});

test('nobody listens: ECONNREFUSED, as over TCP', async (t) => {
  const agent = new recipes.StpAgent(rig().client);
  const asked = request({ host: 'demo', port: 59_999, agent }).end();
  const [error] = (await once(asked, 'error')) as [NodeJS.ErrnoException];
  t.is(error.code, 'ECONNREFUSED');
});

test('time-outs: of the request at the client, and of a head that does not end at the server', async (t) => {
  const { ask } = await served(t, () => {});
  const asked = ask({ timeout: 100 }).end();
  await once(asked, 'timeout');
  asked.on('error', () => {});
  asked.destroy();

  const patient = createServer({ connectionsCheckingInterval: 50, headersTimeout: 1000 }, () => {});
  const other = await listen(t, rig().server, patient);
  const socket = rig().client.connect({ port: other.port });
  socket.write('GET / HTTP/1.1\r\nHost: de');
  t.regex(await text(socket), /^HTTP\/1\.1 408 /);
});

test('100-continue and trailers', async (t) => {
  const { server, ask } = await served(t, async (asked, answer) => {
    answer.writeHead(200, { trailer: 'X-Digest' });
    answer.write(String((await digestOf(asked)).bytes));
    answer.addTrailers({ 'X-Digest': 'd' });
    answer.end();
  });
  let continued = 0;
  server.on('checkContinue', (asked, answer) => {
    continued += 1;
    answer.writeContinue();
    server.emit('request', asked, answer);
  });
  const asked = ask({ method: 'PUT', headers: { expect: '100-continue' } });
  asked.flushHeaders();
  await once(asked, 'continue');
  asked.end('12345');
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  t.is(await text(response), '5');
  t.deepEqual(response.trailers, { 'x-digest': 'd' });
  t.is(continued, 1);
});

test('the server closes with its idle connections', async (t) => {
  const { get, server, listener, connections } = await served(t, (_asked, answer) =>
    answer.end('x'),
  );
  await get('/');
  t.is(connections[0]?.destroyed, false);
  const closed = once(listener, 'close');
  listener.close();
  server.closeIdleConnections();
  await closed;
  t.is(connections[0]?.destroyed, true);
});
