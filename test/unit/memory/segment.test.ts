import test from 'ava';
import { Segment } from '../../../src/memory/segment.js';

test('an offset of 4 GiB and more is not folded onto the first 4 GiB', (t) => {
  const buffer = new SharedArrayBuffer(64);
  const segment = new Segment({ number: 1, buffer });
  /* Where nothing is, an index beyond the array is refused, which shows which index it was. */
  t.throws(() => segment.load(2 ** 32 + 8), { instanceOf: RangeError });
  t.throws(() => segment.store(2 ** 32 + 8, 1), { instanceOf: RangeError });
  t.is(segment.load(8), 0);
});
