/**
 * The rows a suite prints: one JSON object a line, as its readers know it.
 *
 * `suite, case, path, size, regime, value, unit, p50?, p99?, cpu_s?, rounds, node, commit, cpu` are
 * the names every suite uses; what follows them is more of the same row. A row of an ordinary run is
 * `near` or `far`; a run of `--tiny` knows no regimes and says `none`, so that nobody takes it for a
 * result.
 */
import { createHash } from 'node:crypto';
import type { Histogram } from './histogram.js';
import { makeHistogram, microsecondsAt } from './histogram.js';
import type { RoundResult } from './path.js';
import type { Round } from './schedule.js';
import { median, spreadOf } from './statistics.js';

export type RowRegime = 'near' | 'far' | 'none';
export type Unit = 'GB/s' | 'µs';

export interface Row {
  readonly suite: string;
  readonly case: string;
  readonly path: string;
  /** Bytes of a message. */
  readonly size: number;
  readonly regime: RowRegime;
  /** Median over the rounds; of a latency, of the rounds' p50. */
  readonly value: number;
  readonly unit: Unit;
  /** µs, over all messages of all rounds. */
  readonly p50?: number;
  readonly p99?: number;
  readonly p999?: number;
  /** CPU seconds of both processes, over all rounds. */
  readonly cpu_s: number;
  readonly rounds: number;
  readonly node: string;
  readonly commit: string;
  readonly cpu: string;
  /** Spread of the rounds' values. */
  readonly min: number;
  readonly q1: number;
  readonly q3: number;
  readonly max: number;
  /** Time of all rounds. */
  readonly elapsed_s: number;
  /** Peak anonymous memory of both processes. */
  readonly rss_anon: number;
  /** Median of the probes around the rounds, ns a hop; absent without a probe. */
  readonly probe_ns?: number;
  /** Messages a second that were offered. */
  readonly offered?: number;
  /** The work done: bytes that arrived, and a digest over the digests of the rounds. */
  readonly bytes: number;
  readonly digest: string;
}

export interface RowIdentity {
  readonly suite: string;
  readonly case: string;
  readonly path: string;
  readonly size: number;
  readonly offered?: number;
}

export interface RunIdentity {
  readonly node: string;
  readonly commit: string;
  readonly cpu: string;
}

const roundValue = ({ bytes, seconds, latencies }: RoundResult): number =>
  latencies === undefined ? bytes / seconds / 1e9 : microsecondsAt(latencies, 50);

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Four significant digits: more than the spread ever leaves. */
const rounded = (n: number): number => Number(n.toPrecision(4));

function merged(results: readonly RoundResult[]): Histogram | undefined {
  const all = makeHistogram();
  for (const { latencies } of results) {
    if (latencies === undefined) return undefined;
    all.add(latencies);
  }
  return all;
}

export function rowOf(
  { suite, case: name, path, size, offered }: RowIdentity,
  regime: RowRegime,
  rounds: readonly Round<RoundResult>[],
  { node, commit, cpu }: RunIdentity,
): Row {
  const results = rounds.map((r) => r.result);
  const { min, q1, median: value, q3, max } = spreadOf(results.map(roundValue));
  const latencies = merged(results);
  const probes = rounds.flatMap((r) => r.probeNs).filter((ns) => !Number.isNaN(ns));
  const digest = createHash('sha256')
    .update(results.map((r) => r.digest).join(' '))
    .digest('hex');
  return {
    suite,
    case: name,
    path,
    size,
    regime,
    value: rounded(value),
    unit: latencies === undefined ? 'GB/s' : 'µs',
    ...(latencies !== undefined && {
      p50: rounded(microsecondsAt(latencies, 50)),
      p99: rounded(microsecondsAt(latencies, 99)),
      p999: rounded(microsecondsAt(latencies, 99.9)),
    }),
    cpu_s: rounded(total(results.map((r) => r.cpuSeconds))),
    rounds: rounds.length,
    node,
    commit,
    cpu,
    min: rounded(min),
    q1: rounded(q1),
    q3: rounded(q3),
    max: rounded(max),
    elapsed_s: rounded(total(results.map((r) => r.seconds))),
    rss_anon: Math.max(...results.map((r) => r.rssAnonBytes)),
    ...(probes.length > 0 && { probe_ns: rounded(median(probes)) }),
    ...(offered !== undefined && { offered }),
    bytes: total(results.map((r) => r.bytes)),
    digest: digest.slice(0, 16),
  };
}
