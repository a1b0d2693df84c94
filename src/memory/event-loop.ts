/**
 * This thread's place among sleepers: one for each JavaScript thread, shared by every host and
 * director that lives on it. Sources bring work, cables bring the end of a peer. The mechanism is
 * native/event_loop.cc; here is only the dispatch.
 */
import { type LoopSourceOptions, native } from '../native.js';
import type { Segment } from './segment.js';

/** Index of a pair that means "the source's ring has something". */
export const RING_READY = 0xffffffff;
/** In the place of a number of pairs. */
const NEXT_TURN = 0xffffffff;
const PAIRS = 2048;

/** Called on the event loop with a ready index of the source, or RING_READY. */
export type SourceHandler = (index: number) => void;

const handlers: (SourceHandler | undefined)[] = [];
const cableEnds = new Map<number, () => void>();
/** Behind the pairs stands 1 while something waits in `soon`, and 1 while something does in `later`. */
const pairs = new Uint32Array(PAIRS * 2 + 2);
const SOON = PAIRS * 2;
const LATER = PAIRS * 2 + 1;
let soon: (() => void)[] = [];
let later: (() => (() => void) | undefined)[] = [];
let opened = false;

/**
 * For what a callback of the application threw where work of others is still to be done: an
 * uncaught exception as it would have been, but afterwards.
 */
export function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

/** Pairs are being handed out: who blocks meanwhile must not overwrite those that are left. */
let dispatching = false;

/**
 * Runs `work` in a turn of its own, before the array brings anything more, and before the loop
 * sleeps: where `node:net` is called back that a handle is shut down or closed.
 */
export function runSoon(work: () => void): void {
  if (soon.push(work) > 1) return;
  pairs[SOON] = 1;
  setImmediate(doSoon); /* the array's turn may come later, or not at all */
}

function doSoon(): void {
  const works = soon;
  soon = [];
  pairs[SOON] = 0;
  doAll(works);
}

/**
 * Calls `look` when this turn of the event loop is over: behind its ticks, promises and immediates, and
 * behind what was to run soon, yet before the loop sleeps. What it returns is called when all that
 * wait for the turn have looked: as behind a poll of the kernel, nobody sees yet what another one does
 * in it. That is when `node:net` reads for the first time from a connection that this turn has brought.
 * Keeps nothing alive; a thread that blocks puts it off.
 * @param look must not throw
 */
export function lookNextTurn(look: () => (() => void) | undefined): void {
  if (later.push(look) === 1) pairs[LATER] = 1;
}

function doLater(): void {
  const looks = later;
  later = [];
  pairs[LATER] = 0;
  doAll(looks.map((look) => look()));
}

function doAll(works: readonly ((() => void) | undefined)[]): void {
  for (const work of works) {
    try {
      work?.();
    } catch (error) {
      throwLater(error);
    }
  }
}

/** @param count pairs to look at; 0 for what was to run soon, NEXT_TURN for what in the next turn */
function onReady(count: number): void {
  if (count === 0) return doSoon();
  if (count === NEXT_TURN) return doLater();
  const outer = dispatching;
  dispatching = true;
  for (let i = 0; i < count * 2; i += 2) {
    /* The bits are taken already: what is skipped here is lost. */
    try {
      handlers[pairs[i] as number]?.(pairs[i + 1] as number);
    } catch (error) {
      throwLater(error);
    }
  }
  dispatching = outer;
}

function onCableEnd(cable: number): void {
  const end = cableEnds.get(cable);
  cableEnds.delete(cable);
  end?.();
}

function open(): void {
  if (opened) return;
  native().loopOpen(onReady, onCableEnd, pairs);
  native().loopPolling(POLL_BUDGET_US_DEFAULT);
  opened = true;
}

/** Longest poll before sleep: two wake-ups from idle. Adaptive below it; 0 never polls. */
export const POLL_BUDGET_US_DEFAULT = 50;
let pollBudgetUs = POLL_BUDGET_US_DEFAULT;

/** Of what has no budget of its own: `SourceBudgets`. */
export function setPollBudget(microseconds: number): void {
  open();
  pollBudgetUs = microseconds;
  native().loopPolling(microseconds);
}

/**
 * How long the loop may look on account of each stream of a source. The loop takes the largest of
 * those that had work in the last 10 to 20 ms; the director's word counts as the largest of all.
 */
export class SourceBudgets {
  #source: number;
  /** By ready index; those without one are not here. */
  readonly #own = new Map<number, number>();
  /** How many have a budget. */
  readonly #having = new Map<number, number>();

  constructor(source: number) {
    this.#source = source;
  }

  /**
   * @param us undefined: the thread's
   * @param open streams of the source, this one included if it is one
   */
  set(stream: number, us: number | undefined, open: number): void {
    const before = this.#own.get(stream);
    if (before === us && this.#own.size === 0) return;
    if (before !== undefined) {
      const others = (this.#having.get(before) as number) - 1;
      if (others === 0) this.#having.delete(before);
      else this.#having.set(before, others);
      this.#own.delete(stream);
    }
    if (us !== undefined) {
      this.#own.set(stream, us);
      this.#having.set(us, (this.#having.get(us) ?? 0) + 1);
    }
    native().loopSpin(this.#source, stream, us ?? -1, this.#most(open));
  }

  #most(open: number): number {
    const own = Math.max(0, ...this.#having.keys());
    return open > this.#own.size && own <= pollBudgetUs ? -1 : own;
  }

  /** The source has another number. */
  move(source: number, open: number): void {
    this.#source = source;
    for (const [stream, us] of this.#own) native().loopSpin(source, stream, us, this.#most(open));
  }
}

/** What the loop of this thread has counted since it was opened. */
export interface LoopCounters {
  /** Looks before a sleep that found work, and such that looked in vain. */
  readonly pollHits: number;
  readonly pollMisses: number;
  /** What nobody has announced and only the safety timer has found; expected: 0. */
  readonly safetyFirings: number;
}

/** Wake-ups for a single stream that were lost. */
let streamsHealed = 0;

export function countHealed(): void {
  streamsHealed++;
}

export function loopCounters(): LoopCounters {
  open();
  const { safetyFirings, ...polls } = native().loopCounters();
  return { ...polls, safetyFirings: safetyFirings + streamsHealed };
}

/**
 * This thread is a director's: its loop keeps the counters of a `director` record at that offset.
 */
export function countLoop(segment: Segment, offset: number): void {
  open();
  native().loopDirector(segment.number, offset);
}

export function addSource(options: LoopSourceOptions, handler: SourceHandler): number {
  open();
  const source = native().loopSource(options);
  handlers[source] = handler;
  return source;
}

export function removeSource(source: number): void {
  native().loopSourceEnd(source);
  handlers[source] = undefined;
}

/**
 * A turn of the loop for a thread that blocks in JavaScript: `loopWait` of the addon. May be called
 * from a callback of the loop.
 */
export function blockingTurn(timeoutMs: number, entries: Int32Array, spinUs: number): number {
  const left = dispatching ? pairs.slice() : undefined;
  const ready = native().loopWait(timeoutMs, entries, spinUs);
  if (left !== undefined) pairs.set(left);
  return ready;
}

/** Watches a cable; `onEnd` is called once, when whoever held its other end is gone. */
export function watchCable(cable: number, onEnd: () => void): void {
  open();
  cableEnds.set(cable, onEnd);
  native().loopCable(cable);
}

/** Ends the watch without calling back, and lets go of the descriptor. */
export function dropCable(cable: number): void {
  cableEnds.delete(cable);
  native().loopCableEnd(cable);
  native().cableClose(cable);
}
