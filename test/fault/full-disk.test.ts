/** A disk that is full, or fails, at each call of a small run: every third of test:enospc's. */
import test from 'ava';
import { tryFullDisk } from './full-disk-run.js';

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
