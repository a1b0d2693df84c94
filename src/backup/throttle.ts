/**
 * What slows movers down: a rate for their bytes, and the priority of their threads.
 *
 * The rate is a token bucket that several threads of one process may share: one 64-bit word, the time
 * from which on the next byte may move, which each thread advances by what its bytes cost. Whoever is
 * ahead of it sleeps; who was late catches up by at most BURST_NS, so that a pause gives no rush.
 * Made on the event loop, used in worker threads; `take` blocks.
 */
import { setPriority } from 'node:os';
import { native } from '../native.js';
import type { Limits } from './config.js';

/** Shared by all movers that keep to it together. */
export interface Pace {
  readonly bytesPerSecond: number;
  /** One BigInt64: nanoseconds of the monotonic clock. */
  readonly state: SharedArrayBuffer;
}

/** Plain data: posted to movers. */
export interface Throttle {
  readonly paces: readonly Pace[];
  readonly nice?: number | undefined;
  readonly ionice?: string | undefined;
}

/** What a sleeper that was woken late may make up for. */
const BURST_NS = 20_000_000n;
/** Shorter sleeps cost more than they slow. */
const SLEEP_MS_MIN = 1;
/** Waits return to JavaScript now and then: see docs/decisions on unbounded native waits. */
const SLEEP_MS_MAX = 50;

export const newPace = (bytesPerSecond: number): Pace => ({
  bytesPerSecond,
  state: new SharedArrayBuffer(8),
});

const made = new WeakMap<Limits, Throttle>();

/** Of a configuration: the same one for all sessions of a process, so that they share its rate. */
export function throttleOf(limits: Limits | undefined): Throttle {
  if (limits === undefined) return { paces: [] };
  const known = made.get(limits);
  if (known !== undefined) return known;
  const { bytesPerSecond, nice, ionice } = limits;
  const paces = bytesPerSecond === undefined ? [] : [newPace(bytesPerSecond)];
  const throttle: Throttle = { paces, nice, ionice };
  made.set(limits, throttle);
  return throttle;
}

/** The same, and not faster than `bytesPerSecond`: of one session. */
export const slowedTo = (throttle: Throttle, bytesPerSecond: number | undefined): Throttle =>
  bytesPerSecond === undefined
    ? throttle
    : { ...throttle, paces: [...throttle.paces, newPace(bytesPerSecond)] };

const asleep = new Int32Array(new SharedArrayBuffer(4));

/** One thread's share of its paces. Worker threads only. */
export class Pacer {
  readonly #paces: readonly { readonly rate: number; readonly next: BigInt64Array }[];

  constructor(paces: readonly Pace[]) {
    this.#paces = paces.map(({ bytesPerSecond, state }) => ({
      rate: bytesPerSecond,
      next: new BigInt64Array(state),
    }));
  }

  get isFree(): boolean {
    return this.#paces.length === 0;
  }

  /** Bytes have moved: sleeps until the next may. @returns ms slept */
  take(bytes: number): number {
    let slept = 0;
    for (const { rate, next } of this.#paces) {
      const due = advance(next, BigInt(Math.round((bytes * 1e9) / rate)));
      for (;;) {
        const leftMs = Number(due - process.hrtime.bigint()) / 1e6;
        if (leftMs < SLEEP_MS_MIN) break;
        const ms = Math.min(leftMs, SLEEP_MS_MAX);
        Atomics.wait(asleep, 0, 0, ms);
        slept += ms;
      }
    }
    return slept;
  }
}

/** The time from which on whoever comes next may move bytes. */
function advance(next: BigInt64Array, cost: bigint): bigint {
  const earliest = process.hrtime.bigint() - BURST_NS;
  for (;;) {
    const before = Atomics.load(next, 0);
    const after = (before > earliest ? before : earliest) + cost;
    if (Atomics.compareExchange(next, 0, before, after) === before) return after;
  }
}

const IO_BEST_EFFORT = 2;
const IO_IDLE = 3;

/** Sets what is asked for on the calling thread, for as long as it lives. */
export function applyPriority({ nice, ionice }: Throttle): void {
  // Linux takes it for a thread, and 0 for the one that calls.
  if (nice !== undefined) setPriority(0, nice);
  if (ionice === undefined) return;
  if (ionice === 'idle') native().setIoPriority(IO_IDLE, 0);
  else native().setIoPriority(IO_BEST_EFFORT, Number(ionice.slice(-1)));
}
