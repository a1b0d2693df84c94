/**
 * stpctl forward with many connections, with a server that does not read, and with no descriptor
 * left.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import {
  type AnySocket,
  dial,
  drain,
  fate,
  hostFor,
  pour,
  serve,
  sharedArray,
  startForward,
  until,
} from '../support/forward.js';

const array = sharedArray(test);

test.serial('500 connections at once, in a chain of two', async (t) => {
  const { runDirectory } = array();
  const server = await serve(t, undefined, 'tcp', (socket) => {
    socket.pipe(socket as never);
  });
  const inner = await startForward(t, { runDirectory, args: ['stp:test:0', server.address] });
  const outer = await startForward(t, { runDirectory, args: ['tcp:0', inner.from] });
  const clients = await Promise.all(
    Array.from({ length: 500 }, () => dial(t, undefined, outer.from)),
  );
  const back = await Promise.all(
    clients.map(async (client, i) => {
      const arriving = drain(client);
      const sent = await pour(client, 20_000 + i, i + 1);
      await until('all connections stand at the same time', () => server.sockets.length === 500);
      client.end();
      return [sent, await arriving] as const;
    }),
  );
  for (const [sent, arrived] of back) t.deepEqual(arrived, sent);
  for (const { child, ended } of [outer, inner]) {
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    t.is(code, 0, stderr);
    t.regex(
      stderr,
      /500 connections \(500 ended, 0 reset, 0 found no target\), 9\.66 MiB out, 9\.66/,
    );
  }
  const sockets = await array().list('socket', 'list');
  t.deepEqual(sockets, [], 'nothing of them is left in the array');
});

test.serial('more than --max-connections are reset, and it says so once', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, host, 'stp');
  const args = ['tcp:0', server.address, '--max-connections', '3'];
  const forward = await startForward(t, { runDirectory, args });
  const kept = await Promise.all([1, 2, 3].map(() => dial(t, host, forward.from)));
  await until('three stand', () => server.sockets.length === 3);
  for (let i = 0; i < 4; i++) t.is(await fateOfDial(t, forward.from), 'ECONNRESET');
  t.is([...forward.said().matchAll(/3 connections are open; raise --max-connections/g)].length, 1);
  kept[0]?.destroy();
  server.sockets[0]?.destroy();
  await until('a place is free again', async () => {
    const next = await dial(t, host, forward.from).catch(() => undefined);
    if (next === undefined) return false;
    const served = until(
      'it is served, or reset',
      () => next.destroyed || server.sockets.length > 3,
    );
    return (await served) && !next.destroyed;
  });
  forward.child.kill('SIGINT');
  forward.child.kill('SIGINT');
  t.regex((await forward.ended).stderr, /, \d+ turned away\)/);
});

/** The reset may come while connect(2) still waits. */
const fateOfDial = (t: Parameters<typeof dial>[0], address: string): Promise<string> =>
  dial(t, undefined, address).then(fate, (error: NodeJS.ErrnoException) => String(error.code));

test.serial('a server that does not read holds its client back', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  for (const [kind, from] of [
    ['stp', 'tcp:0'],
    ['tcp', 'stp:test:0'],
  ] as const) {
    const server = await serve(t, host, kind);
    const forward = await startForward(t, { runDirectory, args: [from, server.address] });
    const client = await dial(t, host, forward.from);
    const accepted = await until('it stands', () => server.sockets[0]);
    const chunk = Buffer.alloc(1 << 20, 7);
    let taken = 0;
    let lastTakenAt = performance.now();
    const write = (): void =>
      void client.write(chunk, (error) => {
        if (error) return;
        taken += chunk.length;
        lastTakenAt = performance.now();
        if (taken < 1 << 30) write();
      });
    write();
    await until('nothing is taken any more', () => performance.now() - lastTakenAt > 1000);
    /* Two windows of the kernel at their largest, one of the array, and what a forward may hold. */
    t.true(taken < 48 << 20, `${taken} bytes wait somewhere`);
    const arriving = drain(accepted);
    const before = taken;
    await until('it goes on', () => taken > before + (64 << 20));
    client.destroy();
    await arriving;
  }
});

test.serial('without a free descriptor it turns away who comes, and goes on', async (t) => {
  const { runDirectory } = array();
  const server = await serve(t, undefined, 'tcp', (socket) => void socket.pipe(socket as never));
  const forward = await startForward(t, { runDirectory, args: ['tcp:0', server.address] });
  const { from } = forward;
  const prlimit = spawnSync('prlimit', ['--pid', String(forward.child.pid), '--nofile=48']);
  if (prlimit.status !== 0) {
    t.log('skipped: prlimit is not installed (package util-linux)');
    return t.pass();
  }
  const clients: AnySocket[] = [];
  await until('it has none left', async () => {
    const client = await dial(t, undefined, from).catch(() => undefined);
    if (client === undefined) return true; /* turned away before it knew that it was connected */
    clients.push(client);
    client.write('echo');
    /* libuv itself turns away what it cannot accept, and only later Nodes keep that to themselves. */
    const echo = once(client, 'data').catch(() => 'reset');
    const heard = await Promise.race([echo, fate(client)]);
    return typeof heard === 'string';
  });
  for (const client of clients) client.destroy();
  const client = await until('the next one is served', async () => {
    const next = await dial(t, undefined, from).catch(() => undefined);
    if (next === undefined) return undefined;
    next.end('echo');
    const echo = await drain(next).catch(() => undefined);
    return echo?.bytes === 4 && next;
  });
  t.is(client.bytesRead, 4);
  forward.child.kill('SIGINT');
  forward.child.kill('SIGINT');
  t.regex((await forward.ended).stderr, /stpctl: \d+ connections/);
});
