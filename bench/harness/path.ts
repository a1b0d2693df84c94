/**
 * One path of the benchmark as the suites see it: two processes that do rounds.
 */
import type { Histogram } from './histogram.js';
import { rssAnonBytes } from './processes.js';
import type { Greedy, RoundRequest } from './protocol.js';

export interface RoundResult {
  readonly bytes: number;
  readonly messages: number;
  readonly seconds: number;
  /** CPU seconds of both processes. */
  readonly cpuSeconds: number;
  /** CPU seconds of stpd meanwhile, on paths through the array. */
  readonly stpdCpuSeconds?: number;
  /** Highest RssAnon seen in the round, both processes together. */
  readonly rssAnonBytes: number;
  /** Of what arrived; checked against what was sent. */
  readonly digest: string;
  readonly latencies?: Histogram;
  readonly greedy?: Greedy;
  /** `connections`: what the array's counters said; absent on other paths. */
  readonly pages?: PagesSeen;
  /** `connections`: what was there after all were closed and not before. */
  readonly left?: Left;
}

export interface PagesSeen {
  /** Pages that were taken while all connections were open and idle. */
  readonly whileIdle: number;
}

export interface Left {
  readonly descriptors: number;
  /** Of the array, where one was used. */
  readonly pages?: number;
  readonly ports?: number;
  readonly connections?: number;
}

export interface BenchPath {
  open(): Promise<void>;
  round(request: RoundRequest): Promise<RoundResult>;
  /** Ends both processes. Runs in any state, also twice. */
  close(): Promise<void>;
}

const RSS_PERIOD_MS = 50;

/** Runs a round and watches the memory of its processes meanwhile. */
export async function withPeakRss<T>(
  pids: readonly number[],
  round: () => Promise<T>,
): Promise<T & { rssAnonBytes: number }> {
  let peak = rssAnonBytes(pids);
  const timer = setInterval(() => {
    peak = Math.max(peak, rssAnonBytes(pids));
  }, RSS_PERIOD_MS);
  try {
    const result = await round();
    return { ...result, rssAnonBytes: Math.max(peak, rssAnonBytes(pids)) };
  } finally {
    clearInterval(timer);
  }
}
