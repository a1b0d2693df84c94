import test from 'ava';
import fc from 'fast-check';
import { formatSize, humanSize, parseSize } from '../../../src/daemon/size.js';

test('sizes are bytes, or whole numbers with a binary unit', (t) => {
  t.deepEqual(parseSize('16MiB'), { bytes: 16 << 20 });
  t.deepEqual(parseSize('1 GiB'), { bytes: 2 ** 30 });
  t.deepEqual(parseSize('512'), { bytes: 512 });
  t.deepEqual(parseSize(65536), { bytes: 65536 });
});

for (const wrong of ['16MB', '8x', '', '-1', '1.5GiB', '16mib', ' 1KiB', '1KiB ', '0x10', '1e3']) {
  test(`${JSON.stringify(wrong)} is not a size, and the message says so`, (t) => {
    const parsed = parseSize(wrong);
    t.true('problem' in parsed && parsed.problem.startsWith(`${JSON.stringify(wrong)} is not`));
  });
}

for (const wrong of [
  null,
  undefined,
  true,
  [],
  ['16MiB'],
  {},
  -1,
  1.5,
  Number.NaN,
  2 ** 60,
  { toString: 0 },
]) {
  test(`${JSON.stringify(wrong)} (${String(typeof wrong)}) is not a size`, (t) => {
    t.true('problem' in parseSize(wrong));
  });
}

test('beyond exact numbers there is no size', (t) => {
  t.true('problem' in parseSize('9007199254740993'));
  t.true('problem' in parseSize('9999999TiB'));
});

test('what formatSize writes, parseSize reads back', (t) => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 0, max: 40 }), (number, shift) => {
      const bytes = Math.floor(number / 2 ** shift) * 2 ** shift;
      t.deepEqual(parseSize(formatSize(bytes)), { bytes });
    }),
  );
});

test('people read few digits', (t) => {
  t.is(humanSize(0), '0 B');
  t.is(humanSize(1023), '1023 B');
  t.is(humanSize(16 << 20), '16 MiB');
  t.is(humanSize(1.5 * 2 ** 30), '1.50 GiB');
  t.is(humanSize(2 ** 30 - 1), '1.00 GiB');
  t.is(humanSize(100.25 * 2 ** 20), '100.3 MiB');
});
