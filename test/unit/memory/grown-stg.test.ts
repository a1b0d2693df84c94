/**
 * An STG of two files: pages of the second go into the list of a connection only when both its ends
 * have mapped it, and claims go round the boards of both.
 */
import test from 'ava';
import { firstExtent, nextExtent } from '../../../src/layout/geometry.js';
import { BOARD, MEMBER, PAGE_BYTES } from '../../../src/layout/tables.js';
import { RING_NO_PAGE } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { type RingRig, ringRig } from './rig.js';

const BOARD_BYTES = 1 << 20;
const PAGES_OF_BOARD = BOARD_BYTES / PAGE_BYTES;

/** A rig of four boards, with two more mapped behind it. */
function grownRig(): RingRig {
  const rig = ringRig({ boards: 4, boardBytes: BOARD_BYTES, boardMax: 8 });
  const file = { offset: rig.geometry.bytes, boardBytes: BOARD_BYTES };
  const extent = nextExtent(firstExtent(rig.geometry, 0), {
    ...file,
    boardCount: 2,
    connectionCount: 8,
  });
  const fd = native().memfdCreate('stpd-test-extent');
  native().claim(fd, extent.bytes);
  rig.segment.map(extent.offset, fd, extent.bytes, true);
  native().closeDescriptor(fd);
  native().stgGrow(rig.stg, extent);
  return rig;
}

/** What the director writes once a member has said that it has mapped so many files. */
function mapped(rig: RingRig, member: number, files: number): void {
  rig.segment.store(rig.geometry.members + member * MEMBER.bytes + MEMBER.at.extents, files);
}

const used = (rig: RingRig): number[] => native().pagesUsed(rig.stg);

test('with both ends there, the pages of a list go round the boards of both files', (t) => {
  const rig = grownRig();
  mapped(rig, 1, 2);
  t.is(native().ringWrite(rig.tx, Buffer.alloc(12 * PAGE_BYTES), 0, 12 * PAGE_BYTES, 0), 786432);
  t.deepEqual(used(rig), [2, 2, 2, 2, 2, 2]);
});

test('bytes in pages of the second file arrive as they were', (t) => {
  const rig = grownRig();
  mapped(rig, 1, 2);
  const sent = Buffer.alloc(40 * PAGE_BYTES, 'stripes of many boards ');
  t.is(native().ringWrite(rig.tx, sent, 0, sent.length, 0), sent.length);
  const got = Buffer.alloc(sent.length);
  t.is(native().ringRead(rig.rx, got, 0, got.length, 0), got.length);
  t.true(got.equals(sent));
  const accesses = [0, 1, 2, 3, 4, 5].map((board) =>
    rig.segment.counter(rig.geometry.boards + board * BOARD.bytes + BOARD.at.accesses),
  );
  t.true(
    accesses.every((count) => count >= 12),
    accesses.join(),
  );
});

test('a peer that has not mapped the second file sees no page of it, also in a full pool', (t) => {
  const rig = grownRig();
  mapped(rig, 1, 1);
  /* Others have the first file. */
  const other = 0x40010003;
  const first = 4 * PAGES_OF_BOARD;
  for (let i = 0; i < 6 * PAGES_OF_BOARD; i++) {
    const page = native().pageClaim(rig.stg, other, i);
    if (page >= first) native().pageRelease(rig.stg, page, other);
  }
  t.deepEqual(used(rig), [16, 16, 16, 16, 0, 0]);
  t.is(native().ringWrite(rig.tx, Buffer.alloc(64), 0, 64, 0), RING_NO_PAGE);
  mapped(rig, 1, 2);
  t.is(native().ringWrite(rig.tx, Buffer.alloc(64), 0, 64, 0), 64);
});

test('a number of files that cannot be breaks nothing', (t) => {
  const rig = grownRig();
  for (const lie of [0, 3, 16, 0xffffffff]) {
    mapped(rig, 1, lie);
    t.is(native().ringWrite(rig.tx, Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, 0), PAGE_BYTES);
    const into = Buffer.alloc(PAGE_BYTES);
    t.is(native().ringRead(rig.rx, into, 0, PAGE_BYTES, 0), PAGE_BYTES);
  }
});

test('slots of the second file carry streams, those behind it do not open', (t) => {
  const rig = grownRig();
  native().connectionInit(rig.stg, 71);
  const tx = rig.open(71, true);
  const rx = rig.open(71, false);
  t.is(native().ringWrite(tx, Buffer.from('beyond'), 0, 6, 0), 6);
  const into = Buffer.alloc(6);
  t.is(native().ringRead(rx, into, 0, 6, 0), 6);
  t.is(into.toString(), 'beyond');
  t.throws(() => rig.open(72, true), { code: 'ERANGE' });
});

test('a file that contradicts the STG is refused', (t) => {
  const rig = ringRig({ boards: 4, boardBytes: BOARD_BYTES, boardMax: 5 });
  const extent = (boardCount: number, offset = rig.geometry.bytes): object =>
    nextExtent(firstExtent(rig.geometry, 0), {
      offset,
      boardBytes: BOARD_BYTES,
      boardCount,
      connectionCount: 0,
    });
  t.throws(() => native().stgGrow(rig.stg, extent(2)), { message: /does not fit/ }, 'too many');
  const outside = rig.segment.buffer.byteLength;
  t.throws(() => native().stgGrow(rig.stg, extent(1, outside)), { message: /does not fit/ });
  t.is(native().stgGrow(rig.stg, extent(1)), 2);
});
