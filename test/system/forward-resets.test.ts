/**
 * stpctl forward when a side does not end in order: the other is told so, and never sees a plain
 * end where something is missing.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import {
  type AnySocket,
  dial,
  type Forward,
  fate,
  fateOf,
  hostFor,
  scratchDirectory,
  serve,
  sharedArray,
  startForward,
  until,
} from '../support/forward.js';
import { startHost } from '../support/host-program.js';

const array = sharedArray(test);

type Kind = 'stp' | 'tcp' | 'unix';
type T = ExecutionContext<unknown>;

const listenText = (t: T, kind: Kind): string =>
  ({ stp: 'stp:test:0', tcp: 'tcp:0', unix: `unix:${scratchDirectory(t)}/f.sock` })[kind];

async function through(t: T, from: Kind, to: Kind) {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, host, to);
  const args = [listenText(t, from), server.address, '-v'];
  const forward = await startForward(t, { runDirectory, args });
  const client = await dial(t, host, forward.from);
  const accepted = await until('the target is connected', () => server.sockets[0]);
  return { forward, client, accepted };
}

/** One byte each way, so that both sides are past their set-up. */
async function exchange(...both: [AnySocket, AnySocket]): Promise<void> {
  await Promise.all(
    both.map(async (socket) => {
      socket.write('x');
      socket.resume();
      await once(socket, 'data');
    }),
  );
}

const waitForReset = (forward: Forward, who: RegExp) =>
  until('it says who reset', () => {
    const line = /^stpctl: #1 .*, reset by (.*)$/m.exec(forward.said())?.[1];
    return line !== undefined && who.test(line);
  });

for (const [from, to] of [
  ['tcp', 'stp'],
  ['stp', 'tcp'],
  ['stp', 'stp'],
  ['tcp', 'tcp'],
] as const) {
  test.serial(`${from} to ${to}: a reset of the client reaches the server`, async (t) => {
    const { forward, client, accepted } = await through(t, from, to);
    await exchange(client, accepted);
    const ending = fate(accepted);
    client.resetAndDestroy();
    t.is(await ending, 'ECONNRESET');
    await waitForReset(forward, new RegExp(`^${from}:`));
  });

  test.serial(`${from} to ${to}: a reset of the server reaches the client`, async (t) => {
    const { forward, client, accepted } = await through(t, from, to);
    await exchange(client, accepted);
    const ending = fate(client);
    accepted.resetAndDestroy();
    t.is(await ending, 'ECONNRESET');
    await waitForReset(forward, new RegExp(`^${to}:`));
  });
}

test.serial('a reset reaches the side that has ended already', async (t) => {
  const { client, accepted } = await through(t, 'tcp', 'stp');
  await exchange(client, accepted);
  accepted.end();
  await once(client.resume(), 'end');
  const ending = fate(accepted);
  client.resetAndDestroy();
  t.is(await ending, 'ECONNRESET');
});

test.serial('a Unix socket that is closed with bytes unread is a reset', async (t) => {
  const { client, accepted } = await through(t, 'unix', 'stp');
  await exchange(client, accepted);
  client.pause();
  accepted.write(Buffer.alloc(1 << 20)); /* more than Node reads ahead */
  await until('some of it has arrived', () => client.bytesRead > 1);
  const ending = fate(accepted);
  client.destroy();
  accepted.write('nor this');
  t.is(await ending, 'ECONNRESET');
});

test.serial('a Unix socket has no reset: its peer sees an end', async (t) => {
  const { client, accepted } = await through(t, 'unix', 'stp');
  await exchange(client, accepted);
  const ending = fate(client);
  accepted.resetAndDestroy();
  t.regex(await ending, /^(end|ECONNRESET)$/);
});

test.serial('a host that is killed is a reset for the TCP client', async (t) => {
  const { runDirectory } = array();
  const server = await startHost(t, runDirectory);
  const { port } = await server.ask({ do: 'listen' });
  const args = ['tcp:0', `stp:test:${port}`, '-v'];
  const forward = await startForward(t, { runDirectory, args });
  const client = await dial(t, undefined, forward.from);
  await until('it is accepted', async () => {
    const { received } = await server.ask({ do: 'state', socket: 0 });
    return received !== undefined;
  });
  const ending = fate(client);
  await server.kill();
  t.is(await ending, 'ECONNRESET');
});

test.serial('a client that is killed in the middle leaves no plain end', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, host, 'tcp');
  const forward = await startForward(t, { runDirectory, args: ['stp:test:0', server.address] });
  const client = await startHost(t, runDirectory);
  await client.ask({ do: 'connect', port: Number(forward.from.split(':')[2]) });
  await client.ask({ do: 'send', socket: 0, bytes: 10 });
  const accepted = await until('it is connected', () => server.sockets[0]);
  const ending = fate(accepted);
  await client.kill();
  t.is(await ending, 'ECONNRESET');
});

test.serial('a client that is gone before the target stands leaves nothing behind', async (t) => {
  const { runDirectory } = array();
  const server = await startHost(t, runDirectory);
  const { port } = await server.ask({ do: 'listen', backlog: 1 });
  for (const from of ['stp:test:0', 'tcp:0']) {
    const host = await hostFor(t, runDirectory);
    const forward = await startForward(t, { runDirectory, args: [from, `stp:test:${port}`, '-v'] });
    server.child.kill('SIGSTOP');
    const clients = [];
    for (let i = 0; i < 3; i++) clients.push(await dial(t, host, forward.from));
    /* The first fills the backlog, the others wait for a place in it. */
    await new Promise((resolve) => setTimeout(resolve, 300));
    for (const client of clients) client.resetAndDestroy();
    server.child.kill('SIGCONT');
    await until(
      'all three are over',
      () => forward.said().match(/^stpctl: #\d .* reset by/gm)?.length === 3,
    );
    forward.child.kill('SIGINT');
    const { code, stderr } = await forward.ended;
    t.is(code, 0);
    t.regex(stderr, /3 connections \(0 ended, 3 reset, 0 found no target\)/);
  }
});

// --- no target -----------------------------------------------------------------------------------

const REFUSALS: readonly [Kind, (t: T) => string | Promise<string>, RegExp][] = [
  ['tcp', () => 'stp:test:9', /was reset: stp:test:9: nobody listens there; start the server, see/],
  ['stp', freePort, /was reset: tcp:127\.0\.0\.1:\d+: nobody listens there; start the server/],
  ['tcp', (t) => `unix:${scratchDirectory(t)}/none`, /unix:.*none: there is no such socket; start/],
  ['stp', deadSocket, /unix:.*dead: nobody listens there; start the server it belongs to/],
  [
    'tcp',
    () => 'tcp:no.such.host.invalid:1',
    /tcp:no\.such\.host\.invalid:1: .*(host|getaddrinfo)/,
  ],
];

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return `tcp:127.0.0.1:${port}`;
}

/** The socket file of a process that is gone. */
async function deadSocket(t: T): Promise<string> {
  const path = `${scratchDirectory(t)}/dead`;
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ]);
  await once(child, 'exit');
  t.true(existsSync(path));
  return `unix:${path}`;
}

for (const [from, to, message] of REFUSALS) {
  test.serial(`no target: ${message.source}`, async (t) => {
    const { runDirectory } = array();
    const host = await hostFor(t, runDirectory);
    const args = [listenText(t, from), await to(t)];
    const forward = await startForward(t, { runDirectory, args });
    t.is(await fateOf(t, host, forward.from), 'ECONNRESET');
    const lines = (await until('it says why', () => message.test(forward.said()) && forward.said()))
      .trimEnd()
      .split('\n');
    t.is(lines.length, 2, 'one line for it');
    forward.child.kill('SIGINT');
    const { code, stderr } = await forward.ended;
    t.is(code, 0);
    t.regex(stderr, /1 connection \(0 ended, 0 reset, 1 found no target\), 0 B out, 0 B back/);
  });
}
