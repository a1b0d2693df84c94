/**
 * Who sleeps is woken also where the one that should have done it is gone.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { MEMBER, NUMBERS } from '../../../src/layout/tables.js';
import { native } from '../../../src/native.js';
import { ringRig } from './rig.js';

const READER = new URL('./blocked-reader.js', import.meta.url);
/** Far longer than the test may take: nothing but the abort may end the wait. */
const SLICE_MS = 120_000;

test('an abort wakes a thread whose waker died after it had cleared the wait word', async (t) => {
  const rig = ringRig();
  const word = rig.direction('consumerWait');
  const worker = new Worker(READER, {
    workerData: { stg: rig.stg, end: 1, sliceMs: SLICE_MS, cable: rig.cables[1] },
  });
  const exit = once(worker, 'exit');
  const result = once(worker, 'message');
  while (rig.segment.load(word) !== NUMBERS.WAIT_FUTEX) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await new Promise((resolve) => setTimeout(resolve, 50)); /* from the word into the futex */
  rig.segment.store(word, NUMBERS.WAIT_NONE);
  native().connectionAbort(rig.stg, 0, 0, 1, 0);
  t.deepEqual(await result, [-1]);
  await exit;
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
