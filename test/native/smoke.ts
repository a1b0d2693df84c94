/**
 * A program, not a test file: shows that the addon works in the Node that runs it.
 * `npm run test:nodes` runs it in each supported Node. Prints a line a step; exit code 0 or 1.
 */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../src/native.js';

const BYTES = 1 << 20;
const MARK = 0x5eed;
const WATCHDOG_MS = 30_000;

interface WorkerInput {
  readonly segment: number;
  readonly buffer: SharedArrayBuffer;
  readonly socket: number;
}

/** Loads the addon in this thread too, finds what main mapped, and maps what main has not. */
function runWorker(): void {
  const { segment, buffer, socket } = workerData as WorkerInput;
  const words = new Uint32Array(buffer);
  const watch = native().watchStart(socket, 1, () => {
    native().watchStop(watch);
    const message = native().receiveMessage(socket, 64);
    const [file] = message?.fds ?? [];
    assert(file !== undefined, 'a descriptor came with the message');
    native().map(segment, BYTES, file, BYTES, true);
    native().closeDescriptor(file);
    parentPort?.postMessage([words[0], words[BYTES / 4]]);
  });
  native().watchRef(watch, true);
  parentPort?.postMessage('ready');
}

function memoryFile(first: number): number {
  const fd = native().memfdCreate('stpd-smoke');
  native().claim(fd, BYTES);
  native().seal(fd, false);
  native().verifySealed(fd, BYTES);
  const scratch = native().reserve(BYTES);
  native().map(scratch.segment, 0, fd, BYTES, true);
  new Uint32Array(scratch.buffer)[0] = first;
  return fd;
}

async function runMain(): Promise<void> {
  const say = (text: string) => process.stdout.write(`${text}\n`);
  const { segment, buffer } = native().reserve(2 ** 32);
  const words = new Uint32Array(buffer, 0, (2 * BYTES) / 4);
  assert.equal(words[0], 0);
  say('load, reserve: 4 GiB of zeros');

  const own = memoryFile(MARK);
  native().map(segment, 0, own, BYTES, true);
  assert.equal(words[0], MARK);
  native().closeDescriptor(own);
  say('map: the file shows in the range');

  const [mine, theirs] = native().socketPair(false);
  const input: WorkerInput = { segment, buffer, socket: theirs };
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: input });
  /* From the start: the worker may be gone before its last message has been looked at. */
  const exited = once(worker, 'exit');
  await once(worker, 'message');
  const passed = memoryFile(MARK + 1);
  assert(native().sendMessage(mine, Buffer.from('map this'), [passed]));
  const [seen] = await once(worker, 'message');
  assert.deepEqual(seen, [MARK, MARK + 1]);
  assert.equal(words[BYTES / 4], MARK + 1);
  say('worker: received a descriptor and mapped it into the same range');

  const [code] = await exited;
  assert.equal(code, 0);
  native().unmapToZero(segment, 0, BYTES);
  assert.equal(words[0], 0);
  for (const fd of [mine, theirs, passed]) native().closeDescriptor(fd);
  say('unmap: zeros again');
}

if (isMainThread) {
  const watchdog = setTimeout(() => {
    process.stderr.write(`smoke: no end after ${WATCHDOG_MS} ms\n`);
    process.exit(1);
  }, WATCHDOG_MS);
  await runMain();
  clearTimeout(watchdog);
} else {
  runWorker();
}
