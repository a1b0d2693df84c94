/** A disk that is full, or fails, at each call of a small run: every third of test:enospc's. */
import test from 'ava';
import { tryFullDisk } from './full-disk-run.js';
import { tryFullServer } from './full-disk-server.js';

const runs = [
  ['full', 'ENOSPC', 3],
  ['once', 'EIO', 4],
  ['short', 'ENOSPC', 5],
] as const;
for (const [mode, code, step] of runs) {
  test.serial(`trap 13: the disk of the library and of a restore: ${code}, ${mode}`, async (t) => {
    const { tried, wrong } = await tryFullDisk(mode, code, step);
    t.deepEqual(wrong, []);
    t.true(tried.length >= 10 && tried.every((one) => one.tried > 0), JSON.stringify(tried));
  });
}

test.serial('trap 13: the disk of a server that backs up: ENOSPC from then on', async (t) => {
  const { tried, calls, wrong } = await tryFullServer('full', 'ENOSPC', 9);
  t.deepEqual(wrong, []);
  t.true(tried > 2 && calls > 20, `${tried} of ${calls}`);
});
