/**
 * Files straight between disk and pages on an event loop: sendFile and receiveToFile of StpSocket.
 */
import { once } from 'node:events';
import {
  closeSync,
  constants,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach, type Host, native, type StpSocket } from '../../src/index.js';
import { WINDOW_BYTES } from '../../src/layout/tables.js';
import { type ArrayForTest, startArray, until } from '../support/array.js';
import { content } from '../unit/socket/pair.js';

interface Setting {
  readonly array: ArrayForTest;
  readonly host: Host;
  readonly client: StpSocket;
  readonly accepted: StpSocket;
  /** A descriptor, closed with the test. */
  open(name: string, flags?: string | number): number;
  path(name: string): string;
}

async function setting(t: ExecutionContext<unknown>): Promise<Setting> {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const server = host.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  server.listen(0);
  await once(server, 'listening');
  const client = host.connect({ port: server.address()?.port ?? 0, allowHalfOpen: true });
  const [accepted] = (await once(server, 'connection')) as [StpSocket];
  if (client.connecting) await once(client, 'connect');
  const directory = mkdtempSync(join(tmpdir(), 'stpd-files-'));
  const descriptors: number[] = [];
  t.teardown(() => {
    for (const fd of descriptors) closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  const path = (name: string): string => join(directory, name);
  const open = (name: string, flags: string | number = 'w+'): number => {
    const fd = openSync(name.startsWith('/') ? name : path(name), flags);
    descriptors.push(fd);
    return fd;
  };
  return { array, host, client, accepted, open, path };
}

function fill(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
}

/** Not by `for await`: that destroys the socket. */
async function all(socket: StpSocket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part));
  socket.resume(); /* where it was paused from the start */
  await once(socket, 'end');
  return Buffer.concat(parts);
}

test.serial(
  'a file goes behind what was written, and before what is written meanwhile',
  async (t) => {
    const { client, accepted, open } = await setting(t);
    const bytes = content(3_000_001);
    const fd = open('from');
    fill(fd, bytes);
    const got = all(accepted);
    client.cork();
    client.write('head');
    const first = client.sendFile(fd, 0, 2_000_000);
    client.write('between');
    const second = client.sendFile(fd, 2_000_000, Number.POSITIVE_INFINITY);
    client.end('tail');
    client.uncork();
    t.deepEqual(await Promise.all([first, second]), [2_000_000, 1_000_001]);
    const expected = [
      Buffer.from('head'),
      bytes.subarray(0, 2_000_000),
      Buffer.from('between'),
      bytes.subarray(2_000_000),
      Buffer.from('tail'),
    ];
    t.true((await got).equals(Buffer.concat(expected)));
    t.is(client.bytesWritten, bytes.length + 15);
  },
);

test.serial('a write while a file goes does not overtake it, however short', async (t) => {
  const { client, accepted, open } = await setting(t);
  const fd = open('from');
  fill(fd, content(100_000));
  const got = all(accepted);
  const sent = client.sendFile(fd, 0, 100_000);
  client.write(Buffer.from('!')); /* alone it would go past the queue */
  await sent;
  client.end();
  t.true((await got).equals(Buffer.concat([content(100_000), Buffer.from('!')])));
});

test.serial('from file to file, many windows long, and the end is the end', async (t) => {
  const { client, accepted, open, path } = await setting(t);
  const bytes = content(3 * WINDOW_BYTES + 12_345);
  const from = open('from');
  fill(from, bytes);
  const into = open('into');
  const received = accepted.receiveToFile(into, 100, Number.POSITIVE_INFINITY);
  const ended = once(accepted, 'end');
  t.is(await client.sendFile(from, 0, bytes.length), bytes.length);
  client.end();
  t.is(await received, bytes.length);
  t.true(readFileSync(path('into')).subarray(100).equals(bytes));
  t.is(accepted.bytesRead, bytes.length);
  accepted.resume();
  await ended;
});

test.serial('what was read already goes first, and what is left over is read on', async (t) => {
  const { client, accepted, open, path } = await setting(t);
  client.write('header:body');
  accepted.resume();
  const [chunk] = (await once(accepted, 'data')) as [Buffer];
  accepted.pause();
  t.is(String(chunk), 'header:body');
  accepted.unshift(chunk.subarray(7));
  client.write('-more, rest');
  const into = open('into');
  t.is(await accepted.receiveToFile(into, 0, 9), 9);
  t.is(readFileSync(path('into'), 'utf8'), 'body-more');
  accepted.resume();
  t.is(String((await once(accepted, 'data'))[0]), ', rest');
  t.is(accepted.bytesRead, 22);
});

test.serial('where the file stands: -1', async (t) => {
  const { client, accepted, open, path } = await setting(t);
  writeFileSync(path('from'), 'abcdef');
  const from = open('from', 'r');
  const into = open('into');
  t.is(await client.sendFile(from, -1, 2), 2);
  t.is(await client.sendFile(from, -1, 100), 4, 'to its end');
  t.is(await accepted.receiveToFile(into, -1, 4), 4);
  t.is(await accepted.receiveToFile(into, -1, 2), 2);
  t.is(readFileSync(path('into'), 'utf8'), 'abcdef');
});

test.serial(
  'a file that is shorter or grows meanwhile: as much as there is, and no more than asked',
  async (t) => {
    const { client, accepted, open } = await setting(t);
    const fd = open('from');
    fill(fd, content(1000));
    t.is(await client.sendFile(fd, 0, 5000), 1000);
    t.is(await client.sendFile(fd, 1000, 10), 0);
    t.is(await client.sendFile(fd, 0, 0), 0);
    /* Longer than a window: the reader below sees to it that it has not ended when it grows. */
    fill(fd, content(WINDOW_BYTES + 100_000));
    const bytes = WINDOW_BYTES + 300_000;
    const sent = client.sendFile(fd, 0, bytes);
    await until('the window is full', () => client.bytesWritten === WINDOW_BYTES);
    fill(fd, content(WINDOW_BYTES + 400_000));
    accepted.resume();
    t.is(await sent, bytes);
    ftruncateSync(fd, 10);
    t.is(await client.sendFile(fd, 0, bytes), 10);
  },
);

test.serial('what is no file, cannot be read, cannot be written', async (t) => {
  const { client, accepted, open, path } = await setting(t);
  const unread = { instanceOf: Error, code: 'EBADF' };
  await t.throwsAsync(client.sendFile(1 << 20, 0, 1), unread);
  await t.throwsAsync(client.sendFile(-1, 0, 1), unread);
  await t.throwsAsync(client.sendFile(open('out', 'w'), 0, 1), unread);
  await t.throwsAsync(client.sendFile(open(path('.'), constants.O_RDONLY), 0, 1), {
    code: 'EISDIR',
  });
  await t.throwsAsync(client.sendFile(open('/dev/null', 'r'), 0, 1), { code: 'EINVAL' });
  for (const [position, bytes] of [
    [-2, 1],
    [0.5, 1],
    [0, -1],
    [0, Number.NaN],
  ] as const) {
    await t.throwsAsync(client.sendFile(0, position, bytes), { code: 'EINVAL' });
    await t.throwsAsync(client.receiveToFile(0, position, bytes), { code: 'EINVAL' });
  }
  accepted.write('kept');
  await t.throwsAsync(client.receiveToFile(open('out', 'r'), 0, 4), unread);
  const into = open('into');
  t.is(await client.receiveToFile(into, 0, 4), 4, 'nothing is lost by it');
  t.is(readFileSync(path('into'), 'utf8'), 'kept');
  client.write('still open');
  accepted.resume();
  t.is(String((await once(accepted, 'data'))[0]), 'still open');
});

test.serial(
  'a file that takes no more: what it took is counted, the rest is still to be read',
  async (t) => {
    const { client, accepted } = await setting(t);
    const limit = 200_000;
    const into = native().memfdCreate('stpd-test-full');
    t.teardown(() => native().closeDescriptor(into));
    ftruncateSync(into, limit);
    native().seal(into, false); /* it can neither shrink nor grow: EPERM where a disk says ENOSPC */
    const bytes = content(300_000);
    client.end(bytes);
    await t.throwsAsync(accepted.receiveToFile(into, 0, bytes.length), { code: 'EPERM' });
    const took = accepted.bytesRead;
    t.true(took > 0 && took <= limit);
    t.true((await all(accepted)).equals(bytes.subarray(took)));
  },
);

test.serial('an aborted transfer ends; the socket goes on', async (t) => {
  const { client, accepted, open } = await setting(t);
  const fd = open('from');
  const bytes = content(WINDOW_BYTES + 500_000);
  fill(fd, bytes);
  const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
  const signal = AbortSignal.abort();
  await t.throwsAsync(client.sendFile(fd, 0, 1, { signal }), aborted);
  await t.throwsAsync(accepted.receiveToFile(fd, 0, 1, { signal }), aborted);
  t.is(client.bytesWritten, 0);
  const one = new AbortController();
  const two = new AbortController();
  const sent = client.sendFile(fd, 0, bytes.length, { signal: one.signal });
  const waits = client.sendFile(fd, 0, bytes.length, { signal: two.signal });
  await until('the window is full', () => client.bytesWritten === WINDOW_BYTES);
  two.abort();
  one.abort();
  await t.throwsAsync(sent, aborted);
  await t.throwsAsync(waits, aborted);
  client.end('after it');
  const got = await all(accepted);
  t.true(got.equals(Buffer.concat([bytes.subarray(0, WINDOW_BYTES), Buffer.from('after it')])));
  const stop = new AbortController();
  const received = client.receiveToFile(open('into'), 0, 10, { signal: stop.signal });
  await new Promise((resolve) => setTimeout(resolve, 20));
  stop.abort();
  await t.throwsAsync(received, aborted);
  accepted.end('read on');
  t.is(String(await all(client)), 'read on');
});

test.serial('destroyed, aborted by the peer, not connected, ended, twice', async (t) => {
  const { host, client, accepted, open } = await setting(t);
  const fd = open('from');
  fill(fd, content(WINDOW_BYTES + 500_000));
  await t.throwsAsync(new host.Socket().sendFile(fd, 0, 1), { code: 'ENOTCONN' });
  await t.throwsAsync(new host.Socket().receiveToFile(fd, 0, 1), { code: 'ENOTCONN' });
  const received = client.receiveToFile(open('into'), 0, 1);
  await t.throwsAsync(client.receiveToFile(fd, 0, 1), { code: 'EBUSY' });
  t.throws(() => client.detach(), { code: 'EBUSY' });
  const sent = client.sendFile(fd, 0, Number.POSITIVE_INFINITY);
  const queued = client.sendFile(fd, 0, 1);
  await until('the window is full', () => client.bytesWritten === WINDOW_BYTES);
  client.on('error', () => {});
  accepted.resetAndDestroy();
  await t.throwsAsync(sent, { code: 'ECONNRESET' });
  await t.throwsAsync(queued, { code: 'ECONNRESET' });
  await t.throwsAsync(received, { code: 'ECONNRESET' });
  await t.throwsAsync(client.sendFile(fd, 0, 1), { code: 'ENOTCONN' });

  const other = await setting(t);
  other.client.end();
  await t.throwsAsync(other.client.sendFile(fd, 0, 1), { code: 'EPIPE' });
  t.false(other.client.destroyed);
  const running = other.accepted.sendFile(fd, 0, Number.POSITIVE_INFINITY);
  await until('it runs', () => other.accepted.bytesWritten > 0);
  other.accepted.destroy();
  await t.throwsAsync(running, { code: 'ECANCELED' });
});

test.serial(
  'destroyed while the pool has the pages: they go back afterwards, and all of them',
  async (t) => {
    const { array, host, client, accepted, open } = await setting(t);
    const fd = open('from');
    fill(fd, content(WINDOW_BYTES));
    client.destroy();
    accepted.destroy();
    const server = host.createServer({ pauseOnConnect: true });
    server.listen(0);
    await once(server, 'listening');
    for (let i = 0; i < 50; i++) {
      const one = host.connect({ port: server.address()?.port ?? 0 });
      const [other] = (await once(server, 'connection')) as [StpSocket];
      if (one.connecting) await once(one, 'connect');
      const sent = one.sendFile(fd, 0, WINDOW_BYTES);
      const received = other.receiveToFile(open(`into${i}`), 0, WINDOW_BYTES);
      for (let turns = 0; turns < i % 5; turns++) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      other.on('error', () => {});
      one.on('error', () => {});
      one.destroy();
      if (i % 2 === 0) other.destroy();
      await Promise.allSettled([sent, received]);
      other.destroy();
    }
    await until('no page is in use', async () => {
      const [stg] = await array.list<StgReport>('stg', 'list');
      return stg?.pagesFree === stg?.pagesTotal && stg?.connectionsUsed === 0;
    });
    t.pass();
  },
);

test.serial('the loop goes on while a file is moved', async (t) => {
  const { client, accepted, open, path } = await setting(t);
  const from = open('from');
  fill(from, content(2 * WINDOW_BYTES));
  let turns = 0;
  let moving = true;
  const count = (): void => {
    turns++;
    if (moving) setImmediate(count);
  };
  setImmediate(count);
  const received = accepted.receiveToFile(open('into'), 0, 2 * WINDOW_BYTES);
  await client.sendFile(from, 0, 2 * WINDOW_BYTES);
  await received;
  moving = false;
  t.true(turns >= 16, `${turns} turns for 16 reads of 512 KiB`);
  t.true(readFileSync(path('into')).equals(readFileSync(path('from'))));
});
