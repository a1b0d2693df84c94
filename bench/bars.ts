/**
 * The bars a run of a suite must pass: ratios of medians of near rounds, and a few absolute ones
 * that no machine changes.
 *
 *   node dist/bench/bars.js [FILE...]      default: those of bench/results
 *
 * Prints a line a bar, and where to look for what no run of the suite shows. Exit code 0 all
 * passed, 1 one failed, 75 one has no answer: a row is missing or has fewer than nine near rounds.
 * Bars of far rounds have an answer only where the machine was far; where it never was, they say so
 * and do not count.
 */
import { existsSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { type BackupCase, type CaseName, specOf } from './harness/cases.js';
import { ROOT } from './harness/native-programs.js';
import { NEAR_ROUNDS_MIN } from './harness/regime.js';
import type { Row, RowRegime } from './harness/rows.js';
import { bytesText, numberText } from './harness/table.js';
import { parseRows } from './report.js';
import { SOLO_ROUNDS, STREAM_SIZES } from './suites/transport-paths.js';

/** Far rounds come when they come. */
const FAR_ROUNDS_MIN = 3;

export interface RowKey {
  readonly case: CaseName | BackupCase;
  /** Any, where absent. */
  readonly size?: number;
  readonly path: string;
}

export interface Figure {
  readonly value: number;
  /** The spread of the rounds: from quartile to quartile, the worst of both sides and the best. */
  readonly low?: number;
  readonly high?: number;
}

export interface Bar {
  readonly text: string;
  /** Rows that it needs. */
  readonly needs: readonly RowKey[];
  readonly regime: 'near' | 'far';
  readonly figure: (rows: RowFinder) => Figure;
  readonly limit: { readonly least: number } | { readonly most: number };
  readonly show: (value: number) => string;
}

/** The row, which is there: a bar is asked only if its rows are. */
export type RowFinder = (key: RowKey) => Row;

const key = (name: CaseName, size: number, path: string): RowKey => ({ case: name, size, path });

const times = (value: number): string => `${numberText(value)}x`;

/** How many times as good a row is as the best of others: more of a rate, less of a latency. */
function timesAsGood(row: Row, rivals: readonly Row[], of: 'value' | 'p99' = 'value'): Figure {
  const more = specOf(row.case)?.more ?? true;
  const pick = (r: Row): number => (of === 'p99' ? (r.p99 ?? Number.NaN) : r.value);
  const best = rivals.reduce((a, b) => (more === pick(b) > pick(a) ? b : a));
  if (of === 'p99') return { value: pick(best) / pick(row) };
  return more
    ? { value: row.value / best.value, low: row.q1 / best.q3, high: row.q3 / best.q1 }
    : { value: best.value / row.value, low: best.q1 / row.q3, high: best.q3 / row.q1 };
}

interface RatioBar {
  readonly of: RowKey;
  readonly against: readonly RowKey[];
  readonly least: number;
  readonly regime?: 'near' | 'far';
  readonly metric?: 'value' | 'p99';
}

const ratio = (text: string, { of, against, least, regime, metric }: RatioBar): Bar => ({
  text,
  needs: [of, ...against],
  regime: regime ?? 'near',
  figure: (row) => timesAsGood(row(of), against.map(row), metric),
  limit: { least },
  show: times,
});

const stream = (size: number, path: string): RowKey => key('stream', size, path);
const sockets = (name: CaseName, size: number): RowKey[] => [
  key(name, size, 'tcp'),
  key(name, size, 'unix'),
];
const KIB_64 = 65536;
const MIB_1 = 1048576;
/** TCP and Unix sockets with the write size that suits them best. */
const bestSockets: RowKey[] = STREAM_SIZES.flatMap((size) => sockets('stream', size));
const unixRoundTrip = key('ping-pong', 64, 'unix');

const neverSlower: Bar[] = STREAM_SIZES.flatMap((size) =>
  (['near', 'far'] as const).map((regime) =>
    ratio(`stream ${bytesText(size)}: Duplex never slower than TCP or Unix, ${regime}`, {
      of: stream(size, 'stp-duplex'),
      against: sockets('stream', size),
      least: 1,
      regime,
    }),
  ),
);

const far = (path: 'stp-duplex' | 'stp-onread', name: string): Bar =>
  ratio(`stream 64 KiB: ${name} / better of TCP and Unix, own best chunk, far`, {
    of: stream(KIB_64, path),
    against: bestSockets,
    least: 1,
    regime: 'far',
  });

const connections = key('connections', 0, 'stp-duplex');
const idle = key('idle', 0, 'stp-duplex');
const nopollBeside = key('neighbour', 64, 'tcp-beside-stp-nopoll');
const pollBeside = key('neighbour', 64, 'tcp-beside-stp');

const backup = (name: BackupCase, path: string): RowKey => ({ case: name, path });

/** Seconds of ours for one of theirs. */
const atMostTimes = (text: string, name: BackupCase, rival: string, most: number): Bar => {
  const [ours, theirs] = [backup(name, 'stpbackup'), backup(name, rival)];
  return {
    text,
    needs: [ours, theirs],
    regime: 'near',
    figure: (row) => {
      const [a, b] = [row(ours), row(theirs)];
      return { value: a.value / b.value, low: a.q1 / b.q3, high: a.q3 / b.q1 };
    },
    limit: { most },
    show: times,
  };
};

const unchanged = backup('unchanged', 'stpbackup');

export const BACKUP_BARS: readonly Bar[] = [
  atMostTimes('many small files: stpbackup / tar cf - | cat', 'many-small', 'tar-cat', 2.2),
  ratio('many small files: times as fast as borg, no compression', {
    of: backup('many-small', 'stpbackup'),
    against: [backup('many-small', 'borg')],
    least: 2,
  }),
  ratio('many small files: times as fast as restic, --compression off', {
    of: backup('many-small', 'stpbackup'),
    against: [backup('many-small', 'restic')],
    least: 1.8,
  }),
  atMostTimes('few large files: stpbackup / cp -a', 'few-large', 'cp-a', 1.6),
  {
    text: 'unchanged tree, the whole command: files a second',
    needs: [unchanged],
    regime: 'near',
    figure: (row) => ({
      value: row(unchanged).value,
      low: row(unchanged).q1,
      high: row(unchanged).q3,
    }),
    limit: { least: 80_000 },
    show: numberText,
  },
  atMostTimes('PostgreSQL: stpbackup / pg_basebackup', 'postgresql', 'pg_basebackup', 1.5),
];

export const BARS: readonly Bar[] = [
  ratio('stream 64 KiB: blocking copy / better of TCP and Unix', {
    of: stream(KIB_64, 'stp-copy'),
    against: sockets('stream', KIB_64),
    least: 5,
  }),
  ratio('stream 1 MiB: blocking copy / better of TCP and Unix', {
    of: stream(MIB_1, 'stp-copy'),
    against: sockets('stream', MIB_1),
    least: 4,
  }),
  ...[KIB_64, MIB_1].map((size) =>
    ratio(`stream ${bytesText(size)}: blocking copy / memcpy-2p`, {
      of: stream(size, 'stp-copy'),
      against: [stream(size, 'memcpy-2p')],
      least: 0.7,
    }),
  ),
  ratio('stream 64 KiB: zero copy / memcpy-2p-sum', {
    of: stream(KIB_64, 'stp-zero-copy'),
    against: [stream(KIB_64, 'memcpy-2p-sum')],
    least: 0.85,
  }),
  ratio('stream 64 KiB: Duplex / better of TCP and Unix, own best chunk', {
    of: stream(KIB_64, 'stp-duplex'),
    against: bestSockets,
    least: 2.5,
  }),
  ratio("stream 64 KiB: onread, caller's buffer / better of TCP and Unix, own best chunk", {
    of: stream(KIB_64, 'stp-onread'),
    against: bestSockets,
    least: 3.5,
  }),
  far('stp-duplex', 'Duplex'),
  far('stp-onread', 'onread'),
  ratio('round trip 64 B: spinning workers p50, times as short as Unix', {
    of: key('ping-pong-spin', 64, 'stp-copy'),
    against: [unixRoundTrip],
    least: 50,
  }),
  ratio('round trip 64 B: event loop p50, times as short as Unix', {
    of: key('ping-pong', 64, 'stp-duplex'),
    against: [unixRoundTrip],
    least: 20,
  }),
  ratio('round trip 64 B: event loop p99, times as short as Unix', {
    of: key('ping-pong', 64, 'stp-duplex'),
    against: [unixRoundTrip],
    least: 2,
    metric: 'p99',
  }),
  ratio('round trip 64 B: event loop that never polls p50, times as short as Unix', {
    of: key('ping-pong-nopoll', 64, 'stp-duplex'),
    against: [unixRoundTrip],
    least: 1 / 0.9,
  }),
  {
    text: 'neighbour: p50 of a TCP exchange in a process that polls / in one that does not',
    needs: [pollBeside, nopollBeside],
    regime: 'near',
    figure: (row) => {
      const [polling, not] = [row(pollBeside), row(nopollBeside)];
      const { value } = polling;
      return { value: value / not.value, low: polling.q1 / not.q3, high: polling.q3 / not.q1 };
    },
    limit: { most: 1.2 },
    show: times,
  },
  ratio('messages of 64 B, one call each: Duplex / Unix', {
    of: key('message-rate', 64, 'stp-duplex'),
    against: [key('message-rate', 64, 'unix')],
    least: 8,
  }),
  ratio('messages of 64 B, 256 a call: blocking copy / Unix', {
    of: key('message-rate-batch', 64, 'stp-copy'),
    against: [key('message-rate-batch', 64, 'unix')],
    least: 1.5,
  }),
  ...neverSlower,
  ratio('connect, accept, close: STP / Unix', {
    of: key('connect-rate', 0, 'stp-duplex'),
    against: [key('connect-rate', 0, 'unix')],
    least: 1.3,
  }),
  {
    text: '1,000 idle connections over ten idle hosts: share of one core, with stpd',
    needs: [idle],
    regime: 'near',
    figure: (row) => ({ value: row(idle).value, low: row(idle).q1, high: row(idle).q3 }),
    limit: { most: 0.01 },
    show: (value) => `${(value * 100).toFixed(2)} %`,
  },
  {
    text: '10,000 idle connections: RssAnon of both processes',
    needs: [connections],
    regime: 'near',
    figure: (row) => ({ value: row(connections).value }),
    limit: { most: 300 * 1024 * 1024 },
    show: bytesText,
  },
  {
    text: '10,000 idle connections: pages that they hold',
    needs: [connections],
    regime: 'near',
    figure: (row) => ({ value: row(connections).pages_idle ?? Number.NaN }),
    limit: { most: 0 },
    show: String,
  },
  {
    text: '10,000 connections closed: pages, ports, slots, descriptors left',
    needs: [connections],
    regime: 'near',
    figure: (row) => ({ value: row(connections).left ?? Number.NaN }),
    limit: { most: 0 },
    show: String,
  },
];

/** What the suite cannot show, and what does. */
export const ELSEWHERE: readonly (readonly [what: string, command: string])[] = [
  ['60 situations over node:net and over STP, event logs compared', 'npm test (test/conformance)'],
  ['all of this on the newest Node', 'NODE -- dist/bench/main.js transport --quick --json FILE'],
  ['the tests on Node 20, 22, 24, 26', 'npm run test:nodes'],
];

/** True if a bar needs the row: what `--quick` measures. */
export const isNeeded = (name: CaseName, size: number, path: string): boolean =>
  BARS.some(({ needs }) =>
    needs.some((k) => k.case === name && k.size === size && k.path === path),
  );

export interface BarResult {
  readonly bar: Bar;
  readonly verdict: 'passed' | 'FAILED' | 'inconclusive' | 'never far';
  /** Absent where there is no answer. */
  readonly figure?: Figure;
}

const soloRounds = (name: string): number | undefined =>
  (SOLO_ROUNDS as Partial<Record<string, number>>)[name];

/** A case that no distance changes has few rounds, of whichever regime. */
const roundsMin = (bar: Bar, name: string): number =>
  soloRounds(name) ?? (bar.regime === 'near' ? NEAR_ROUNDS_MIN : FAR_ROUNDS_MIN);

export function judge(rows: readonly Row[], bar: Bar): BarResult {
  const find = (k: RowKey): Row | undefined => {
    const regimes: RowRegime[] = soloRounds(k.case) === undefined ? [bar.regime] : ['near', 'far'];
    return rows.find(
      (row) =>
        regimes.includes(row.regime) &&
        row.rounds >= roundsMin(bar, k.case) &&
        row.case === k.case &&
        row.size === (k.size ?? row.size) &&
        row.path === k.path,
    );
  };
  const found = new Map(bar.needs.map((k) => [k, find(k)]));
  if ([...found.values()].some((row) => row === undefined)) {
    return { bar, verdict: bar.regime === 'far' ? 'never far' : 'inconclusive' };
  }
  const figure = bar.figure((k) => find(k) as Row);
  const good =
    'least' in bar.limit ? figure.value >= bar.limit.least : figure.value <= bar.limit.most;
  return { bar, figure, verdict: good ? 'passed' : 'FAILED' };
}

/** 0, 1 or 75. */
export function exitCodeOf(results: readonly BarResult[]): number {
  if (results.some(({ verdict }) => verdict === 'FAILED')) return 1;
  return results.some(({ verdict }) => verdict === 'inconclusive') ? 75 : 0;
}

const limitText = ({ limit, show }: Bar): string =>
  'least' in limit ? `at least ${show(limit.least)}` : `at most ${show(limit.most)}`;

const spreadText = ({ show }: Bar, { low, high }: Figure): string =>
  low === undefined || high === undefined ? '' : ` (${show(low)} to ${show(high)})`;

export function line({ bar, figure, verdict }: BarResult): string {
  const missing = bar.regime === 'far' ? 'no far rounds' : 'fewer than nine near rounds';
  const measured =
    figure === undefined ? missing : `${bar.show(figure.value)}${spreadText(bar, figure)}`;
  return `${verdict.padEnd(12)}  ${bar.text}: ${measured}; ${limitText(bar)}`;
}

/** All bars of one file; the exit code. */
export function report(rows: readonly Row[], print: (line: string) => void): number {
  const first = rows[0];
  print(`Node ${first?.node ?? '?'}, commit ${first?.commit ?? '?'}, ${first?.cpu ?? '?'}`);
  const bars = first?.suite === 'backup' ? BACKUP_BARS : BARS;
  const results = bars.map((bar) => judge(rows, bar));
  for (const result of results) print(line(result));
  const count = (v: BarResult['verdict']): number => results.filter((r) => r.verdict === v).length;
  print(
    `${count('passed')} passed, ${count('FAILED')} failed, ${count('inconclusive')} inconclusive, ` +
      `${count('never far')} need far rounds, which this run had none of`,
  );
  return exitCodeOf(results);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const given = process.argv.slice(2);
  const committed = ['transport', 'backup']
    .map((suite) => `${ROOT}bench/results/${suite}.json`)
    .filter((file) => existsSync(file));
  const files = given.length > 0 ? given : committed;
  const print = (text: string): void => void process.stdout.write(`${text}\n`);
  const codes = files.map((file) => report(parseRows(readFileSync(file, 'utf8')), print));
  for (const [what, command] of ELSEWHERE) print(`elsewhere     ${what}: ${command}`);
  process.exitCode = codes.includes(1) ? 1 : (codes.find((code) => code !== 0) ?? 0);
}
