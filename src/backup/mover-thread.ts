/**
 * The worker's half of a mover: opens the stream, runs the job, says how it ended, and waits for the
 * next one. A job that throws resets its stream, so that the peer notices at once, and ends the
 * thread. Worker threads only.
 */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { assert } from '../assert.js';
import { BlockingStream } from '../socket/blocking-stream.js';
import type {
  EarlyData,
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
  Partial<Pick<BlockingStream, 'waits' | 'reservePages'>>;

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
    const next = this.#gathered[this.#gatheredNext];
    if (next !== undefined) return next;
    const fromMs = performance.now();
    const view = this.#gatherPages > 1 ? this.#reserveGathered() : this.#stream.reserve();
    this.#watch.waited(fromMs, this.#waits);
    return view;
  }

  commit(bytes: number): void {
    const view = this.#gathered[this.#gatheredNext];
    if (view === undefined) {
      this.#commit(bytes);
      return;
    }
    this.#gatheredBytes += bytes;
    this.#gatheredNext++;
    const isLast = this.#gatheredNext === this.#gathered.length;
    if (isLast || bytes < view.length) this.#commitGathered();
  }

  #gatherPages = 1;
  #gathered: readonly Uint8Array[] = [];
  #gatheredNext = 0;
  #gatheredBytes = 0;

  /**
   * From now on full pages go several at a time, or with one that is not full, or with `shutdown`:
   * the peer is woken less often, and wakes for more. Not where it is to answer.
   */
  gather(pages: number): void {
    this.#gatherPages = pages;
  }

  #reserveGathered(): Uint8Array {
    // A socket has no pages.
    this.#gathered = this.#stream.reservePages?.(this.#gatherPages) ?? [this.#stream.reserve()];
    return this.#gathered[0] as Uint8Array;
  }

  #commitGathered(): void {
    const bytes = this.#gatheredBytes;
    this.#gathered = [];
    this.#gatheredNext = 0;
    this.#gatheredBytes = 0;
    if (bytes > 0) this.#commit(bytes);
  }

  #commit(bytes: number): void {
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
  /** A socket does not count: who waits for one has waited for the peer. */
  readonly #waits = (): number => this.#stream.waits ?? ++this.#waitsOfSocket;

  /** No more bytes from here. */
  shutdown(): void {
    this.#commitGathered();
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

/** Does a job; `early`: what was begun of it before there was a stream, if anything was. */
type RunJob<J, R, E> = (
  job: J,
  stream: MoverStream,
  early: E | undefined,
) => MoverResult<R> | Promise<MoverResult<R>>;

/**
 * Runs the jobs of this worker one after the other; it ends with the first that fails.
 * @param begin what can be done of a job without its stream; must not throw
 */
export async function runMover<J, R, E = never>(
  run: RunJob<J, R, E>,
  begin?: (job: J) => E,
): Promise<void> {
  while (await runJob(run, begin));
}

/** False if it failed. */
async function runJob<J, R, E>(run: RunJob<J, R, E>, begin?: (job: J) => E): Promise<boolean> {
  let message = (await nextMessage()) as MoverData<J> | EarlyData<J>;
  let early: E | undefined;
  if (message.type === 'early') {
    early = begin?.(message.job);
    message = (await nextMessage()) as MoverData<J>;
  }
  const { link, job, progress, throttle } = message;
  const stream = openLink(link);
  try {
    applyPriority(throttle);
    const pacer = new Pacer(throttle.paces);
    const { totals, result } = await run(job, new MoverStream(stream, progress, pacer), early);
    stream.close();
    post({ type: 'done', totals, result });
    return true;
  } catch (e) {
    stream.abort();
    post({ type: 'failed', ...reasonOf(e) });
    return false;
  }
}
