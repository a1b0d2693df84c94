/** Order statistics of round values. */
import test from 'ava';
import { median, quantile, spreadOf } from '../../../bench/harness/statistics.js';

test('the median of an odd count is the middle value, in any order', (t) => {
  t.is(median([9, 1, 5]), 5);
  t.is(median([7]), 7);
});

test('the median of an even count lies between the two middle values', (t) => {
  t.is(median([1, 2, 10, 20]), 6);
});

test('numbers are sorted as numbers', (t) => {
  t.is(median([100, 20, 3]), 20);
});

test('quartiles divide by proportion', (t) => {
  t.deepEqual(spreadOf([1, 2, 3, 4, 5]), { min: 1, q1: 2, median: 3, q3: 4, max: 5 });
  t.is(quantile([0, 10], 0.25), 2.5);
});

test('the values are left as they were', (t) => {
  const values = [3, 1, 2];
  median(values);
  t.deepEqual(values, [3, 1, 2]);
});

test('no values and shares outside 0 to 1 are refused', (t) => {
  t.throws(() => median([]), { instanceOf: RangeError });
  t.throws(() => quantile([1], 1.5), { instanceOf: RangeError });
  t.throws(() => quantile([1], Number.NaN), { instanceOf: RangeError });
});
