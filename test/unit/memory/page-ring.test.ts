/**
 * The page ring by itself: order, bounds, ends, hostile words, and where its pages go.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { NUMBERS, PAGE_BYTES, WINDOW_BYTES } from '../../../src/layout/tables.js';
import {
  RING_BROKEN,
  RING_CLOSED,
  RING_END,
  RING_RESET,
  viewBytes,
  viewOffset,
} from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { GENERATION, random, ringRig } from './rig.js';

const EINVAL = -1000 - 22;
const EBADF = -1000 - 9;
const EAGAIN = -1000 - 11;

const seedOf = (): number => Number(process.env.STPD_SEED ?? Math.floor(Math.random() * 2 ** 32));

for (const cursor of [NUMBERS.CURSOR_START, 0, 2 ** 32 - 1, 2 ** 31 - 12345]) {
  test(`bytes keep their order across the wrap, cursors from ${cursor}`, (t) => {
    const seed = seedOf();
    t.log(`STPD_SEED=${seed}`);
    const next = random(seed);
    const rig = ringRig({ cursor });
    const from = Buffer.alloc(300_000);
    const into = Buffer.alloc(300_000);
    let sent = 0;
    let got = 0;
    const total = 24 << 20;
    while (got < total) {
      const bytes = 1 + Math.floor(next() * from.length);
      for (let i = 0; i < bytes; i += 4096) from[i] = (sent + i) % 251;
      from[bytes - 1] = (sent + bytes - 1) % 251;
      const before = sent;
      sent += native().ringWrite(rig.tx, from, 0, bytes, 0);
      /* Only whole writes are checked byte by byte at these places. */
      const want = 1 + Math.floor(next() * into.length);
      const read = native().ringRead(rig.rx, into, 0, want, 0);
      t.true(sent >= before && read >= 0);
      got += read;
      if (got > total / 2 && next() < 0.01) break;
    }
    t.true(sent - got <= WINDOW_BYTES);
  });
}

test('every byte arrives once and in place', (t) => {
  const seed = seedOf();
  t.log(`STPD_SEED=${seed}`);
  const next = random(seed);
  const rig = ringRig();
  let sent = 0;
  let got = 0;
  const total = 9_000_000;
  const valueAt = (at: number): number => (at ^ (at >>> 8) ^ (at >>> 16)) & 0xff;
  while (got < total) {
    const chunk = Buffer.alloc(1 + Math.floor(next() * 200_000));
    for (let i = 0; i < chunk.length; i++) chunk[i] = valueAt(sent + i);
    sent += native().ringWrite(rig.tx, chunk, 0, chunk.length, 0);
    const into = Buffer.alloc(1 + Math.floor(next() * 200_000));
    const read = native().ringRead(rig.rx, into, 0, into.length, 0);
    for (let i = 0; i < read; i++) {
      if (into[i] !== valueAt(got + i)) return t.fail(`byte ${got + i} differs`);
    }
    got += read;
  }
  t.pass();
});

test('the window is a bound, and reading opens it', (t) => {
  const { tx, rx } = ringRig({ boardBytes: 4 << 20 });
  const data = Buffer.alloc(WINDOW_BYTES + 1);
  t.is(native().ringWrite(tx, data, 0, data.length, 0), WINDOW_BYTES);
  t.is(native().ringWrite(tx, data, 0, 1, 0), 0);
  t.is(native().ringArm(tx), 0);
  t.is(native().ringRead(rx, data, 0, 100, 0), 100);
  t.is(native().ringWrite(tx, data, 0, 1000, 0), 100);
});

test('a smaller limit is kept', (t) => {
  const { tx } = ringRig();
  native().ringSetLimit(tx, 2 * PAGE_BYTES);
  const data = Buffer.alloc(WINDOW_BYTES);
  t.is(native().ringWrite(tx, data, 0, data.length, 0), 2 * PAGE_BYTES);
});

test('the end never overtakes data', (t) => {
  const { tx, rx } = ringRig();
  native().ringWrite(tx, Buffer.from('last words'), 0, 10, 0);
  native().ringFinish(tx);
  const into = Buffer.alloc(4);
  t.is(native().ringRead(rx, into, 0, 4, 0), 4);
  t.is(native().ringRead(rx, Buffer.alloc(100), 0, 100, 0), 6);
  t.is(native().ringRead(rx, into, 0, 4, 0), RING_END);
});

test('a reset is told after what was sent before it', (t) => {
  const { tx, rx } = ringRig();
  native().ringWrite(tx, Buffer.from('x'), 0, 1, 0);
  native().ringAbort(tx);
  t.is(native().ringRead(rx, Buffer.alloc(9), 0, 9, 0), 1);
  t.is(native().ringRead(rx, Buffer.alloc(9), 0, 9, 0), RING_RESET);
});

test('a reader that has closed refuses writes', (t) => {
  const one = ringRig();
  native().ringCloseReading(one.rx, 0);
  t.is(native().ringWrite(one.tx, Buffer.alloc(1), 0, 1, 0), RING_CLOSED);
  const other = ringRig();
  native().ringCloseReading(other.rx, 1);
  t.is(native().ringWrite(other.tx, Buffer.alloc(1), 0, 1, 0), RING_RESET);
});

test('hostile: a head beyond the tail breaks the ring, not the process', (t) => {
  const rig = ringRig();
  rig.segment.store(rig.direction('head'), (NUMBERS.CURSOR_START + 99_999_999) >>> 0);
  t.is(native().ringState(rig.tx), RING_BROKEN);
  t.is(
    native().ringWrite(rig.tx, Buffer.alloc(WINDOW_BYTES * 2), 0, WINDOW_BYTES * 2, 0),
    RING_BROKEN,
  );
});

test('hostile: a tail further than the window breaks the ring', (t) => {
  const rig = ringRig();
  rig.segment.store(rig.direction('tail'), (NUMBERS.CURSOR_START + WINDOW_BYTES + 1) >>> 0);
  t.is(native().ringRead(rig.rx, Buffer.alloc(1), 0, 1, 0), RING_BROKEN);
});

test('hostile: no page, a page outside the STG, a page of another stream', (t) => {
  for (const listed of [0, 0xffffffff, 1 << 20, 5]) {
    const rig = ringRig();
    native().ringWrite(rig.tx, Buffer.from('secret'), 0, 6, 0);
    /* Page 4 belongs to another connection. */
    rig.segment.store(rig.geometry.owners + 4 * 4, ((2 << 30) | (1 << 16) | 9) >>> 0);
    for (let entry = 0; entry < 64; entry++) {
      rig.segment.store(rig.direction('pages') + entry * 4, listed);
    }
    t.is(native().ringRead(rig.rx, Buffer.alloc(6), 0, 6, 0), RING_BROKEN, String(listed));
  }
});

test('reserve and commit, peek and consume, and their misuse', (t) => {
  const { segment, tx, rx } = ringRig();
  const packed = native().ringReserve(tx, 0);
  t.true(packed > 0);
  const view = segment.u8.subarray(viewOffset(packed), viewOffset(packed) + viewBytes(packed));
  view[0] = 42;
  t.is(native().ringCommit(tx, viewBytes(packed) + 1), EINVAL, 'more than was reserved');
  t.is(native().ringCommit(tx, 1), 1);
  t.is(native().ringCommit(tx, 1), EINVAL, 'nothing is reserved any more');
  const peeked = native().ringPeek(rx, 0);
  t.is(viewBytes(peeked), 1);
  t.is(segment.u8[viewOffset(peeked)], 42);
  t.is(native().ringConsume(rx, 1), 1);
  t.is(native().ringConsume(rx, 1), EINVAL, 'twice');
});

test('exchange: the reader keeps the page, the writer goes on with the one it was given', (t) => {
  const rig = ringRig();
  const { stg, tx, rx, segment } = rig;
  const page = (fill: number): Buffer => Buffer.alloc(PAGE_BYTES, fill);
  t.is(native().ringExchange(rx, 0), EAGAIN, 'nothing to take');
  /* CURSOR_START is the start of a page. */
  native().ringWrite(tx, page(1), 0, PAGE_BYTES, 0);
  const owner = native().ringMemberOwner(rx);
  const mine = native().pageClaim(stg, owner, 0);
  t.is(native().ringExchange(rx, mine + 1), EINVAL, 'a page that is not ours to give');
  const taken = native().ringExchange(rx, mine);
  t.true(taken >= 0);
  for (let i = 0; i < 130; i++) {
    t.is(native().ringWrite(tx, page(2), 0, PAGE_BYTES, 0), PAGE_BYTES);
    t.is(native().ringRead(rx, page(0), 0, PAGE_BYTES, 0), PAGE_BYTES);
  }
  const at =
    rig.geometry.memory +
    (taken % rig.geometry.boardCount) * rig.geometry.boardBytes +
    Math.floor(taken / rig.geometry.boardCount) * PAGE_BYTES;
  t.true(segment.u8.subarray(at, at + PAGE_BYTES).every((byte) => byte === 1));
  t.true(native().pageRelease(stg, taken, owner));
  t.false(native().pageRelease(stg, taken, owner), 'once');
});

test('a full pool: no page for a second stream’s growth, a first page from the reserve', (t) => {
  const rig = ringRig({ boardBytes: 1 << 20 });
  const pages = rig.geometry.pageCount;
  const data = Buffer.alloc(WINDOW_BYTES);
  const first = native().ringWrite(rig.tx, data, 0, data.length, 0);
  const mayTake = pages - pages / 8; /* one eighth is kept for streams without a page */
  t.is(first, Math.ceil((mayTake * 4) / 5) * PAGE_BYTES, 'four times what it leaves');
  t.is(native().ringWrite(rig.tx, data, 0, 1, 0), 0, 'as with a full window');
  t.is(native().ringArm(rig.tx), 0, 'the peer will wake it');
  native().connectionInit(rig.stg, 1);
  const other = rig.open(1, true);
  const second = native().ringWrite(other, data, 0, data.length, 0);
  t.true(second > PAGE_BYTES && second < first);
  /* Beyond its share, a stream gives back what is read, and goes on with its share. */
  t.is(native().ringRead(rig.rx, data, 0, PAGE_BYTES, 0), PAGE_BYTES);
  t.is(native().ringWrite(rig.tx, data, 0, data.length, 0), 0);
  native().ringRead(rig.rx, data, 0, data.length, 0);
  t.true(native().ringWrite(rig.tx, data, 0, data.length, 0) > second);
});

test('an idle stream holds no page', (t) => {
  const rig = ringRig();
  const data = Buffer.alloc(500_000);
  native().ringWrite(rig.tx, data, 0, data.length, 0);
  t.is(rig.pagesUsed(), 8);
  t.is(native().ringReleaseIdle(rig.tx), 8, 'unread bytes keep their pages');
  native().ringRead(rig.rx, data, 0, data.length, 0);
  t.is(native().ringReleaseIdle(rig.tx), 0);
  t.is(rig.pagesUsed(), 0);
  native().ringWrite(rig.tx, Buffer.from('again'), 0, 5, 0);
  t.is(native().ringRead(rig.rx, data, 0, 5, 0), 5);
  t.is(data.toString('latin1', 0, 5), 'again');
});

test('releasing a connection frees its pages', (t) => {
  const rig = ringRig();
  native().ringWrite(rig.tx, Buffer.alloc(1 << 20), 0, 1 << 20, 0);
  t.is(native().connectionRelease(rig.stg, 0, GENERATION), 16);
  t.is(rig.pagesUsed(), 0);
});

test('file to pages to file, and the errors of files', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-ring-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const { tx, rx } = ringRig();
  const data = Buffer.alloc(1_234_567);
  for (let i = 0; i < data.length; i++) data[i] = (i * 31) & 0xff;
  writeFileSync(join(directory, 'in'), data);
  const source = openSync(join(directory, 'in'), 'r');
  const target = openSync(join(directory, 'out'), 'w');
  for (let sent = 0, got = 0; got < data.length; ) {
    const filled = native().ringFillFromFile(tx, source, sent, data.length, 0);
    if (filled > 0) sent += filled;
    got += native().ringDrainToFile(rx, target, -1, data.length, 0);
  }
  t.is(native().ringFillFromFile(tx, source, data.length, 10, 0), RING_END);
  closeSync(source);
  closeSync(target);
  t.true(readFileSync(join(directory, 'out')).equals(data));
  t.is(native().ringFillFromFile(tx, 1_000_000, 0, 10, 0), EBADF);
});
