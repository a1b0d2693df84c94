/**
 * One path of the benchmark as the suites see it: two processes that do rounds.
 */
import { readFileSync } from 'node:fs';
import type { Histogram } from './histogram.js';
import type { RoundRequest } from './protocol.js';

export interface RoundResult {
  readonly bytes: number;
  readonly messages: number;
  readonly seconds: number;
  /** CPU seconds of both processes. */
  readonly cpuSeconds: number;
  /** Highest RssAnon seen in the round, both processes together. */
  readonly rssAnonBytes: number;
  /** Of what arrived; checked against what was sent. */
  readonly digest: string;
  readonly latencies?: Histogram;
}

export interface BenchPath {
  open(): Promise<void>;
  round(request: RoundRequest): Promise<RoundResult>;
  /** Ends both processes. Runs in any state, also twice. */
  close(): Promise<void>;
}

/** Anonymous memory of the processes now; a process that is gone counts 0. */
export function rssAnonBytes(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      total += Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    } catch {
      // gone: its round fails on its own
    }
  }
  return total;
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
