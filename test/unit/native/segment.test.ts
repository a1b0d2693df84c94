/**
 * Memory files and ranges: what is sealed stays sealed, and a range never has a hole.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { endianness, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../../src/native.js';
import { compile } from '../../native/compiler.js';
import { addon, descriptorFlags, O_CLOEXEC, runChild } from './child.js';

const PAGE = 4096;
const BYTES = 16 * PAGE;
const NOBODY = 65534;

/** A sealed memory file that the test closes. */
function memoryFile(t: ExecutionContext, bytes = BYTES, future = false): number {
  const fd = native().memfdCreate('stpd-test');
  t.teardown(() => native().closeDescriptor(fd));
  native().claim(fd, bytes);
  native().seal(fd, future);
  return fd;
}

const code = (run: () => unknown): unknown => {
  try {
    run();
  } catch (e) {
    return (e as NodeJS.ErrnoException).code;
  }
  return undefined;
};

test('byte order is what the tables say', (t) => t.is(endianness(), 'LE'));

test('a memory file is private to its user, close-on-exec and named', (t) => {
  const fd = native().memfdCreate('stpd-named');
  t.teardown(() => native().closeDescriptor(fd));
  t.is(fstatSync(fd).mode & 0o7777, 0o600);
  t.truthy(descriptorFlags(fd) & O_CLOEXEC);
  t.is(readlinkSync(`/proc/self/fd/${fd}`), '/memfd:stpd-named (deleted)');
});

test('claim sets the size and takes the space at once', (t) => {
  const fd = native().memfdCreate('stpd-test');
  t.teardown(() => native().closeDescriptor(fd));
  const bytes = 80 << 20;
  native().claim(fd, bytes);
  const { size, blocks } = fstatSync(fd);
  t.is(size, bytes);
  t.true(blocks * 512 >= bytes);
});

test('claim of more than there is fails, and says of what', (t) => {
  const { stdout, status } = runChild(
    `const fd = native().memfdCreate('stpd-test');
     try { native().claim(fd, 1 << 20); } catch (e) {
       console.log(e.code, e.errno, e.syscall, e.message);
     }`,
    // A limit on file sizes (64 blocks) stands for a full machine; its signal is ignored, as Node does.
    { through: ['/bin/sh', '-c', 'ulimit -f 64; trap "" XFSZ; exec "$@"', 'sh'] },
  );
  t.is(status, 0);
  t.is(stdout.trim(), 'EFBIG -27 ftruncate EFBIG: ftruncate: File too large');
});

test('a sealed file neither grows nor shrinks nor takes another seal', (t) => {
  const fd = memoryFile(t);
  t.is(
    code(() => ftruncateSync(fd, BYTES + PAGE)),
    'EPERM',
  );
  t.is(
    code(() => ftruncateSync(fd, BYTES - PAGE)),
    'EPERM',
  );
  t.is(
    code(() => native().claim(fd, 2 * BYTES)),
    'EPERM',
  );
  t.is(
    code(() => native().seal(fd, true)),
    'EPERM',
  );
  t.is(
    code(() => native().seal(fd, false)),
    'EPERM',
  );
  t.is(writeSync(fd, 'still writable'), 14);
});

test('a host that gets a FUTURE_WRITE file reads it and cannot write it in any way', (t) => {
  const fd = native().memfdCreate('stpd-test');
  t.teardown(() => native().closeDescriptor(fd));
  native().claim(fd, BYTES);
  const own = native().reserve(BYTES);
  native().map(own.segment, 0, fd, BYTES, true);
  native().seal(fd, true);
  const words = new Uint32Array(own.buffer);
  words[0] = 42;

  const { stdout, stderr } = runChild(
    `import fs from 'node:fs';
     const attempt = (what, run) => {
       try { console.log(what, run() ?? 'done'); } catch (e) { console.log(what, e.code); }
     };
     const { segment, buffer } = native().reserve(${BYTES});
     native().verifySealed(3, ${BYTES});
     attempt('map writable', () => native().map(segment, 0, 3, ${BYTES}, true));
     attempt('map', () => native().map(segment, 0, 3, ${BYTES}, false));
     attempt('read', () => new Uint32Array(buffer)[0]);
     attempt('write', () => fs.writeSync(3, 'x'));
     attempt('reopened', () => fs.writeSync(fs.openSync('/proc/self/fd/3', 'r+'), 'x'));
     attempt('seal', () => native().seal(3, false));
     attempt('truncate', () => fs.ftruncateSync(3, 0));`,
    { fds: [fd] },
  );
  t.is(stderr, '');
  t.deepEqual(stdout.trim().split('\n'), [
    'map writable EPERM',
    'map done',
    'read 42',
    'write EPERM',
    'reopened EPERM',
    'seal EPERM',
    'truncate EPERM',
  ]);
  words[0] = 43;
  t.is(words[0], 43, 'the mapping made before the seal goes on writing');
});

test('a store into a file that is mapped read-only kills the host, and not the file', (t) => {
  const fd = memoryFile(t);
  const { signal } = runChild(
    `const { segment, buffer } = native().reserve(${BYTES});
     native().map(segment, 0, 3, ${BYTES}, false);
     new Uint32Array(buffer)[0] = 1;`,
    { fds: [fd] },
  );
  t.is(signal, 'SIGSEGV');
  const word = Buffer.alloc(4);
  readSync(fd, word, 0, 4, 0);
  t.is(word.readUInt32LE(), 0);
});

const asRoot = process.getuid?.() === 0 ? test : test.skip;
if (process.getuid?.() !== 0) console.log('skipped: another user’s view needs root');

asRoot('another user cannot reopen a memory file that was passed to him', (t) => {
  const fd = memoryFile(t);
  const open = memoryFile(t);
  fchmodSync(open, 0o666);
  const { stdout } = runChild(
    `import fs from 'node:fs';
     for (const fd of [3, 4]) for (const flags of ['r', 'r+']) {
       try { fs.openSync('/proc/self/fd/' + fd, flags); console.log('opened'); }
       catch (e) { console.log(e.code); }
     }`,
    { fds: [fd, open], uid: NOBODY, bare: true },
  );
  t.deepEqual(stdout.trim().split('\n'), ['EACCES', 'EACCES', 'opened', 'opened']);
});

test('a memory file cannot be made executable, where the kernel has that seal', (t) => {
  const [major = 0, minor = 0] = readFileSync('/proc/sys/kernel/osrelease', 'utf8')
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  if (major < 6 || (major === 6 && minor < 3)) {
    t.log('skipped: MFD_NOEXEC_SEAL needs Linux 6.3');
    t.pass();
    return;
  }
  t.is(
    code(() => fchmodSync(memoryFile(t), 0o700)),
    'EPERM',
  );
});

test('verifySealed refuses what a host could not rely on', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-segment-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'file'), Buffer.alloc(BYTES));
  const ordinary = openSync(join(directory, 'file'), constants.O_RDWR);
  t.teardown(() => closeSync(ordinary));
  const unsealed = native().memfdCreate('stpd-test');
  t.teardown(() => native().closeDescriptor(unsealed));
  native().claim(unsealed, BYTES);
  const sealed = memoryFile(t);

  t.notThrows(() => native().verifySealed(sealed, BYTES));
  for (const [fd, bytes] of [
    [sealed, BYTES - PAGE],
    [sealed, BYTES + PAGE],
    [unsealed, BYTES],
    [ordinary, BYTES],
  ] as const) {
    t.throws(() => native().verifySealed(fd, bytes), { code: 'EPERM' });
  }
});

test('a reserved range reads as zeros and can be shown', (t) => {
  const { segment, buffer } = native().reserve(BYTES);
  t.true(segment > 0);
  t.true(buffer instanceof SharedArrayBuffer);
  t.is(buffer.byteLength, BYTES);
  t.true(new Uint8Array(buffer).every((byte) => byte === 0));
  t.is(Atomics.load(new Int32Array(buffer), 5), 0);
  t.regex(inspect(buffer), /SharedArrayBuffer/);
  t.regex(inspect(new Uint8Array(buffer)), /Uint8Array/);
});

test('a store into a reserved range kills the process', (t) => {
  const { signal } = runChild(
    `const { buffer } = native().reserve(${BYTES}); new Uint8Array(buffer)[0] = 1;`,
  );
  t.is(signal, 'SIGSEGV');
});

test('a file shows in every range it is mapped into', (t) => {
  const fd = memoryFile(t);
  const [a, b] = [native().reserve(2 * BYTES), native().reserve(BYTES)];
  native().map(a.segment, BYTES, fd, BYTES, true);
  native().map(b.segment, 0, fd, BYTES, false);
  const words = new Uint32Array(a.buffer);
  words[BYTES / 4 + 7] = 0xfeed;
  t.is(new Uint32Array(b.buffer)[7], 0xfeed);
  t.is(words[7], 0, 'the part before it is still zero memory');
});

test('only as much of a file as was asked for is mapped', (t) => {
  const fd = memoryFile(t);
  const { segment, buffer } = native().reserve(BYTES);
  writeSync(fd, Buffer.alloc(BYTES, 0xaa), 0, BYTES, 0);
  native().map(segment, 0, fd, PAGE, true);
  const bytes = new Uint8Array(buffer);
  t.is(bytes[PAGE - 1], 0xaa);
  t.is(bytes[PAGE], 0);
});

test('what does not fit the range, the file or a page is a RangeError', (t) => {
  const fd = memoryFile(t);
  const { segment } = native().reserve(BYTES);
  const wrong: readonly [string, () => void][] = [
    ['longer than the range', () => native().map(segment, PAGE, fd, BYTES, true)],
    ['beyond the range', () => native().map(segment, BYTES, fd, PAGE, true)],
    ['far beyond it', () => native().map(segment, 2 ** 46, fd, PAGE, true)],
    ['within a page', () => native().map(segment, 1, fd, PAGE, true)],
    ['part of a page', () => native().map(segment, 0, fd, PAGE + 1, true)],
    ['nothing', () => native().map(segment, 0, fd, 0, true)],
    ['negative', () => native().map(segment, -PAGE, fd, PAGE, true)],
    ['not a number', () => native().map(segment, Number.NaN, fd, PAGE, true)],
    ['no segment 0', () => native().map(0, 0, fd, PAGE, true)],
    ['no such segment', () => native().map(999, 0, fd, PAGE, true)],
    ['a segment past the table', () => native().map(2 ** 31, 0, fd, PAGE, true)],
    ['zero memory beyond the range', () => native().unmapToZero(segment, PAGE, BYTES)],
    ['a range of nothing', () => native().reserve(0)],
    ['a range within a page', () => native().reserve(PAGE + 1)],
    ['a negative descriptor', () => native().map(segment, 0, -1, PAGE, true)],
  ];
  for (const [what, run] of wrong) {
    t.throws(run, { instanceOf: RangeError, code: 'EINVAL' }, what);
  }
  const { segment: large } = native().reserve(2 * BYTES);
  t.throws(() => native().map(large, 0, fd, 2 * BYTES, true), { instanceOf: RangeError });
});

test('a map that fails leaves the range as it was', (t) => {
  const fd = memoryFile(t, BYTES, true);
  const before = memoryFile(t);
  const { segment, buffer } = native().reserve(2 * BYTES);
  native().map(segment, 0, before, BYTES, true);
  const words = new Uint32Array(buffer);
  words[0] = 7;
  t.throws(() => native().map(segment, 0, fd, BYTES, true), {
    code: 'EPERM',
    message: 'EPERM: mmap: Operation not permitted',
  });
  t.throws(() => native().map(segment, BYTES, 1_000_000, BYTES, true), { code: 'EBADF' });
  t.is(words[0], 7);
  t.is(words[BYTES / 4], 0);
});

test('a part that is taken away reads as zeros and takes late stores', (t) => {
  const fd = memoryFile(t);
  const { segment, buffer } = native().reserve(BYTES);
  native().map(segment, 0, fd, BYTES, true);
  const words = new Uint32Array(buffer);
  words[0] = 7;
  native().unmapToZero(segment, 0, BYTES);
  t.is(words[0], 0);
  words[0] = 8;
  const word = Buffer.alloc(4);
  readSync(fd, word, 0, 4, 0);
  t.is(word.readUInt32LE(), 7, 'the file keeps what it had');
});

test('a worker sees a file that is mapped after it got the buffer', async (t) => {
  const { segment, buffer } = native().reserve(BYTES);
  const gate = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(
    `const { workerData: { buffer, gate }, parentPort } = require('node:worker_threads');
     const words = new Uint32Array(buffer);
     const before = words[3];
     Atomics.store(gate, 0, 1); Atomics.notify(gate, 0);
     Atomics.wait(gate, 1, 0);
     parentPort.postMessage([before, words[3]]);`,
    { eval: true, workerData: { buffer, gate } },
  );
  const seen = new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  while (Atomics.load(gate, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const fd = memoryFile(t);
  native().map(segment, 0, fd, BYTES, true);
  new Uint32Array(buffer)[3] = 0xcafe;
  Atomics.store(gate, 1, 1);
  Atomics.notify(gate, 1);
  t.deepEqual(await seen, [0, 0xcafe]);
  await worker.terminate();
});

test('a range outlives the worker that reserved it', (t) => {
  const { stdout, stderr, status } = runChild(
    `import { Worker } from 'node:worker_threads';
     const worker = new Worker(
       "import { parentPort } from 'node:worker_threads';" +
       "const { native } = await import(process.env.ADDON);" +
       "parentPort.postMessage(native().reserve(${BYTES}));",
       { eval: true });
     const exited = new Promise((resolve) => worker.once('exit', resolve));
     const range = await new Promise((resolve) => worker.once('message', resolve));
     await exited;
     const { native } = await import(process.env.ADDON);   // main loads it for the first time
     const fd = native().memfdCreate('stpd-test');
     native().claim(fd, ${BYTES});
     native().map(range.segment, 0, fd, ${BYTES}, true);
     new Uint8Array(range.buffer)[9] = 9;
     console.log(new Uint8Array(range.buffer)[9], native().reserve(4096).segment);`,
    { bare: true, env: { ADDON: addon } },
  );
  t.is(stderr, '');
  t.is(status, 0);
  t.is(stdout.trim(), '9 2');
});

test('threads that reserve at once get different segments', (t) => {
  const { stdout, stderr } = runChild(
    `import { Worker } from 'node:worker_threads';
     const reserveMany = "import { parentPort } from 'node:worker_threads';" +
       "const { native } = await import(process.env.ADDON);" +
       "const reserve = () => native().reserve(4096).segment;" +
       "parentPort.postMessage(Array.from({ length: 100 }, reserve));";
     const all = await Promise.all([1, 2, 3, 4].map(() => new Promise((resolve, reject) => {
       const worker = new Worker(reserveMany, { eval: true });
       worker.once('message', resolve); worker.once('error', reject);
     })));
     console.log(new Set(all.flat()).size);`,
    { bare: true, env: { ADDON: addon } },
  );
  t.is(stderr, '');
  t.is(stdout.trim(), '400');
});

test('a process that has used up its segments is told so', (t) => {
  const { stdout } = runChild(
    `let count = 0;
     try { for (;;) { native().reserve(4096); count++; } }
     catch (e) { console.log(count, e.code, e.message); }`,
  );
  t.regex(stdout, /^1024 ENOMEM ENOMEM: mmap: Cannot allocate memory, .*1024 times.*new process/);
});

test('garbage collection of a buffer leaves its range in place', (t) => {
  const { stdout, stderr, status } = runChild(
    `import { readFileSync } from 'node:fs';
     const collected = [];
     const registry = new FinalizationRegistry((held) => collected.push(held));
     const ranges = () => readFileSync('/proc/self/maps', 'utf8').split('\\n')
       .filter((line) => {
         const [from, to] = line.split(' ')[0].split('-').map((part) => parseInt(part, 16));
         return to - from === 1 << 30;
       }).length;
     const reserve = () => {
       const { segment, buffer } = native().reserve(1 << 30);
       registry.register(buffer, segment);
       return segment;
     };
     const segment = reserve();
     for (let i = 0; i < 100 && collected.length === 0; i++) {
       gc();
       await new Promise((resolve) => setTimeout(resolve, 10));
     }
     const fd = native().memfdCreate('stpd-test');
     native().claim(fd, ${BYTES});
     console.log(collected.length, ranges());
     native().map(segment, 0, fd, ${BYTES}, true);
     console.log('mapped');`,
    { flags: ['--expose-gc'] },
  );
  t.is(stderr, '');
  t.is(status, 0);
  t.is(stdout, '1 1\nmapped\n');
});

test('a V8 that refuses foreign memory gives an error that says what to do', (t) => {
  // The function that newer Nodes have, as a sandboxed one would answer; older ones find this.
  const directory = mkdtempSync(join(tmpdir(), 'stpd-sandbox-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const refusing = compile(
    directory,
    'refuse.so',
    'c',
    'int node_api_create_external_sharedarraybuffer() { return 22; }',
    ['-shared', '-fPIC'],
  );
  /* Behind a sanitizer's, which insists on being the first (npm run test:sanitize). */
  const preload = `${process.env.LD_PRELOAD ?? ''} ${refusing}`.trim();
  const { stdout } = runChild(
    `try { native().reserve(4096); console.log('reserved'); }
     catch (e) { console.log(e.code, e.message); }`,
    { env: { LD_PRELOAD: preload } },
  );
  if (stdout === 'reserved\n') {
    t.log('skipped: this Node has the function itself');
    t.pass();
    return;
  }
  t.regex(stdout, /^ENOTSUP ENOTSUP: SharedArrayBuffer: .*V8 sandbox.*nodejs\.org/);
});
