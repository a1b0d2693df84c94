/**
 * The bars a run of the transport suite must pass: ratios of medians of near rounds.
 *
 *   node dist/bench/bars.js [FILE]      default bench/results/transport.json
 *
 * Prints a line a bar. Exit code 0 all passed, 1 one failed, 75 a bar has no nine near rounds.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { ROOT } from './harness/native-programs.js';
import { NEAR_ROUNDS_MIN } from './harness/regime.js';
import type { Row } from './harness/rows.js';
import { parseRows } from './report.js';

export interface Bar {
  readonly text: string;
  readonly case: string;
  readonly size: number;
  readonly path: string;
  /** The best of these is what the path is compared with. */
  readonly against: readonly string[];
  readonly ratioMin: number;
}

export const BARS: readonly Bar[] = [
  {
    text: 'copy in and copy out, 64 KiB, against the better socket',
    case: 'stream',
    size: 65536,
    path: 'stp-copy',
    against: ['tcp', 'unix'],
    ratioMin: 4,
  },
  {
    text: 'fill once and sum in place, 64 KiB, against the machine',
    case: 'stream',
    size: 65536,
    path: 'stp-zero-copy',
    against: ['memcpy-2p-sum'],
    ratioMin: 0.6,
  },
];

export interface BarResult {
  readonly bar: Bar;
  /** Undefined where a row is missing or has too few near rounds. */
  readonly ratio: number | undefined;
}

export function measure(rows: readonly Row[], bar: Bar): BarResult {
  const near = (path: string): Row | undefined =>
    rows.find(
      (row) =>
        row.regime === 'near' &&
        row.rounds >= NEAR_ROUNDS_MIN &&
        row.case === bar.case &&
        row.size === bar.size &&
        row.path === path,
    );
  const value = near(bar.path)?.value;
  const rivals = bar.against.map((path) => near(path)?.value);
  if (value === undefined || rivals.some((rival) => rival === undefined)) {
    return { bar, ratio: undefined };
  }
  return { bar, ratio: value / Math.max(...(rivals as number[])) };
}

/** 0, 1 or 75. */
export function verdict(results: readonly BarResult[]): number {
  if (results.some(({ bar, ratio }) => ratio !== undefined && ratio < bar.ratioMin)) return 1;
  return results.some(({ ratio }) => ratio === undefined) ? 75 : 0;
}

export function line({ bar, ratio }: BarResult): string {
  const outcome =
    ratio === undefined ? 'inconclusive' : ratio >= bar.ratioMin ? 'passed' : 'FAILED';
  const measured = ratio === undefined ? 'fewer than nine near rounds' : `${ratio.toFixed(2)}x`;
  return `${outcome.padEnd(13)} ${bar.text}: ${measured} (at least ${bar.ratioMin}x)`;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const file = process.argv[2] ?? `${ROOT}bench/results/transport.json`;
  const rows = parseRows(readFileSync(file, 'utf8'));
  const results = BARS.map((bar) => measure(rows, bar));
  for (const result of results) process.stdout.write(`${line(result)}\n`);
  process.exitCode = verdict(results);
}
