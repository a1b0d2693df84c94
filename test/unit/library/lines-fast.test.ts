/** Short ways for what most entries are: each gives just what the long way gives. */
import { blake3 } from '@napi-rs/blake-hash';
import test from 'ava';
import fc from 'fast-check';
import { digitsOf, putDecimal, putDigits } from '../../../src/library/decimal.js';
import { LineBuffer } from '../../../src/library/line-buffer.js';
import {
  decodeAnyLine,
  decodeLine,
  encodeEntry,
  LineError,
} from '../../../src/library/manifest.js';
import { nanosecondsText, SplitTime } from '../../../src/library/nanoseconds.js';
import { entryOf } from './entries.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const runs = { seed, numRuns: 3000 };

/** What decoding says, or why it says nothing. */
function said(decode: (line: string) => unknown, line: string): unknown {
  try {
    return decode(line);
  } catch (e) {
    if (e instanceof LineError) return e.message;
    throw e;
  }
}

const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const names = fc.oneof(
  fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' }),
  fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }),
  fc.constantFrom(
    '.',
    '..',
    'a/../b',
    '/a',
    'a//b',
    'usr/include/stdio.h',
    'a"b',
    'a\\b',
    'a\x7fb',
  ),
);
const entries = fc
  .record({
    path: names,
    mode: fc.integer({ min: 0, max: 0o10000 }),
    uid: fc.nat(2 ** 32 - 1),
    gid: fc.nat(2 ** 32 - 1),
    size: fc.maxSafeNat(),
    mtimeNs: i64,
    ctimeNs: i64,
    ino: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    dev: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  })
  .map((facts) => entryOf(facts));
const offsets = fc.oneof(
  fc.nat(2 ** 20).map((block) => block * 512),
  fc.maxSafeNat(),
);

test('lines of files: the short way says what the long way says', (t) => {
  t.log(`seed ${seed}`);
  fc.assert(
    fc.property(entries, offsets, offsets, fc.boolean(), (entry, header, data, changed) => {
      const digest = blake3(entry.path).toString('hex');
      const line = encodeEntry(entry, header, data, digest, changed).slice(0, -1);
      t.deepEqual(said(decodeLine, line), said(decodeAnyLine, line));
    }),
    runs,
  );
});

const PLAIN_PATH = /^[ !#-[\]-~]+$/;

test('lines of plain files as bytes are what the long way writes', (t) => {
  t.log(`seed ${seed}`);
  const lines = new LineBuffer();
  const times = fc.oneof(
    i64,
    fc.bigInt({ min: 0n, max: 2n ** 61n }),
    fc.constantFrom(0n, 1n, 999_999_999n, 1_000_000_000n, 1_700_000_000_000_000_001n, -1n),
  );
  const facts = fc.record({ mtimeNs: times, ctimeNs: times });
  let compared = 0;
  fc.assert(
    fc.property(entries, facts, offsets, offsets, (entry, said, header, data) => {
      if (!PLAIN_PATH.test(entry.path.toString('latin1'))) return;
      compared++;
      const file = { ...entry, ...said };
      const digest = blake3(entry.path).toString('hex');
      const line = encodeEntry(file, header, data, digest, false);
      lines.clear();
      lines.put('{"before":"é"}\n');
      lines.putFile(file, header, data, digest);
      t.is(lines.bytes.toString('utf8', 0, lines.length), `{"before":"é"}\n${line}`);
    }),
    runs,
  );
  t.true(compared > 300, 'enough of them are plain');
});

test('decimals as bytes', (t) => {
  t.log(`seed ${seed}`);
  const into = new Uint8Array(32);
  const text = (from: number, to: number) => Buffer.from(into.subarray(from, to)).toString();
  const edges = Array.from({ length: 16 }, (_, i) => 10 ** i);
  const near = [...edges, ...edges.map((e) => e - 1), 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER];
  const numbers = fc.oneof(fc.maxSafeNat(), fc.nat(), fc.constantFrom(...near));
  fc.assert(
    fc.property(numbers, fc.nat(8), (value, at) => {
      t.is(digitsOf(value), String(value).length);
      t.is(text(at, putDecimal(into, at, value)), String(value));
      const small = value % 1_000_000_000;
      t.is(text(at, putDigits(into, at, 9, small)), String(small).padStart(9, '0'));
    }),
    runs,
  );
});

test('lines with one character changed: both say the same', (t) => {
  t.log(`seed ${seed}`);
  const line = encodeEntry(
    entryOf({ path: 'usr/include/stdio.h', size: 29_000, uid: 1000, dev: 27n, ino: 4711n }),
    ...([1024, 2560, blake3('').toString('hex'), false] as const),
  ).slice(0, -1);
  const at = fc.nat(line.length - 1);
  const by = fc.constantFrom(...'"\\{}:,.-+0179aAfgz \x00\x1f\x7fé'.split(''), '');
  fc.assert(
    fc.property(at, by, (i, character) => {
      const other = line.slice(0, i) + character + line.slice(i + 1);
      t.deepEqual(said(decodeLine, other), said(decodeAnyLine, other));
    }),
    runs,
  );
});

test('times in decimal', (t) => {
  t.log(`seed ${seed}`);
  const split = new SplitTime();
  const edges = fc.constantFrom(
    0n,
    1n,
    999_999_999n,
    10n ** 9n,
    2n ** 32n,
    2n ** 63n - 1n,
    2n ** 63n,
  );
  fc.assert(
    fc.property(fc.oneof(i64, edges, fc.bigInt({ min: 0n, max: 2n ** 62n })), (ns) => {
      t.is(nanosecondsText(ns), String(ns));
      const is64 = ns >= 0n && ns < 2n ** 63n;
      t.is(split.set(ns), is64);
      if (!is64) return;
      t.is(split.seconds, Number(ns / 10n ** 9n));
      t.is(split.nanos, Number(ns % 10n ** 9n));
      t.is(split.fraction, String(ns % 10n ** 9n).padStart(9, '0'));
    }),
    runs,
  );
});
