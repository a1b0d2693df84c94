/**
 * Pages that are short: a stream that must do with those it has, shares that even out, and streams
 * without a page that come to one.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PAGE_BYTES, PAGE_LIST_ENTRIES, WINDOW_BYTES } from '../../../src/layout/tables.js';
import { RING_NO_PAGE } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { type RingRig, random, ringRig } from './rig.js';

test('a file goes through unharmed when no second page is to be had', (t) => {
  const { geometry, stg, tx, rx } = ringRig();
  /* Others hold all but the reserve, from which a stream without pages gets one. */
  for (let i = 0; i < geometry.pageCount - geometry.pageCount / 8; i++) {
    native().pageClaim(stg, 0x40010003, i);
  }
  const directory = mkdtempSync(join(tmpdir(), 'stpd-ring-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const content = randomBytes(400_000);
  const path = join(directory, 'file');
  writeFileSync(path, content);
  const fd = openSync(path, 'r');
  t.teardown(() => closeSync(fd));
  const into = Buffer.alloc(content.length);
  for (let sent = 0; sent < content.length; ) {
    const moved = native().ringFillFromFile(tx, fd, sent, content.length - sent, 0);
    if (moved <= 0) return t.fail(`fill said ${moved}`);
    for (let got = 0; got < moved; ) {
      const read = native().ringRead(rx, into, sent + got, moved - got, 0);
      if (read <= 0) return t.fail(`read said ${read}`);
      got += read;
    }
    sent += moved;
  }
  t.true(into.equals(content));
});

const data = Buffer.alloc(WINDOW_BYTES);

interface Stream {
  readonly connection: number;
  readonly tx: number;
  readonly rx: number;
}

function open(rig: RingRig, connection: number): Stream {
  if (connection > 0) native().connectionInit(rig.stg, connection);
  const ends = connection === 0 ? rig : undefined;
  return {
    connection,
    tx: ends?.tx ?? rig.open(connection, true),
    rx: ends?.rx ?? rig.open(connection, false),
  };
}

const write = ({ tx }: Stream, bytes: number): number => native().ringWrite(tx, data, 0, bytes, 0);
const read = ({ rx }: Stream, bytes: number): number => native().ringRead(rx, data, 0, bytes, 0);

function pagesOf(rig: RingRig, { connection }: Stream): number {
  const list = rig.direction('pages', connection);
  let pages = 0;
  for (let i = 0; i < PAGE_LIST_ENTRIES; i++) {
    if (rig.segment.load(list + i * 4) !== 0) pages++;
  }
  return pages;
}

/** A pool of 64 pages. */
const small = (): RingRig => ringRig({ boardBytes: 1 << 20 });

test('what busy streams hold evens out, whoever came first', (t) => {
  const rig = small();
  const streams = [open(rig, 0)];
  while (write(streams[0] as Stream, WINDOW_BYTES) > 0);
  const alone = pagesOf(rig, streams[0] as Stream);
  for (let i = 1; i < 4; i++) streams.push(open(rig, i));
  for (let round = 0; round < 200; round++) {
    for (const stream of streams) {
      read(stream, PAGE_BYTES);
      write(stream, WINDOW_BYTES);
    }
  }
  const held = streams.map((stream) => pagesOf(rig, stream));
  t.log(`${alone} pages alone, then ${held.join(', ')}`);
  t.true(alone > 40);
  t.true(Math.max(...held) <= 2 * Math.min(...held), `${held}`);
  /* And back: the others are read to the end and fall idle. */
  for (const stream of streams.slice(1)) {
    while (read(stream, WINDOW_BYTES) > 0);
    while (native().ringReleaseIdle(stream.tx) > 0);
  }
  write(streams[0] as Stream, WINDOW_BYTES);
  read(streams[0] as Stream, PAGE_BYTES);
  write(streams[0] as Stream, WINDOW_BYTES);
  t.is(pagesOf(rig, streams[0] as Stream), alone, 'its window grows again');
});

test('more streams than pages: each comes to a page, again and again', (t) => {
  const rig = ringRig({ boardBytes: 256 * 1024 }); /* 16 pages */
  const streams = Array.from({ length: 48 }, (_, i) => open(rig, i));
  const moved = streams.map(() => 0);
  const queue = streams.map((_, i) => i);
  for (let turn = 0; turn < 20_000; turn++) {
    const i = queue.shift() as number;
    const sent = write(streams[i] as Stream, WINDOW_BYTES);
    if (sent > 0) moved[i] = (moved[i] as number) + sent;
    queue.push(i);
    /* The readers are slower, and take turns too. */
    if (turn % 3 === 0) read(streams[(turn / 3) % 48] as Stream, PAGE_BYTES);
  }
  t.log(`${Math.min(...moved) / PAGE_BYTES} to ${Math.max(...moved) / PAGE_BYTES} pages each`);
  t.true(Math.min(...moved) > 10 * PAGE_BYTES);
  t.true(Math.max(...moved) <= 3 * Math.min(...moved));
});

test('a stream with little in flight keeps its page while greedy ones take all others', (t) => {
  const rig = small();
  const greedy = Array.from({ length: 4 }, (_, i) => open(rig, i));
  const modest = open(rig, 4);
  t.is(write(modest, 64), 64);
  t.is(read(modest, 64), 64);
  for (let round = 0; round < 3000; round++) {
    for (const stream of greedy) {
      write(stream, WINDOW_BYTES);
      read(stream, PAGE_BYTES);
    }
    if (write(modest, 64) !== 64) return t.fail(`round ${round}`);
    t.is(read(modest, 64), 64);
    if (round % 100 === 0) {
      native().ringReleaseIdle(modest.tx);
      t.is(pagesOf(rig, modest), 1, 'it has moved since it was last looked at');
    }
  }
  t.is(pagesOf(rig, modest), 1);
});

test('who has no page gets one of a stream that has turned its page', (t) => {
  const rig = small();
  const holders = Array.from({ length: 40 }, (_, i) => open(rig, i));
  const late = open(rig, 40);
  /* Unread, all of them: nobody can have a page. */
  for (const stream of holders) write(stream, 2 * PAGE_BYTES);
  for (let i = 41; rig.pagesUsed() < rig.geometry.pageCount; i++) write(open(rig, i), 1);
  t.is(write(late, 64), RING_NO_PAGE);
  const [first] = holders as [Stream];
  read(first, WINDOW_BYTES);
  t.is(write(first, PAGE_BYTES), RING_NO_PAGE, 'it gives way');
  t.is(write(late, 64), 64);
});

test('bytes keep their order whatever is given back in between', (t) => {
  const seed = Number(process.env.STPD_SEED ?? Math.floor(Math.random() * 2 ** 32));
  t.log(`STPD_SEED=${seed}`);
  const next = random(seed);
  const rig = ringRig({ boardBytes: 256 * 1024 });
  const streams = Array.from({ length: 24 }, (_, i) => ({ ...open(rig, i), sent: 0, got: 0 }));
  const at = (stream: { connection: number }, byte: number): number =>
    (byte * 31 + (byte >>> 8) * 7 + stream.connection) & 0xff;
  const chunk = Buffer.alloc(3 * PAGE_BYTES);
  for (let step = 0; step < 2000; step++) {
    const stream = streams[Math.floor(next() * streams.length)] as (typeof streams)[number];
    const bytes = 1 + Math.floor(next() * (next() < 0.5 ? 100 : chunk.length));
    const kind = next();
    if (kind < 0.45) {
      for (let i = 0; i < bytes; i++) chunk[i] = at(stream, stream.sent + i);
      stream.sent += Math.max(0, native().ringWrite(stream.tx, chunk, 0, bytes, 0));
    } else if (kind < 0.95) {
      const got = Math.max(0, native().ringRead(stream.rx, chunk, 0, bytes, 0));
      for (let i = 0; i < got; i++) {
        if (chunk[i] !== at(stream, stream.got + i)) return t.fail(`step ${step}, byte ${i}`);
      }
      stream.got += got;
    } else native().ringReleaseIdle(stream.tx);
  }
  t.true(streams.every(({ sent }) => sent > PAGE_BYTES));
  for (const stream of streams) {
    for (let got = 1; got > 0; ) {
      got = native().ringRead(stream.rx, chunk, 0, chunk.length, 0);
      stream.got += Math.max(got, 0);
    }
    t.is(stream.got, stream.sent);
    native().ringReleaseIdle(stream.tx);
    native().ringReleaseIdle(stream.tx);
  }
  t.is(rig.pagesUsed(), 0);
});
