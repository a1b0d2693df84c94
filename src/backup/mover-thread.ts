/**
 * The worker's half of a mover: opens the stream, runs the job, and says how it ended. A job that
 * throws resets its stream, so that the peer notices at once. Worker threads only.
 */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { assert } from '../assert.js';
import { BlockingStream } from '../socket/blocking-stream.js';
import type {
  MoverData,
  MoverMessage,
  MoverResult,
  Release,
  SetPlaceFacts,
  Totals,
} from './mover.js';
import type { MoverLink } from './mover-link.js';
import { NetworkStream } from './network-stream.js';
import { reasonOf } from './reason.js';
import { pathFromBytes } from './wire-path.js';

/** A stream of either mechanism, as a mover uses it. */
type DataStream = Pick<
  BlockingStream,
  | 'reserve'
  | 'commit'
  | 'peek'
  | 'consume'
  | 'shutdown'
  | 'close'
  | 'abort'
  | 'bytesSent'
  | 'bytesReceived'
>;

const openLink = (link: MoverLink): DataStream =>
  link.mechanism === 'stp' ? new BlockingStream(link.handle) : new NetworkStream(link.socket);

/** Where in the progress array the bytes through the stream stand. */
const MOVED = 2;
/** Where the bytes of data stand that there will be. */
export const TOTAL = 3;

/** The stream of a job, with its bytes counted. */
export class MoverStream {
  /** Told to the event loop without a message: [entries, bytes of file data, bytes moved, total]. */
  readonly progress: Float64Array;
  readonly #stream: DataStream;
  #complaints = 0;

  constructor(stream: DataStream, progress: Float64Array) {
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

/** Tells what other movers of the session need to know. */
export const begun = (place: SetPlaceFacts): void => post({ type: 'begun', place });

/** All is moved; waits until the event loop says that both sides agree. Returns what it brings. */
export async function hold<T>(totals: Totals): Promise<T> {
  const released = nextMessage();
  post({ type: 'held', totals });
  return ((await released) as Release).release as T;
}

/** Runs the one job of this worker and ends it. */
export async function runMover<J, R>(
  run: (job: J, stream: MoverStream) => MoverResult<R> | Promise<MoverResult<R>>,
): Promise<void> {
  const { link, job, progress } = (await nextMessage()) as MoverData<J>;
  const stream = openLink(link);
  try {
    const { totals, result } = await run(job, new MoverStream(stream, progress));
    stream.close();
    post({ type: 'done', totals, result });
  } catch (e) {
    stream.abort();
    post({ type: 'failed', ...reasonOf(e) });
  }
}
