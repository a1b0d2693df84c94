/**
 * A bar passes, fails or has no answer.
 */
import test from 'ava';
import { BARS, line, measure, verdict } from '../../../bench/bars.js';
import type { Row } from '../../../bench/harness/rows.js';

const row = (path: string, value: number, rounds = 9, regime = 'near'): Row =>
  ({ case: 'stream', size: 65536, path, value, rounds, regime }) as Row;

const rowsOf = (copy: number, rounds = 9): Row[] => [
  row('stp-copy', copy, rounds),
  row('stp-copy', 1000, 20, 'far'),
  row('tcp', 1),
  row('unix', 2),
  row('stp-zero-copy', 8),
  row('memcpy-2p-sum', 10),
];

const judge = (rows: Row[]): number => verdict(BARS.map((bar) => measure(rows, bar)));

test('the better socket is what counts, near rounds only', (t) => {
  t.is(judge(rowsOf(8)), 0);
  t.is(judge(rowsOf(7.9)), 1);
});

test('too few near rounds are neither passed nor failed', (t) => {
  t.is(judge(rowsOf(100, 8)), 75);
  t.regex(line(measure([], BARS[0] as (typeof BARS)[0])), /^inconclusive/);
});
