/** Rates, alone and shared between threads. Lower bounds of time only: a busy machine is slower. */
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { parseRate } from '../../../src/backup/rate.js';
import { newPace, Pacer, slowedTo, throttleOf } from '../../../src/backup/throttle.js';
import { monotonicMs } from '../../../src/clock.js';

const MIB = 1 << 20;

test('rates as people write them', (t) => {
  t.is(parseRate('100M'), 100 * MIB);
  t.is(parseRate('1GiB'), 1024 * MIB);
  t.is(parseRate('64K'), 65536);
  t.is(parseRate(5), 5);
  for (const bad of ['0', '-1', '1.5M', 'M', '', '1T', '100MB', ' 1', '1234567K']) {
    t.is(parseRate(bad), null, bad);
  }
});

test('bytes take their time, and a pause gives no rush', async (t) => {
  const pacer = new Pacer([newPace(10 * MIB)]);
  const start = monotonicMs();
  for (let i = 0; i < 32; i++) pacer.take(65536);
  // 2 MiB at 10 MiB/s, less the 20 ms and the last sleep that may be made up for.
  t.true(monotonicMs() - start >= 175, `${monotonicMs() - start} ms`);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const again = monotonicMs();
  for (let i = 0; i < 16; i++) pacer.take(65536);
  t.true(monotonicMs() - again >= 75, `${monotonicMs() - again} ms`);
});

test('the smallest of several rates counts', (t) => {
  const pacer = new Pacer([newPace(1000 * MIB), newPace(10 * MIB)]);
  const start = monotonicMs();
  for (let i = 0; i < 32; i++) pacer.take(65536);
  t.true(monotonicMs() - start >= 175);
});

test('threads that share a pace move no more than it allows', async (t) => {
  const pace = newPace(10 * MIB);
  const url = new URL('../../../src/backup/throttle.js', import.meta.url).href;
  const source = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { Pacer } = await import(workerData.url);
    const pacer = new Pacer([workerData.pace]);
    for (let i = 0; i < 16; i++) pacer.take(65536);
    parentPort.postMessage('done');`;
  const code = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  const start = monotonicMs();
  await Promise.all(
    [1, 2].map(
      () =>
        new Promise<void>((resolve, reject) => {
          const worker = new Worker(code, { workerData: { url, pace } });
          worker.once('message', () => resolve());
          worker.once('error', reject);
        }),
    ),
  );
  t.true(monotonicMs() - start >= 175, `${monotonicMs() - start} ms`);
});

test('sessions of one configuration share its pace, and have one more of their own', (t) => {
  const limits = { bytesPerSecond: 5, nice: 3 };
  const [one, two] = [throttleOf(limits), slowedTo(throttleOf(limits), 2)];
  t.is(one.paces[0]?.state, two.paces[0]?.state);
  t.deepEqual(
    two.paces.map((p) => p.bytesPerSecond),
    [5, 2],
  );
  t.is(two.nice, 3);
  t.true(new Pacer(throttleOf(undefined).paces).isFree);
});
