import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { afterWaiting, within } from '../../../src/backup/deadline.js';

const late = () => new Error('late');

test('a wait ends with its work, or late', async (t) => {
  t.is(await within(60_000, Promise.resolve('done'), late), 'done');
  await t.throwsAsync(within(50, new Promise(() => {}), late), { message: 'late' });
});

test('a process that stood still has not waited', async (t) => {
  const limitMs = 2000;
  let answer: (text: string) => void = () => {};
  const work = new Promise<string>((resolve) => {
    answer = resolve;
  });
  const waited = within(limitMs, work, late);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, limitMs + 100);
  // The loop turns, as it does while it looks into its sockets, before the answer is there.
  for (let turn = 0; turn < 5; turn++) await sleep(1);
  answer('done');
  t.is(await waited, 'done');
});

test('a wait that was ended is never late', async (t) => {
  let calls = 0;
  const end = afterWaiting(20, () => calls++);
  end();
  await sleep(200);
  t.is(calls, 0);
});
