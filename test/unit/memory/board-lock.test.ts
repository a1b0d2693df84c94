/**
 * The board lock: who holds it keeps others out, and a holder that is gone delays nobody for long.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { BOARD } from '../../../src/layout/tables.js';
import { RING_CONTENDED } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { ringRig } from './rig.js';

const WRITER = new URL('./lock-words.js', import.meta.url);

/** A lock word of a member that does not exist here: it will never unlock. */
const DEAD_HOLDER = (3 << 16) | 77;
/** The least that takes the lock. */
const LOCKED_BYTES = 4096;

test('copies are counted on the boards of their pages', (t) => {
  const rig = ringRig();
  native().ringWrite(rig.tx, Buffer.alloc(4 * 65536), 0, 4 * 65536, 0);
  for (let board = 0; board < 4; board++) {
    const at = rig.geometry.boards + board * BOARD.bytes;
    t.is(rig.segment.counter(at + BOARD.at.accesses), 1, 'neighbouring pages, different boards');
    t.is(rig.segment.counter(at + BOARD.at.bytes), 65536);
    t.is(rig.segment.load(at + BOARD.at.lock), 0);
  }
});

test('pages in place bypass the lock and are counted apart', (t) => {
  const rig = ringRig();
  native().ringReserve(rig.tx, 0);
  native().ringCommit(rig.tx, 1000);
  native().ringReleaseIdle(rig.tx); /* tells the board */
  let bypassed = 0;
  for (let board = 0; board < 4; board++) {
    const at = rig.geometry.boards + board * BOARD.bytes;
    bypassed += rig.segment.counter(at + BOARD.at.bypassedBytes);
    t.is(rig.segment.counter(at + BOARD.at.accesses), 0);
  }
  t.is(bypassed, 1000);
});

test('a small copy takes no lock: it goes on beside a held one', (t) => {
  const rig = ringRig();
  for (let board = 0; board < 4; board++) {
    rig.segment.store(rig.geometry.boards + board * BOARD.bytes + BOARD.at.lock, DEAD_HOLDER);
  }
  const small = Buffer.alloc(LOCKED_BYTES - 1);
  t.is(native().ringWrite(rig.tx, small, 0, small.length, 0), small.length);
  t.is(native().ringRead(rig.rx, small, 0, small.length, 0), small.length);
  native().ringClose(rig.tx);
  native().ringClose(rig.rx);
  let bypassed = 0;
  for (let board = 0; board < 4; board++) {
    const at = rig.geometry.boards + board * BOARD.bytes;
    t.is(rig.segment.load(at + BOARD.at.lock), DEAD_HOLDER);
    bypassed += rig.segment.counter(at + BOARD.at.bypassedBytes);
  }
  t.is(bypassed, 2 * small.length, 'counted, once in and once out');
});

test('an event loop does not wait for a held board', (t) => {
  const rig = ringRig();
  for (let board = 0; board < 4; board++) {
    rig.segment.store(rig.geometry.boards + board * BOARD.bytes + BOARD.at.lock, DEAD_HOLDER);
  }
  t.is(native().ringWrite(rig.tx, Buffer.alloc(LOCKED_BYTES), 0, LOCKED_BYTES, 0), RING_CONTENDED);
});

test('the lock of a holder that is gone is taken over, and that is counted', (t) => {
  const rig = ringRig();
  const at = (board: number): number => rig.geometry.boards + board * BOARD.bytes;
  for (let board = 0; board < 4; board++) rig.segment.store(at(board) + BOARD.at.lock, DEAD_HOLDER);
  t.is(native().ringWrite(rig.tx, Buffer.alloc(LOCKED_BYTES), 0, LOCKED_BYTES, 50), LOCKED_BYTES);
  let steals = 0;
  for (let board = 0; board < 4; board++) steals += rig.segment.load(at(board) + BOARD.at.steals);
  t.is(steals, 1);
});

test('an event loop takes it over too, on a later turn', (t) => {
  const rig = ringRig();
  for (let board = 0; board < 4; board++) {
    rig.segment.store(rig.geometry.boards + board * BOARD.bytes + BOARD.at.lock, DEAD_HOLDER);
  }
  let written = RING_CONTENDED;
  let turns = 0;
  while (written === RING_CONTENDED) {
    written = native().ringWrite(rig.tx, Buffer.alloc(LOCKED_BYTES), 0, LOCKED_BYTES, 0);
    turns++;
  }
  t.is(written, LOCKED_BYTES);
  t.true(turns > 1);
});

test('an event loop that comes to two boards in turn takes over both', (t) => {
  const rig = ringRig();
  native().connectionInit(rig.stg, 1);
  const waiting = new Set([rig.tx, rig.open(1, true)]);
  const data = Buffer.alloc(LOCKED_BYTES);
  for (const tx of waiting) t.is(native().ringWrite(tx, data, 0, LOCKED_BYTES, 0), LOCKED_BYTES);
  for (let board = 0; board < 4; board++) {
    rig.segment.store(rig.geometry.boards + board * BOARD.bytes + BOARD.at.lock, DEAD_HOLDER);
  }
  const watchdog = performance.now() + 1000;
  while (waiting.size > 0 && performance.now() < watchdog) {
    for (const tx of waiting) {
      if (native().ringWrite(tx, data, 0, LOCKED_BYTES, 0) > 0) waiting.delete(tx);
    }
  }
  t.is(waiting.size, 0);
});

test('threads of one host have different lock words: none frees the lock of another', async (t) => {
  const rig = ringRig();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workers = [1, 2].map((connection) => {
    native().connectionInit(rig.stg, connection);
    const workerData = { stg: rig.stg, connection, cable: rig.cables[0], stop };
    return new Worker(WRITER, { workerData });
  });
  const exits = workers.map((worker) => once(worker, 'exit'));
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const threads = new Set<number>();
  const members = new Set<number>();
  const watchdog = performance.now() + 60_000;
  while (threads.size < 2 && performance.now() < watchdog) {
    for (let turn = 0; turn < 10_000; turn++) {
      for (let board = 0; board < 4; board++) {
        const at = rig.geometry.boards + board * BOARD.bytes + BOARD.at.lock;
        const who = rig.segment.load(at + 4); /* the upper half: member + 1 and thread */
        if (who === 0) continue;
        members.add(who >>> 16);
        threads.add(who & 0xffff);
      }
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(stop, 0, 1);
  await Promise.all(exits);
  t.deepEqual([...members], [1]);
  t.is(threads.size, 2);
});
