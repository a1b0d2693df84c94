import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import test from 'ava';
import fc from 'fast-check';
import {
  assertTotals,
  encodeTotals,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_FILE,
  FRAME_MEDIA,
  FRAME_PAD,
  FRAME_WARNING,
  FrameReader,
  FrameWriter,
  LARGE_DATA_BYTES,
  LINE_BYTES_MAX,
} from '../../../src/library/frames.js';
import { inDirectory, MemoryPipe } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

function header(type: number, length: number | bigint, flags = 0): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(flags, 4);
  bytes.writeBigUInt64LE(BigInt(length), 8);
  return bytes;
}

const readerOf = (...parts: Uint8Array[]): FrameReader => {
  const pipe = new MemoryPipe();
  for (const part of parts) pipe.feed(part);
  return new FrameReader(pipe);
};

const hostile: [string, Buffer, RegExp][] = [
  ['an unknown type', header(12, 1), /type 12 is unknown/],
  ['type 0', header(0, 1), /type 0 is unknown/],
  ['the highest type', header(0xffffffff, 1), /type 4294967295 is unknown/],
  ['flags', header(FRAME_END, 1, 1), /flags 1 of a END frame/],
  ['a record longer than memory for it', header(FRAME_WARNING, LINE_BYTES_MAX + 1), /longer than/],
  ['a length over 2^53', header(FRAME_DATA, 2n ** 53n), /longer than/],
  ['a length over 2^63', header(FRAME_MEDIA, 2n ** 64n - 512n), /longer than/],
  ['padding of more than any page', header(FRAME_PAD, (1 << 20) + 1), /longer than/],
  ['a large file that is none', header(FRAME_FILE, (4 << 20) + 31), /none of a large file/],
  ['an empty frame', header(FRAME_ENTRY, 0), /is empty/],
  ['media of half a block', header(FRAME_MEDIA, 511), /whole blocks/],
];
for (const [name, bytes, message] of hostile) {
  test(`refused: ${name}`, (t) => {
    t.throws(() => readerOf(bytes).next(), { code: 'EPROTO', message });
  });
}

test('an end between frames is orderly, inside of one it is not', (t) => {
  t.false(readerOf().next());
  t.throws(() => readerOf(header(FRAME_END, 5).subarray(0, 9)).next(), { code: 'EPROTO' });
  const cut = readerOf(header(FRAME_END, 5), Buffer.from('1234'));
  t.true(cut.next());
  t.throws(() => cut.payload(), { code: 'EPROTO', message: /ended inside a frame \(END\)/ });
  const empty = readerOf(header(FRAME_END, 5));
  t.true(empty.next());
  t.throws(() => empty.payload(), { code: 'EPROTO' });
});

test('any frames arrive through pages of any sizes', (t) => {
  t.log(`seed ${seed}`);
  const record = fc.record({
    type: fc.constantFrom(FRAME_ENTRY, FRAME_WARNING, FRAME_DATA),
    size: fc.integer({ min: 1, max: 3000 }),
  });
  const media = fc.record({
    type: fc.constant(FRAME_MEDIA),
    size: fc.integer({ min: 1, max: 12 }).map((n) => n * 512),
  });
  const pages = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 8 });
  inDirectory((directory) => {
    const file = join(directory, 'out');
    fc.assert(
      fc.property(fc.array(fc.oneof(record, media), { maxLength: 40 }), pages, (frames, sizes) => {
        const pipe = new MemoryPipe(sizes);
        const writer = new FrameWriter(pipe);
        const bytes = (i: number, size: number) => Buffer.alloc(size, i + 1);
        for (const [i, { type, size }] of frames.entries()) {
          if (type === FRAME_MEDIA) {
            writer.beginMedia(size);
            writer.put(bytes(i, size), 0, size);
          } else writer.frame(type, bytes(i, size));
        }
        writer.flush();
        // Media frames may have been joined: compare what each kind carried, in order.
        const joined = (list: [number, Buffer][]) =>
          list.reduce<[number, Buffer][]>((all, [type, data]) => {
            const last = all.at(-1);
            if (type === FRAME_MEDIA && last?.[0] === FRAME_MEDIA)
              last[1] = Buffer.concat([last[1], data]);
            else all.push([type, data]);
            return all;
          }, []);
        const reader = new FrameReader(pipe);
        const seen: [number, Buffer][] = [];
        while (reader.next()) {
          if (reader.type === FRAME_MEDIA || reader.type === FRAME_DATA) {
            const fd = openSync(file, 'w');
            reader.toFile(fd, null);
            closeSync(fd);
            seen.push([reader.type, readFileSync(file)]);
          } else seen.push([reader.type, Buffer.from(reader.payload())]);
        }
        t.deepEqual(
          joined(seen),
          joined(frames.map(({ type, size }, i) => [type, bytes(i, size)])),
        );
      }),
      { seed, numRuns: 200 },
    );
  });
});

test('file bytes pass the digest on both ways', (t) => {
  inDirectory((directory) => {
    const data = Buffer.alloc(200_000, 'abcdefg');
    writeFileSync(join(directory, 'in'), data);
    const pipe = new MemoryPipe([4096, 999]);
    const writer = new FrameWriter(pipe);
    const sent = new Blake3Hasher();
    const from = openSync(join(directory, 'in'), 'r');
    writer.begin(FRAME_DATA, data.length - 7);
    t.is(writer.putFile(from, 7, data.length, sent), data.length - 7);
    writer.flush();
    closeSync(from);
    const reader = new FrameReader(pipe);
    const received = new Blake3Hasher();
    const to = openSync(join(directory, 'out'), 'w');
    reader.next();
    reader.toFile(to, received);
    closeSync(to);
    const expected = blake3(data.subarray(7)).toString('hex');
    t.is(sent.digest('hex'), expected);
    t.is(received.digest('hex'), expected);
    t.deepEqual(readFileSync(join(directory, 'out')), data.subarray(7));
  });
});

test('much data begins at a page, wherever the frame before ended', (t) => {
  t.log(`seed ${seed}`);
  const page = 65536;
  const before = fc.oneof(
    fc.integer({ min: 1, max: 3 * page }),
    // Where the headers of padding and frame just fit the page, or just not.
    fc.integer({ min: page - 1200, max: page - 1 }),
  );
  const head = fc.constantFrom(0, 512, 1536, 8192, 200_000);
  const fill = (size: number) => Buffer.alloc(size, 'x');
  fc.assert(
    fc.property(before, head, fc.boolean(), (size, headBytes, isMuch) => {
      const pipe = new MemoryPipe([page]);
      const writer = new FrameWriter(pipe);
      writer.frame(FRAME_WARNING, fill(size));
      writer.align(LARGE_DATA_BYTES - (isMuch ? 0 : 1), headBytes);
      writer.begin(FRAME_DATA, headBytes + 1);
      writer.put(fill(headBytes), 0, headBytes);
      writer.put(fill(1), 0, 1);
      writer.flush();
      // Full pages are handed over with the byte behind them.
      const isAligned = pipe.bytes % page === 1;
      if (isMuch && headBytes <= 8192) t.true(isAligned, `${pipe.bytes} bytes`);
      const reader = new FrameReader(pipe);
      t.true(reader.next());
      t.is(reader.payload().length, size);
      t.true(reader.next());
      t.is(reader.type, FRAME_DATA);
      t.is(reader.length, headBytes + 1);
      reader.toFile(-1, null);
      t.false(reader.next());
      if (!isMuch) t.is(pipe.bytes, size + headBytes + 33);
    }),
    { seed, numRuns: 500 },
  );
});

test('more or less payload than announced is a broken invariant', (t) => {
  const writer = new FrameWriter(new MemoryPipe());
  writer.begin(FRAME_END, 3);
  t.throws(() => writer.flush(), { message: /complete/ });
  t.throws(() => writer.put(Buffer.from('1234'), 0, 4), { message: /announced/ });
});

test('totals must agree', (t) => {
  const totals = { entries: 1, bytes: 2, warnings: 3 };
  t.notThrows(() => assertTotals(encodeTotals(totals), totals));
  t.throws(() => assertTotals(encodeTotals(totals), { ...totals, bytes: 3 }), { code: 'EPROTO' });
  t.throws(() => assertTotals(Buffer.from('{}'), totals), { code: 'EPROTO' });
});
