/**
 * Files straight between disk and pages: what moves, what a file that is short, full, growing,
 * shrinking or no file at all does, and that nothing is lost or counted twice by an error.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  constants,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { PAGE_BYTES, WINDOW_BYTES } from '../../../src/layout/tables.js';
import { native } from '../../../src/native.js';
import { BlockingStream } from '../../../src/socket/blocking-stream.js';
import { ringRig } from '../memory/rig.js';
import { content, directory, handleOf, streamPair } from './pair.js';

/** A descriptor that is closed with the test. */
function open(t: ExecutionContext<unknown>, path: string, flags: string | number): number {
  const fd = openSync(path, flags);
  t.teardown(() => closeSync(fd));
  return fd;
}

function fileOf(t: ExecutionContext<unknown>, bytes: Uint8Array): { path: string; fd: number } {
  const path = join(directory(t), 'file');
  writeFileSync(path, bytes);
  return { path, fd: open(t, path, 'r+') };
}

function drained(stream: BlockingStream, bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; ) at += stream.receive(out.subarray(at));
  return out;
}

test('a part of a file goes through pages into a part of another', (t) => {
  const { a, b } = streamPair(t, { cursor: 2 ** 32 - PAGE_BYTES - 77 });
  const whole = content(3 * PAGE_BYTES, 5);
  const from = fileOf(t, whole);
  const to = fileOf(t, Buffer.alloc(10, 'x'));
  t.is(a.sendFile(from.fd, 1000, 2 * PAGE_BYTES), 2 * PAGE_BYTES);
  t.is(b.receiveToFile(to.fd, 10, 2 * PAGE_BYTES), 2 * PAGE_BYTES);
  const got = readFileSync(to.path);
  t.is(got.toString('latin1', 0, 10), 'xxxxxxxxxx');
  t.true(got.subarray(10).equals(whole.subarray(1000, 1000 + 2 * PAGE_BYTES)));
  t.deepEqual([a.bytesSent, b.bytesReceived], [2 * PAGE_BYTES, 2 * PAGE_BYTES]);
});

test('position -1 is where the file stands, and moves it', (t) => {
  const { a, b } = streamPair(t);
  const from = fileOf(t, content(300));
  readSync(from.fd, Buffer.alloc(100));
  t.is(a.sendFile(from.fd, -1, 50), 50);
  t.is(a.sendFile(from.fd, -1, 1000), 150);
  const to = fileOf(t, Buffer.alloc(0));
  t.is(b.receiveToFile(to.fd, -1, 20), 20);
  t.is(b.receiveToFile(to.fd, -1, 180), 180);
  t.true(readFileSync(to.path).equals(content(300).subarray(100)));
});

test('a short file gives what it has: less at its end, 0 behind it, and no bytes at all', (t) => {
  const { a, b } = streamPair(t);
  const { fd } = fileOf(t, content(100));
  t.is(a.sendFile(fd, 60, 1000), 40);
  t.is(a.sendFile(fd, 100, 1000), 0);
  t.is(a.sendFile(fd, 5000, 1000), 0);
  t.is(a.sendFile(fd, 0, 0), 0);
  t.is(a.sendFile(fd, 0, Number.POSITIVE_INFINITY), 100);
  t.is(a.bytesSent, 140);
  t.true(drained(b, 140).equals(Buffer.concat([content(100).subarray(60), content(100)])));
});

test('receiveToFile: fewer bytes only at the orderly end', (t) => {
  const { a, b } = streamPair(t);
  const { path, fd } = fileOf(t, Buffer.alloc(0));
  a.send(content(500));
  a.shutdown();
  t.is(b.receiveToFile(fd, 0, 100), 100);
  t.is(b.receiveToFile(fd, 100, Number.POSITIVE_INFINITY), 400);
  t.is(b.receiveToFile(fd, 500, 1), 0);
  t.true(readFileSync(path).equals(content(500)));
});

test('a file between calls: what has grown is sent, what has shrunk is not', (t) => {
  const { a, b } = streamPair(t);
  const { path, fd } = fileOf(t, content(100));
  t.is(a.sendFile(fd, 0, 1000), 100);
  appendFileSync(path, content(50, 9));
  t.is(a.sendFile(fd, 100, 1000), 50);
  ftruncateSync(fd, 20);
  t.is(a.sendFile(fd, 0, 1000), 20);
  t.is(a.sendFile(fd, 100, 1000), 0);
  const wanted = [content(100), content(50, 9), content(100).subarray(0, 20)];
  t.true(drained(b, 170).equals(Buffer.concat(wanted)));
});

/** A file on its way in another thread, which waits for room: the window is full. */
async function halfSent(t: ExecutionContext<unknown>, fileBytes: number, bytes: number) {
  const rig = ringRig({ boardBytes: 4 << 20 });
  native().connectionInit(rig.stg, 1);
  const file = fileOf(t, content(fileBytes, 3));
  const stream = new BlockingStream(handleOf(rig, 1, 1));
  t.teardown(() => stream.close());
  const handle = handleOf(rig, 1, 0);
  const worker = new Worker(new URL('./file-worker.js', import.meta.url), {
    workerData: { handle, fd: file.fd, bytes },
    transferList: [handle.port],
  });
  const said = once(worker, 'message') as Promise<[{ moved?: number; code?: string }]>;
  const tail = rig.direction('tail', 1);
  const start = rig.segment.load(rig.direction('head', 1));
  while ((rig.segment.load(tail) - start) >>> 0 < WINDOW_BYTES) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { ...file, stream, said, exited: once(worker, 'exit') };
}

for (const { what, change, wanted } of [
  { what: 'shrinks', change: 5 << 20, wanted: 5 << 20 },
  { what: 'grows', change: 8 << 20, wanted: 8 << 20 },
]) {
  test(`a file that ${what} while it is sent ends where it ends then`, async (t) => {
    const sent = await halfSent(t, 6 << 20, Number.POSITIVE_INFINITY);
    const { fd, stream, said, exited } = sent;
    ftruncateSync(fd, change);
    const out = join(directory(t), 'out');
    const into = open(t, out, 'w');
    t.is(stream.receiveToFile(into, 0, Number.POSITIVE_INFINITY), wanted);
    t.deepEqual(await said, [{ moved: wanted }]);
    await exited;
    const whole = Buffer.concat([content(6 << 20, 3), Buffer.alloc(2 << 20)]);
    t.true(readFileSync(out).equals(whole.subarray(0, wanted)));
  });
}

test('a peer that goes away while a file is sent: the error tells it, bytesSent what had gone', async (t) => {
  const { stream, said, exited } = await halfSent(t, 6 << 20, 6 << 20);
  stream.abort();
  t.deepEqual(await said, [{ code: 'ECONNRESET', sent: WINDOW_BYTES }] as never);
  await exited;
});

const isRoot = process.getuid?.() === 0;

test('ENOSPC: what fitted is in the file, the rest is still there to be received', (t) => {
  if (!isRoot) {
    t.log('skipped: needs root, to mount a small tmpfs');
    return t.pass();
  }
  const place = directory(t);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'stpd-test', place], { stdio: 'pipe' });
  } catch (error) {
    t.log(`skipped: no tmpfs can be mounted here: ${(error as Error).message}`);
    return t.pass();
  }
  try {
    const { a, b } = streamPair(t);
    const data = content((1 << 20) + 2 * PAGE_BYTES, 4);
    const path = join(place, 'full');
    const fd = openSync(path, 'w');
    a.send(data);
    const error = t.throws(() => b.receiveToFile(fd, 0, data.length), { code: 'ENOSPC' });
    const stored = statSync(path).size;
    t.is(stored, 1 << 20);
    t.is(b.bytesReceived, stored, 'counted: what is in the file');
    t.regex(error?.message ?? '', new RegExp(`descriptor ${fd} .* ${stored} bytes`));
    t.true(readFileSync(path).equals(data.subarray(0, stored)));
    t.throws(() => b.receiveToFile(fd, stored, 1), { code: 'ENOSPC' }, 'and again');
    closeSync(fd);
    t.true(drained(b, data.length - stored).equals(data.subarray(stored)), 'nothing is lost');
  } finally {
    execFileSync('umount', [place]);
  }
});

test('what is no file: a directory, a closed descriptor, one for the other direction', (t) => {
  const { a, b } = streamPair(t);
  const place = directory(t);
  mkdirSync(join(place, 'sub'));
  const folder = open(t, join(place, 'sub'), constants.O_RDONLY | constants.O_DIRECTORY);
  a.send(content(10));
  t.throws(() => a.sendFile(folder, 0, 10), { code: 'EISDIR', message: /descriptor \d+ failed/ });
  t.throws(() => b.receiveToFile(folder, 0, 10), { code: 'EBADF' });
  const writes = open(t, join(place, 'w'), 'w');
  t.throws(() => a.sendFile(writes, 0, 10), { code: 'EBADF' });
  const reads = open(t, join(place, 'w'), 'r');
  t.throws(() => b.receiveToFile(reads, 0, 10), { code: 'EBADF' });
  for (const fd of [-1, 1.5, Number.NaN, 2 ** 31, 999_999]) {
    t.throws(() => a.sendFile(fd, 0, 1), { code: 'EBADF' }, String(fd));
    t.throws(() => b.receiveToFile(fd, 0, 1), { code: 'EBADF' }, String(fd));
  }
  for (const [position, bytes] of [
    [-2, 1],
    [0.5, 1],
    [Number.NaN, 1],
    [0, -1],
    [0, 1.5],
    [0, Number.NaN],
  ] as const) {
    t.throws(() => a.sendFile(reads, position, bytes), { code: 'EINVAL' });
    t.throws(() => b.receiveToFile(writes, position, bytes), { code: 'EINVAL' });
  }
  t.is(a.bytesSent, 10);
  t.true(drained(b, 10).equals(content(10)), 'nothing of it was sent, nothing was lost');
});

test('a view that is out is named by its own direction', (t) => {
  const { a, b } = streamPair(t);
  const { fd } = fileOf(t, content(10));
  a.send(content(10));
  a.reserve();
  t.throws(() => a.sendFile(fd, 0, 10), { code: 'EBUSY', message: /reserved.*commit it first/ });
  b.peek();
  t.throws(() => b.receiveToFile(fd, 0, 10), { code: 'EBUSY', message: /peeked.*consume it/ });
});

test('pipes: read and written where they stand, with a position ESPIPE', (t) => {
  const { a, b } = streamPair(t);
  const path = join(directory(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const pipe = open(t, path, 'r+');
  writeSync(pipe, content(5000));
  t.throws(() => a.sendFile(pipe, 0, 10), { code: 'ESPIPE' });
  t.is(a.sendFile(pipe, -1, 5000), 5000);
  t.throws(() => b.receiveToFile(pipe, 0, 10), { code: 'ESPIPE' });
  t.is(b.receiveToFile(pipe, -1, 5000), 5000, 'more than one write takes without blocking');
  const got = Buffer.alloc(5000);
  t.is(readSync(pipe, got), 5000);
  t.true(got.equals(content(5000)));
});

test('bytes that the event loop had read go to the file first, and not while they are peeked', (t) => {
  const leading = content(100, 7);
  const { a, b } = streamPair(t, { leading });
  const { path, fd } = fileOf(t, Buffer.alloc(0));
  a.send(content(50, 8));
  b.peek();
  t.throws(() => b.receiveToFile(fd, 0, 150), { code: 'EBUSY' });
  t.throws(() => b.receive(Buffer.alloc(1)), { code: 'EBUSY' });
  t.throws(() => b.recvv([Buffer.alloc(1)]), { code: 'EBUSY' });
  t.throws(() => b.takePage(), { code: 'EBUSY' });
  t.throws(() => b.sendReceive(content(1), Buffer.alloc(1)), { code: 'EBUSY' });
  t.is(b.bytesSent, 0);
  b.consume(10);
  t.is(b.receiveToFile(fd, 0, 140), 140);
  t.true(readFileSync(path).equals(Buffer.concat([leading.subarray(10), content(50, 8)])));
  t.is(b.bytesReceived, 150);
});
