/**
 * A mover: a worker thread that has one data stream and one job, seen from the event loop.
 *
 * The stream is the worker's alone; what comes back are messages, and three numbers in memory that
 * both see, which whoever shows progress looks at when it likes. A mover ends by itself, done or
 * failed, or is stopped: then its stream is reset and its files are closed with its thread. The
 * thread of one that is done waits for another job. Event loop only; the other half is
 * mover-thread.ts.
 */
import type { MessagePort, Worker } from 'node:worker_threads';
import { stpError } from '../errors.js';
import type { VolumeHome } from '../library/media-plan.js';
import { dropLink, type MoverLink } from './mover-link.js';
import {
  endThread,
  keepThread,
  type LOADED,
  type MoverEntry,
  prepareThread,
  takeThread,
} from './mover-threads.js';
import { MOVER_NUMBERS, type MoverTimes, sumTimes, timesOf } from './mover-times.js';
import type { Complaint, Progress } from './protocol-words.js';
import type { Throttle } from './throttle.js';

/** The first message to a worker. */
export interface MoverData<J> {
  readonly type: 'job';
  readonly link: MoverLink;
  readonly job: J;
  /**
   * Entries, bytes of file data, bytes through the stream: so far; and how many bytes of file data
   * there will be, 0 where nobody knows. On a SharedArrayBuffer.
   */
  readonly progress: Float64Array;
  readonly throttle: Throttle;
}

/** Before the first message, maybe: what can be done without the stream may begin. */
export interface EarlyData<J> {
  readonly type: 'early';
  readonly job: J;
}

/**
 * Worker to event loop. `begun` tells what other movers of the session need to know; `held` waits
 * for `release`, sent by `Mover.release`.
 */
export type MoverMessage<R> =
  | typeof LOADED
  | { readonly type: 'begun'; readonly place: SetPlaceFacts }
  | { readonly type: 'complaint'; readonly complaint: Complaint }
  | { readonly type: 'held'; readonly totals: Totals }
  | { readonly type: 'done'; readonly totals: Totals; readonly result: R }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };

export interface Totals {
  readonly entries: number;
  /** Of file data. */
  readonly bytes: number;
  /** Everything that went through the stream. */
  readonly moved: number;
  readonly complaints: number;
}

/** Where a set is being made. */
export interface SetPlaceFacts {
  readonly home: VolumeHome;
  readonly directory: string;
}

/** What a mover is told that holds. */
export interface Release {
  readonly release: unknown;
}

export interface MoverOptions {
  readonly throttle?: Throttle;
  /** The thread that has begun with the job; a new one without. */
  readonly early?: EarlyMover | undefined;
  /** Of what the job has: they go to the thread for good. */
  readonly ports?: readonly MessagePort[];
}

export interface MoverResult<R> {
  readonly totals: Totals;
  readonly result: R;
}

function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
} {
  let resolve: (value: T) => void = () => {};
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // Whoever waits for the other promise of a mover learns of the failure there.
  promise.catch(() => {});
  return { promise, resolve, reject };
}

/** A thread that does what it can of its job before there is a stream: `Mover.start` brings that. */
export class EarlyMover {
  readonly #worker: Worker;
  /** A mover has the thread, and ends it or lets it have another job. */
  #isTaken = false;
  /** Why the thread has ended, if it has. */
  #failure: unknown;

  private constructor(entry: MoverEntry) {
    this.#worker = takeThread(entry);
    this.#worker.on('error', this.#onError).on('exit', this.#onExit);
  }

  static begin<J>(entry: MoverEntry, job: J): EarlyMover {
    const early = new EarlyMover(entry);
    const data: EarlyData<J> = { type: 'early', job };
    early.#worker.postMessage(data);
    return early;
  }

  /** The thread, with why it has ended, if it has; once. */
  take(): { readonly worker: Worker; readonly failure: unknown } {
    this.#isTaken = true;
    // It may serve others later.
    this.#worker.off('error', this.#onError).off('exit', this.#onExit);
    return { worker: this.#worker, failure: this.#failure };
  }

  /** The thread is no more, and nothing that was its own. */
  get hasEnded(): boolean {
    return this.#worker.threadId < 0;
  }

  /** Ends the thread; nothing if a mover has taken it over. */
  async stop(): Promise<void> {
    if (!this.#isTaken) await endThread(this.#worker);
  }

  readonly #onError = (e: unknown): void => {
    this.#failure = e;
  };

  readonly #onExit = (): void => {
    this.#failure ??= stpError('ECANCELED', 'the mover was stopped');
  };
}

export class Mover<R> {
  /** Null when its job is done: the thread may have another one by then. */
  #worker: Worker | null;
  readonly #begun = deferred<SetPlaceFacts>();
  readonly #held = deferred<Totals>();
  readonly #done = deferred<MoverResult<R>>();

  private constructor(
    private readonly entry: MoverEntry,
    worker: Worker,
    private readonly link: MoverLink,
    private readonly numbers: Float64Array,
    private readonly onComplaint: (complaint: Complaint) => void,
  ) {
    this.#worker = worker;
    worker.on('message', this.#onMessage);
    worker.on('error', this.#fail);
    worker.on('exit', this.#onExit);
  }

  /** Has a thread ready for the next `start` of this entry. Call it when a session begins. */
  static prepare(entry: MoverEntry): void {
    prepareThread(entry);
  }

  static start<J, R>(
    entry: MoverEntry,
    link: MoverLink,
    job: J,
    onComplaint: (complaint: Complaint) => void,
    { throttle = { paces: [] }, ports = [], early }: MoverOptions = {},
  ): Mover<R> {
    const progress = new Float64Array(new SharedArrayBuffer(MOVER_NUMBERS * 8));
    const { worker, failure } = early?.take() ?? { worker: takeThread(entry), failure: undefined };
    const mover = new Mover<R>(entry, worker, link, progress, onComplaint);
    if (failure !== undefined) {
      mover.#fail(failure);
      mover.#onExit();
      return mover;
    }
    const data: MoverData<J> = { type: 'job', link, job, progress, throttle };
    const handles = link.mechanism === 'stp' ? [link.handle.port] : [];
    worker.postMessage(data, [...handles, ...ports]);
    return mover;
  }

  get progress(): Progress {
    const [entries = 0, bytes = 0, moved = 0, total = 0] = this.numbers;
    const known = total > 0 ? { total: Math.max(total, bytes) } : {};
    return { type: 'progress', entries, bytes, moved, ...known };
  }

  /** What the mover says when it has begun; not all do. */
  get begun(): Promise<SetPlaceFacts> {
    return this.#begun.promise;
  }

  /** Where its time has gone so far. */
  get times(): MoverTimes {
    return timesOf(this.numbers);
  }

  /** When all is moved but nothing is final yet: see `release`. */
  get held(): Promise<Totals> {
    return this.#held.promise;
  }

  /** Rejects with the worker's own error. */
  get done(): Promise<MoverResult<R>> {
    return this.#done.promise;
  }

  /** Lets a mover that holds go on: both sides agree. */
  release(value: unknown = null): void {
    const message: Release = { release: value };
    this.#worker?.postMessage(message);
  }

  /** Ends the thread wherever it is, and resets its stream; nothing if its job is done. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#worker !== null) await endThread(this.#worker);
  }
  #isStopped = false;

  /** The thread has closed its stream, and waits for another job. */
  #finish(result: MoverResult<R>): void {
    const worker = this.#worker;
    // Word that its job is done may cross the order to end.
    if (worker !== null && !this.#isStopped) {
      this.#worker = null;
      worker.off('message', this.#onMessage).off('error', this.#fail).off('exit', this.#onExit);
      dropLink(this.link);
      keepThread(this.entry, worker);
    }
    this.#done.resolve(result);
  }

  readonly #onExit = (): void => {
    dropLink(this.link);
    // Does nothing after `done` or `failed`.
    this.#fail(stpError('ECANCELED', 'the mover was stopped'));
  };

  readonly #fail = (e: unknown): void => {
    this.#begun.reject(e);
    this.#held.reject(e);
    this.#done.reject(e);
  };

  readonly #onMessage = (message: MoverMessage<R>): void => {
    switch (message.type) {
      case 'complaint':
        this.onComplaint(message.complaint);
        break;
      case 'begun':
        this.#begun.resolve(message.place);
        break;
      case 'held':
        this.#held.resolve(message.totals);
        break;
      case 'done':
        this.#finish({ totals: message.totals, result: message.result });
        break;
      case 'failed':
        this.#fail(stpError(message.code, message.message));
        break;
    }
  };
}

/** What there is to know of a mover whatever its result. */
export type AnyMover = Pick<Mover<unknown>, 'progress' | 'times' | 'done' | 'stop'>;

const SUM_START: Totals = { entries: 0, bytes: 0, moved: 0, complaints: 0 };

/** Of several streams of one session. */
export const sumTotals = (all: readonly Totals[]): Totals =>
  all.reduce(
    (sum, { entries, bytes, moved, complaints }) => ({
      entries: sum.entries + entries,
      bytes: sum.bytes + bytes,
      moved: sum.moved + moved,
      complaints: sum.complaints + complaints,
    }),
    SUM_START,
  );

/** Movers that work on one thing: they end together, and the first that fails fails all. */
export class MoverGroup implements AnyMover {
  constructor(private readonly movers: readonly AnyMover[]) {}

  get progress(): Progress {
    const sum = { type: 'progress' as const, entries: 0, bytes: 0, moved: 0 };
    for (const { progress } of this.movers) {
      sum.entries += progress.entries;
      sum.bytes += progress.bytes;
      sum.moved += progress.moved;
    }
    return sum;
  }

  get times(): MoverTimes {
    return sumTimes(this.movers.map((mover) => mover.times));
  }

  /** The sum of all; the result is that of the first. */
  get done(): Promise<MoverResult<unknown>> {
    return Promise.all(this.movers.map((mover) => mover.done)).then((all) => ({
      totals: sumTotals(all.map(({ totals }) => totals)),
      result: all[0]?.result,
    }));
  }

  async stop(): Promise<void> {
    await Promise.all(this.movers.map((mover) => mover.stop()));
  }
}

/** Codes that tell only that the other side is gone: it may have said why elsewhere. */
const CONSEQUENCES = new Set(['ECONNRESET', 'EPIPE', 'ENODATA', 'ECANCELED', 'EBADF', 'EPROTO']);

/** True if the other side's own words, should there be any, say more than this error. */
export const isConsequence = (e: unknown): boolean =>
  e instanceof Error && 'code' in e && CONSEQUENCES.has(String(e.code));
