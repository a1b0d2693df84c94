/**
 * undici over STP sockets, through its `connect` option.
 */
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { pipeline } from 'node:stream/promises';
import test, { type ExecutionContext } from 'ava';
import { Agent, Client, FormData, fetch } from 'undici';
import { until } from '../support/array.js';
import { body, digestOf, listen, programRig, recipes } from './rig.js';

const rig = programRig(test);

type T = ExecutionContext<unknown>;

async function served(t: T, onRequest: RequestListener) {
  const { server: serverHost, client: clientHost } = rig();
  let connections = 0;
  const server = createServer(onRequest);
  server.on('connection', () => {
    connections += 1;
  });
  const { port } = await listen(t, serverHost, server);
  const connect = recipes.undiciConnector(clientHost);
  return { server, origin: `http://demo:${port}`, connect, connections: () => connections };
}

test('keep-alive: a Client asks a hundred times over one connection', async (t) => {
  const { origin, connect, connections } = await served(t, (asked, answer) => {
    answer.end(asked.url);
  });
  const client = new Client(origin, { connect });
  t.teardown(() => client.destroy());
  for (let i = 0; i < 100; i++) {
    const answer = await client.request({ path: `/${i}`, method: 'GET' });
    t.is(answer.statusCode, 200);
    t.is(await answer.body.text(), `/${i}`);
  }
  t.is(connections(), 1);
});

test('pipelining', async (t) => {
  const { origin, connect, connections } = await served(t, (asked, answer) => {
    setTimeout(() => answer.end(asked.url), 20 - Number(asked.url?.slice(1)));
  });
  const client = new Client(origin, { connect, pipelining: 10 });
  t.teardown(() => client.destroy());
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const { body: answer } = await client.request({ path: `/${i}`, method: 'GET' });
      return answer.text();
    }),
  );
  t.deepEqual(
    answers,
    Array.from({ length: 20 }, (_, i) => `/${i}`),
  );
  t.is(connections(), 1);
});

test('a large body up, and the same down', async (t) => {
  const bytes = 200_000_003;
  let down = (): string => '';
  const { origin, connect } = await served(t, async (asked, answer) => {
    const got = await digestOf(asked);
    const made = body(bytes + 1);
    down = made.digest;
    answer.setHeader('x-got', JSON.stringify(got));
    pipeline(made.stream, answer).catch(() => {});
  });
  const agent = new Agent({ connect });
  t.teardown(() => agent.destroy());
  const { stream, digest } = body(bytes);
  const answer = await agent.request({ origin, path: '/', method: 'POST', body: stream });
  t.deepEqual(JSON.parse(String(answer.headers['x-got'])), { bytes, digest: digest() });
  t.deepEqual(await digestOf(answer.body), { bytes: bytes + 1, digest: down() });
});

test('fetch with a form, through an Agent', async (t) => {
  const { origin, connect } = await served(t, async (asked, answer) => {
    const { bytes } = await digestOf(asked);
    answer.end(`${asked.headers['content-type']?.split(';')[0]} ${bytes > 100_000}`);
  });
  const dispatcher = new Agent({ connect });
  t.teardown(() => dispatcher.destroy());
  const form = new FormData();
  form.set('file', new Blob([Buffer.alloc(100_000)]), 'file');
  const response = await fetch(origin, { method: 'POST', body: form, dispatcher });
  t.is(await response.text(), 'multipart/form-data true');
});

test('an abort closes the connection, and the next request makes a new one', async (t) => {
  let closed = 0;
  const { origin, connect, connections } = await served(t, (asked, answer) => {
    answer.on('close', () => {
      closed += 1;
    });
    if (asked.url === '/quick') answer.end('quick');
    else pipeline(body(2 ** 40).stream, answer).catch(() => {});
  });
  const client = new Client(origin, { connect });
  t.teardown(() => client.destroy());
  const abort = new AbortController();
  const { body: endless } = await client.request({
    path: '/endless',
    method: 'GET',
    signal: abort.signal,
  });
  await once(endless, 'readable');
  abort.abort();
  await t.throwsAsync(endless.text(), { name: 'AbortError', any: true });
  await until('the server has seen it', () => closed === 1);
  const { body: quick } = await client.request({ path: '/quick', method: 'GET' });
  t.is(await quick.text(), 'quick');
  t.is(connections(), 2);
});

test('nobody listens: ECONNREFUSED', async (t) => {
  const client = new Client('http://demo:59998', {
    connect: recipes.undiciConnector(rig().client),
  });
  t.teardown(() => client.destroy());
  await t.throwsAsync(client.request({ path: '/', method: 'GET' }), { code: 'ECONNREFUSED' });
});

test('a server that goes away is an error; time-outs come', async (t) => {
  const { origin, connect } = await served(t, (asked, answer) => {
    if (asked.url === '/gone') answer.destroy();
  });
  const client = new Client(origin, { connect, headersTimeout: 500 });
  t.teardown(() => client.destroy());
  await t.throwsAsync(client.request({ path: '/gone', method: 'GET' }), {
    code: 'UND_ERR_SOCKET',
  });
  await t.throwsAsync(client.request({ path: '/silent', method: 'GET' }), {
    code: 'UND_ERR_HEADERS_TIMEOUT',
  });
});
