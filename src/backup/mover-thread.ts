/**
 * The worker's half of a mover: opens the stream, runs the job, says how it ended, and waits for the
 * next one. A job that throws resets its stream, so that the peer notices at once, and ends the
 * thread. Worker threads only.
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
import { Stopwatch } from './mover-times.js';
import { NetworkStream } from './network-stream.js';
import { reasonOf } from './reason.js';
import { applyPriority, Pacer } from './throttle.js';
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
> &
  Partial<Pick<BlockingStream, 'counters'>>;

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
  readonly #pacer: Pacer;
  readonly #watch: Stopwatch;
  #complaints = 0;

  constructor(stream: DataStream, progress: Float64Array, pacer: Pacer) {
    this.#stream = stream;
    this.progress = progress;
    this.#pacer = pacer;
    this.#watch = new Stopwatch(progress);
  }

  reserve(): Uint8Array {
    const fromMs = performance.now();
    const view = this.#stream.reserve();
    this.#watch.waited(fromMs, this.#waits);
    return view;
  }

  commit(bytes: number): void {
    const fromMs = performance.now();
    this.#stream.commit(bytes);
    this.#watch.moved(fromMs);
    this.progress[MOVED] = this.#stream.bytesSent;
    if (!this.#pacer.isFree) this.#watch.slowed(this.#pacer.take(bytes));
  }

  peek(): Uint8Array | null {
    const fromMs = performance.now();
    const view = this.#stream.peek();
    this.#watch.waited(fromMs, this.#waits);
    return view;
  }

  consume(bytes: number): void {
    const fromMs = performance.now();
    this.#stream.consume(bytes);
    this.#watch.moved(fromMs);
    this.progress[MOVED] = this.#stream.bytesReceived;
    if (!this.#pacer.isFree) this.#watch.slowed(this.#pacer.take(bytes));
  }

  #waitsOfSocket = 0;
  readonly #waits = (): number => {
    const counters = this.#stream.counters?.();
    // A socket does not count: who waits for one has waited for the peer.
    if (counters === undefined) return ++this.#waitsOfSocket;
    return counters.waitsForEmptyPage + counters.waitsForFullPage;
  };

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
    this.#watch.end();
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

/** Runs the jobs of this worker one after the other; it ends with the first that fails. */
export async function runMover<J, R>(
  run: (job: J, stream: MoverStream) => MoverResult<R> | Promise<MoverResult<R>>,
): Promise<void> {
  while (await runJob(run));
}

/** False if it failed. */
async function runJob<J, R>(
  run: (job: J, stream: MoverStream) => MoverResult<R> | Promise<MoverResult<R>>,
): Promise<boolean> {
  const { link, job, progress, throttle } = (await nextMessage()) as MoverData<J>;
  const stream = openLink(link);
  try {
    applyPriority(throttle);
    const pacer = new Pacer(throttle.paces);
    const { totals, result } = await run(job, new MoverStream(stream, progress, pacer));
    stream.close();
    post({ type: 'done', totals, result });
    return true;
  } catch (e) {
    stream.abort();
    post({ type: 'failed', ...reasonOf(e) });
    return false;
  }
}
