/**
 * The rows a suite prints: one JSON object a line, as its readers know it.
 *
 * `suite, case, path, size, regime, value, unit, p50?, p99?, cpu_s?, rounds, node, commit, cpu` are
 * the names every suite uses; what follows them is more of the same row. A row of an ordinary run is
 * `near` or `far`; a run of `--tiny` knows no regimes and says `none`, so that nobody takes it for a
 * result.
 */
import { createHash } from 'node:crypto';
import { type BackupCase, CASE_SPECS, type CaseName, type Unit } from './cases.js';
import { type Histogram, makeHistogram, microsecondsAt } from './histogram.js';
import type { RoundResult } from './path.js';
import type { Round } from './schedule.js';
import { median, spreadOf } from './statistics.js';

export type RowRegime = 'near' | 'far' | 'none';

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
  /** CPU seconds of both processes, over all rounds; of case `idle`, of all of them and stpd. */
  readonly cpu_s: number;
  /** CPU seconds of stpd meanwhile, on paths through the array. */
  readonly cpu_stpd_s?: number;
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
  /** Cases of many connections: how many at a time. */
  readonly connections?: number;
  /** `fairness`: what the greedy connection moved beside the modest ones, GB/s. */
  readonly greedy_gbs?: number;
  /** `fairness`: least messages of a modest connection, as a share of their mean. */
  readonly share_min?: number;
  /** `connections`: most pages of the array that were taken while all were idle. */
  readonly pages_idle?: number;
  /** `connections`: descriptors, pages, ports and slots that were there after all were closed. */
  readonly left?: number;
  /** The work done: bytes that arrived, and a digest over the digests of the rounds. */
  readonly bytes: number;
  readonly digest: string;
}

export interface RowIdentity {
  readonly suite: string;
  readonly case: CaseName | BackupCase;
  readonly path: string;
  readonly size: number;
  readonly offered?: number;
  readonly connections?: number;
}

export interface RunIdentity {
  readonly node: string;
  readonly commit: string;
  readonly cpu: string;
}

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

/** What only some cases and paths have. */
function moreOf(results: readonly RoundResult[]): Partial<Row> {
  const greedy = results.flatMap((r) => (r.greedy === undefined ? [] : [r.greedy]));
  const gbs = results.flatMap((r) =>
    r.greedy === undefined ? [] : [r.greedy.bytes / r.seconds / 1e9],
  );
  const stpd = results.flatMap((r) => r.stpdCpuSeconds ?? []);
  const pages = results.flatMap((r) => r.pages?.whileIdle ?? []);
  const left = results.flatMap((r) => (r.left === undefined ? [] : [total(Object.values(r.left))]));
  return {
    ...(stpd.length > 0 && { cpu_stpd_s: rounded(total(stpd)) }),
    ...(greedy.length > 0 && {
      greedy_gbs: rounded(median(gbs)),
      share_min: rounded(median(greedy.map((g) => g.shareMin))),
    }),
    ...(pages.length > 0 && { pages_idle: Math.max(...pages) }),
    ...(left.length > 0 && { left: Math.max(...left) }),
  };
}

export function rowOf(
  { suite, case: name, path, size, offered, connections }: RowIdentity,
  regime: RowRegime,
  rounds: readonly Round<RoundResult>[],
  { node, commit, cpu }: RunIdentity,
): Row {
  const spec = CASE_SPECS[name];
  const results = rounds.map((r) => r.result);
  const { min, q1, median: value, q3, max } = spreadOf(results.map((r) => spec.valueOf(r)));
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
    unit: spec.unit,
    ...(latencies !== undefined && {
      p50: rounded(microsecondsAt(latencies, 50)),
      p99: rounded(microsecondsAt(latencies, 99)),
      p999: rounded(microsecondsAt(latencies, 99.9)),
    }),
    cpu_s: rounded(total(results.map((r) => r.cpuSeconds))),
    ...moreOf(results),
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
    ...(connections !== undefined && { connections }),
    bytes: total(results.map((r) => r.bytes)),
    digest: digest.slice(0, 16),
  };
}
