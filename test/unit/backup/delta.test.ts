/** Block deltas through the real client and server: files of 20 MiB, over one stream and several. */
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkLibrary } from '../../../src/library/check-library.js';
import { Library } from '../../../src/library/library.js';
import { Dice, seedFromEnvironment } from '../../support/random.js';
import { lockFile } from '../library/stand-ins.js';
import { startHouse } from './house.js';

const MIB = 1 << 20;
const BLOCK = 16 << 10;
const names = ['a', 'b', 'c'];

const shaOf = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');

function overwrite(path: string, offset: number, bytes: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, randomBytes(bytes), 0, bytes, offset);
  closeSync(fd);
}

async function startSite(t: ExecutionContext, streams: number) {
  const h = await startHouse(t);
  const src = join(h.base, 'src');
  const library = Library.open(join(h.base, 'library'), { lockFile });
  for (const name of names) writeFileSync(join(src, name), randomBytes(20 * MIB));
  return {
    src,
    async backUp(incremental: boolean, deltaFrom?: number) {
      // Nothing is as new as the scan: what did not change is not looked at.
      for (const name of names) {
        const { mtimeMs } = statSync(join(src, name));
        if (Date.now() - mtimeMs < 5000) utimesSync(join(src, name), 1e9, mtimeMs / 1000 - 5);
      }
      const order = { host: 'host1', paths: [src], incremental, streams, deltaFrom };
      const { set, bytes, complaints } = await h.server.backup(order, h.events, h.signal.signal);
      t.deepEqual(complaints, []);
      const problems: string[] = [];
      const onProblem = (p: { message: string }) => void problems.push(p.message);
      checkLibrary(library, [set], { kind: 'data' }, { onProblem });
      t.deepEqual(problems, []);
      return { set, bytes, sums: names.map((name) => shaOf(join(src, name))) };
    },
    async assertRestores({ set, sums }: { set: string; sums: string[] }) {
      const target = join(h.base, 'out', set);
      const order = { set, host: 'host1', target, paths: [] };
      const { complaints } = await h.server.restore(order, h.events, h.signal.signal);
      t.deepEqual(complaints, []);
      t.deepEqual(
        names.map((name) => shaOf(join(target, src, name))),
        sums,
      );
      rmSync(target, { recursive: true });
    },
  };
}

for (const streams of [1, 3]) {
  test.serial(`generations of large files over ${streams} streams`, async (t) => {
    const seed = seedFromEnvironment();
    t.log(`STPD_SEED=${seed}`);
    const dice = new Dice(seed);
    const { src, backUp, assertRestores } = await startSite(t, streams);
    const made = [await backUp(false)];
    const [a, b, c] = names.map((name) => join(src, name)) as [string, string, string];
    for (let i = 0; i < 10; i++) overwrite(a, dice.whole(0, 19 * MIB), 100);
    made.push(await backUp(true));
    t.true((made[1]?.bytes ?? MIB) <= 20 * (BLOCK + 512) + 8192, 'ten places, two blocks at most');
    truncateSync(b, 15 * MIB + 1);
    appendFileSync(c, randomBytes(3 * MIB));
    overwrite(a, 5 * MIB, 2 * MIB);
    made.push(await backUp(true));
    const changed = 5 * MIB + 4 * BLOCK;
    t.true((made[2]?.bytes ?? 0) <= changed + 65536, `stored ${made[2]?.bytes}`);
    t.true((made[2]?.bytes ?? 0) >= 5 * MIB);
    made.push(await backUp(true, 0));
    overwrite(b, 0, 10);
    made.push(await backUp(true, 0));
    t.is(made.at(-1)?.bytes, 15 * MIB + 1, 'without deltas the file is stored');
    overwrite(b, 0, 10);
    made.push(await backUp(true));
    overwrite(c, 0, 10);
    made.push(await backUp(true));
    for (const each of made) await assertRestores(each);
  });
}
