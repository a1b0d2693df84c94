import test from 'ava';
import { MEMBER } from '../../../src/layout/tables.js';
import { decodeFigures } from '../../../src/view/decode.js';
import type { Figures } from '../../../src/view/figures.js';
import { withRates } from '../../../src/view/rates.js';
import { type ArrayRig, arrayRig } from './rig.js';

const sample = (rig: ArrayRig, takenMs: number): Figures => ({
  ...decodeFigures(rig.segment, { pid: 'self' }),
  takenMs,
});

test('a rate is the difference over the time between', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.set(0, 0, 'bytesProduced', 1000);
  const before = sample(rig, 5000);
  rig.set(0, 0, 'bytesProduced', 1500);
  rig.set(0, 0, 'bytesConsumed', 300);
  const after = withRates(before, sample(rig, 5250));
  t.is(after.intervalMs, 250);
  t.is(after.sockets[0]?.sendBytesPerSecond, 2000);
  t.is(after.sockets[1]?.receiveBytesPerSecond, 1200);
  t.is(after.hosts[0]?.sendBytesPerSecond, 2000);
  t.is(after.hosts[1]?.receiveBytesPerSecond, 1200);
});

test('a connection that was made meanwhile has started at nothing', (t) => {
  const rig = arrayRig();
  rig.connect(0, 1);
  rig.set(0, 0, 'bytesProduced', 5000);
  const before = sample(rig, 0);
  rig.connect(0, 2);
  rig.set(0, 0, 'bytesProduced', 5001);
  t.is(withRates(before, sample(rig, 1000)).sockets[0]?.sendBytesPerSecond, 5001);
});

test('counters that go backwards give no negative rate; those of 32 bits wrap', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  const wakes = rig.offset + rig.geometry.members + MEMBER.at.wakesSent;
  rig.set(0, 0, 'bytesProduced', 5000);
  rig.segment.store(wakes, 0xfffffffe);
  const before = sample(rig, 0);
  rig.set(0, 0, 'bytesProduced', 4000);
  rig.segment.store(wakes, 3);
  const after = withRates(before, sample(rig, 1000));
  t.is(after.sockets[0]?.sendBytesPerSecond, 0);
  t.is(after.hosts[0]?.wakesSentPerSecond, 5);
});

test('of another instance, or over no time, no rate is known', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  const before = sample(rig, 0);
  const now = sample(rig, 1000);
  const other = { ...now, array: { ...now.array, instance: '00'.repeat(16) } };
  t.is(withRates(before, other).sockets[0]?.sendBytesPerSecond, null);
  t.is(withRates(before, sample(rig, 0)).intervalMs, null);
});
