/**
 * The worker's half of a mover: opens the stream, runs the job, and says how it ended. A job that
 * throws resets its stream, so that the peer notices at once. Worker threads only.
 */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { assert } from '../assert.js';
import { BlockingStream } from '../socket/blocking-stream.js';
import {
  type MoverData,
  type MoverMessage,
  type MoverResult,
  RELEASE,
  type Totals,
} from './mover.js';
import { reasonOf } from './reason.js';
import { pathFromBytes } from './wire-path.js';

/** Where in the progress array the bytes through the stream stand. */
const MOVED = 2;

/** The stream of a job, with its bytes counted. */
export class MoverStream {
  /** Told to the event loop without a message: [entries, bytes of file data, bytes moved]. */
  readonly progress: Float64Array;
  readonly #stream: BlockingStream;
  #complaints = 0;

  constructor(stream: BlockingStream, progress: Float64Array) {
    this.#stream = stream;
    this.progress = progress;
  }

  reserve(): Uint8Array {
    return this.#stream.reserve();
  }

  commit(bytes: number): void {
    this.#stream.commit(bytes);
    this.progress[MOVED] = this.#stream.bytesSent;
  }

  peek(): Uint8Array | null {
    return this.#stream.peek();
  }

  consume(bytes: number): void {
    this.#stream.consume(bytes);
    this.progress[MOVED] = this.#stream.bytesReceived;
  }

  /** No more bytes from here. */
  shutdown(): void {
    this.#stream.shutdown();
  }

  complain(problem: { path: Uint8Array; code: string; message: string }): void {
    this.#complaints++;
    const { path, code, message } = problem;
    post({ type: 'complaint', complaint: { path: pathFromBytes(path), code, message } });
  }

  totals(entries: number, bytes: number): Totals {
    const moved = this.#stream.bytesSent + this.#stream.bytesReceived;
    return { entries, bytes, moved, complaints: this.#complaints };
  }
}

const post = (message: MoverMessage<unknown>): void => parentPort?.postMessage(message);

function ownPort(): MessagePort {
  assert(parentPort !== null, 'a mover runs in a worker');
  return parentPort;
}

const nextMessage = (): Promise<unknown> =>
  new Promise((resolve) => {
    ownPort().once('message', resolve);
  });

/** All is moved; waits until the event loop says that both sides agree. */
export async function hold(totals: Totals): Promise<void> {
  const released = nextMessage();
  post({ type: 'held', totals });
  assert((await released) === RELEASE, 'a mover with a job is told one thing only');
}

/** Runs the one job of this worker and ends it. */
export async function runMover<J, R>(
  run: (job: J, stream: MoverStream) => MoverResult<R> | Promise<MoverResult<R>>,
): Promise<void> {
  const { handle, job, progress } = (await nextMessage()) as MoverData<J>;
  const stream = new BlockingStream(handle);
  try {
    const { totals, result } = await run(job, new MoverStream(stream, progress));
    stream.close();
    post({ type: 'done', totals, result });
  } catch (e) {
    stream.abort();
    post({ type: 'failed', ...reasonOf(e) });
  }
}
