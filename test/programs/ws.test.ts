/**
 * WebSockets (package ws) over STP sockets.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { type ClientOptions, createWebSocketStream, WebSocket, WebSocketServer } from 'ws';
import { body, digestOf, listen, programRig, recipes } from './rig.js';

const rig = programRig(test);

type T = ExecutionContext<unknown>;

async function joined(t: T, perMessageDeflate = false) {
  const { server: serverHost, client: clientHost } = rig();
  const http = createServer();
  const server = new WebSocketServer({ noServer: true, perMessageDeflate, maxPayload: 1 << 28 });
  http.on('upgrade', (asked, socket, head) => {
    server.handleUpgrade(asked, socket, head, (accepted) => {
      server.emit('connection', accepted, asked);
    });
  });
  const { port } = await listen(t, serverHost, http);
  const options: ClientOptions = {
    createConnection: recipes.wsConnection(clientHost) as never,
    perMessageDeflate,
    maxPayload: 1 << 28,
  };
  const client = new WebSocket(`ws://demo:${port}/`, options);
  t.teardown(() => client.terminate());
  const [[accepted]] = (await Promise.all([once(server, 'connection'), once(client, 'open')])) as [
    [WebSocket],
    unknown,
  ];
  t.teardown(() => accepted.terminate());
  return { client, accepted };
}

const SIZES = [0, 1, 125, 126, 1000, 65_535, 65_536, 65_537, 1 << 20, (4 << 20) + 1, 16 << 20];

for (const deflate of [false, true]) {
  test(`binary messages of many sizes, permessage-deflate ${deflate ? 'on' : 'off'}`, async (t) => {
    const { client, accepted } = await joined(t, deflate);
    t.is(client.extensions, deflate ? 'permessage-deflate' : '');
    accepted.on('message', (message, binary) => accepted.send(message, { binary }));
    for (const size of SIZES) {
      const message = Buffer.alloc(size, `size ${size} `);
      const answer = once(client, 'message') as Promise<[Buffer, boolean]>;
      client.send(message);
      const [back, binary] = await answer;
      t.true(binary);
      t.true(back.equals(message), `${size} bytes`);
    }
  });
}

test('ten thousand small messages, in order, without waiting', async (t) => {
  const { client, accepted } = await joined(t);
  const count = 10_000;
  const arrived: number[] = [];
  const all = new Promise<void>((resolve) => {
    accepted.on('message', (message: Buffer) => {
      arrived.push(message.readUInt32LE());
      if (arrived.length === count) resolve();
    });
  });
  for (let i = 0; i < count; i++) {
    const message = Buffer.alloc(4 + (i % 100));
    message.writeUInt32LE(i);
    client.send(message);
  }
  await all;
  t.deepEqual(
    arrived,
    Array.from({ length: count }, (_, i) => i),
  );
});

test('ping and pong, with their bytes', async (t) => {
  const { client, accepted } = await joined(t);
  const pinged = once(accepted, 'ping');
  const ponged = once(client, 'pong');
  client.ping('are you there');
  t.is(String((await pinged)[0]), 'are you there');
  t.is(String((await ponged)[0]), 'are you there');
});

for (const [code, reason] of [
  [1000, 'enough'],
  [1001, ''],
  [4321, 'of our own'],
] as const) {
  test(`close code ${code} arrives on both sides`, async (t) => {
    const { client, accepted } = await joined(t);
    const ends = Promise.all([once(client, 'close'), once(accepted, 'close')]);
    accepted.close(code, reason);
    for (const [gotCode, gotReason] of await ends) {
      t.is(gotCode, code);
      t.is(String(gotReason), reason);
    }
  });
}

test('a side that is cut off is 1006 for the other', async (t) => {
  const { client, accepted } = await joined(t);
  accepted.on('error', () => {}); /* ECONNRESET, where bytes were unread */
  const closed = once(accepted, 'close');
  client.terminate();
  t.is((await closed)[0], 1006);
});

test('as a stream, with back-pressure', async (t) => {
  const { client, accepted } = await joined(t);
  const output = createWebSocketStream(client);
  const input = createWebSocketStream(accepted);
  const { stream, digest } = body(100_000_003);
  stream.pipe(output);
  const got = await digestOf(input);
  t.deepEqual(got, { bytes: 100_000_003, digest: digest() });
});
