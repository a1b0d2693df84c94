/**
 * Who sleeps is woken also where the one that should have done it is gone, and who waits for more
 * than there is neither misses the end nor lets the other side wait for ever.
 *
 * Slices are far longer than a test may take: nothing but a wake-up ends a sleep.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { MEMBER, NUMBERS, PAGE_BYTES, WINDOW_BYTES } from '../../../src/layout/tables.js';
import { CURSOR_START } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import type { BlockedCall } from './blocked-caller.js';
import { type RingRig, ringRig } from './rig.js';

const CALLER = new URL('./blocked-caller.js', import.meta.url);
const SLICE_MS = 120_000;
/** Long enough for what a test does while the other thread still looks. */
const LOOK_US = 1_000_000;

/** What the call returns, once its thread has ended. */
async function blocked(
  rig: RingRig,
  call: BlockedCall['call'],
  options: Partial<BlockedCall> = {},
): Promise<number> {
  const end = call === 'write' ? 0 : 1;
  const workerData: BlockedCall = {
    call,
    stg: rig.stg,
    end,
    cable: rig.cables[end],
    sliceMs: SLICE_MS,
    ...options,
  };
  const worker = new Worker(CALLER, { workerData });
  const exit = once(worker, 'exit');
  const [result] = await once(worker, 'message');
  await exit;
  return result;
}

async function until(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 2));
}

test('an abort wakes a thread whose waker died after it had cleared the wait word', async (t) => {
  const rig = ringRig();
  const word = rig.direction('consumerWait');
  const result = blocked(rig, 'read');
  await until(() => rig.segment.load(word) === NUMBERS.WAIT_FUTEX);
  await new Promise((resolve) => setTimeout(resolve, 50)); /* from the word into the futex */
  rig.segment.store(word, NUMBERS.WAIT_NONE);
  native().connectionAbort(rig.stg, 0, 0, 1, 0);
  t.is(await result, -1);
});

test('an abort marks the stream ready for the event loop that waits for it, and rings', (t) => {
  const rig = ringRig();
  const sleep = rig.geometry.members + 1 * MEMBER.bytes + MEMBER.at.sleep;
  t.is(native().ringArm(rig.rx), 0);
  rig.segment.store(sleep, 1);
  native().connectionAbort(rig.stg, 0, 0, 1, rig.cables[0]);
  const bits = rig.geometry.readyBits + rig.geometry.readyBitsBytes;
  t.is(rig.segment.load(bits), 0b10, 'end 1 of connection 0');
  t.is(rig.segment.load(sleep), 0);
  t.true(rig.rung(1));
});

test('who waits for a whole page does not sleep where the stream ended meanwhile', async (t) => {
  const rig = ringRig();
  t.is(native().ringWrite(rig.tx, Buffer.alloc(10), 0, 10, 0), 10);
  const taken = blocked(rig, 'takePage', { spinUs: LOOK_US });
  await until(() => rig.segment.load(rig.direction('consumerWaits')) > 0);
  native().ringFinish(rig.tx); /* nobody sleeps yet, so nobody is woken */
  t.is(await taken, 10, 'the rest');
});

test('two that wait for more do not both sleep where the window is a page', async (t) => {
  const rig = ringRig();
  const there = 40_000;
  t.is(native().ringWrite(rig.tx, Buffer.alloc(there), 0, there, 0), there);
  const taken = blocked(rig, 'takePage', { spinUs: LOOK_US });
  await until(() => rig.segment.load(rig.direction('consumerWaits')) > 0);
  const written = blocked(rig, 'write', {
    bytes: PAGE_BYTES,
    window: PAGE_BYTES,
    cursor: CURSOR_START + there,
    spinUs: 0,
  });
  t.deepEqual(await Promise.all([taken, written]), [PAGE_BYTES, PAGE_BYTES]);
});

test('who waits with a part of a page sees that the peer is dead', (t) => {
  const { tx, rx, cables } = ringRig();
  t.is(native().ringWrite(tx, Buffer.alloc(10), 0, 10, 0), 10);
  t.is(native().ringTakePage(rx, 1), 0, 'it may still come');
  native().ringClose(tx);
  native().cableClose(cables[0]);
  t.is(native().ringTakePage(rx, 1) % 2 ** 17, 10, 'what it has sent');
  t.is(native().ringTakePage(rx, 1), -1, 'ECONNRESET');
});

test('an event loop that finds bytes when it arms does not wake a full producer', (t) => {
  const rig = ringRig({ boardBytes: 4 << 20 });
  const bytes = Buffer.alloc(WINDOW_BYTES);
  t.is(native().ringWrite(rig.tx, bytes, 0, bytes.length, 0), bytes.length);
  t.is(native().ringArm(rig.tx), 0);
  t.is(native().ringArm(rig.rx), WINDOW_BYTES);
  t.is(rig.segment.load(rig.direction('producerWait')), NUMBERS.WAIT_LOOP, 'there is no room yet');
  t.is(native().ringRead(rig.rx, bytes, 0, bytes.length, 0), bytes.length);
  t.is(rig.segment.load(rig.direction('producerWait')), NUMBERS.WAIT_NONE, 'and now there is');
});
