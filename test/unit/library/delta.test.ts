/** Block deltas: large files that changed, stored as blocks, and given back whole. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { checkLibrary } from '../../../src/library/check-library.js';
import type { ManifestEntry } from '../../../src/library/manifest.js';
import { readFileOf } from '../../../src/library/read-file.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { openChain } from '../../../src/library/set-tree.js';
import { native } from '../../../src/native.js';
import { Dice, seedFromEnvironment } from '../../support/random.js';
import { Generations, type Made, said } from './generations.js';
import { hasProgram, inMemory, MemoryPipe, run } from './stand-ins.js';

const KIB = 1024;
const BLOCK = 16 * KIB;
const options = { deltaFrom: 64 * KIB };

const shaOf = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Bytes that do not repeat. */
function noise(dice: Dice, bytes: number): Buffer {
  const data = Buffer.allocUnsafe(bytes);
  for (let at = 0; at < bytes; at++) data[at] = dice.next() * 256;
  return data;
}

function overwrite(path: string, offset: number, data: Buffer): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, data, 0, data.length, offset);
  closeSync(fd);
}

function withFile(
  size: number,
  body: (g: Generations, path: string, dice: Dice, made: Made) => void,
): void {
  inMemory((d) => {
    const g = new Generations(d);
    mkdirSync(g.source);
    const dice = new Dice(7);
    const path = join(g.source, 'large');
    writeFileSync(path, noise(dice, size));
    body(g, path, dice, g.full(options));
  });
}

const largeOf = (made: Made): ManifestEntry =>
  made.items.find(
    (i) => i.kind === 'entry' && i.path.toString().endsWith('/large'),
  ) as ManifestEntry;

/** The file as a restore of the set gives it. */
function restored(g: Generations, made: Made): Buffer {
  const target = join(g.directory, `target-${made.set.id}`);
  const data = readFileSync(join(g.restore(made.set, target).tree, 'large'));
  rmSync(target, { recursive: true });
  return data;
}

/** The same as `cat` gives it. */
function cat(g: Generations, made: Made): Buffer {
  const parts: Buffer[] = [];
  const path = Buffer.from(join(g.source, 'large').slice(1));
  readFileOf(openChain(g.library, made.set), path, {
    update: (bytes) => void parts.push(Buffer.from(bytes)),
  });
  return Buffer.concat(parts);
}

const problemsOf = (g: Generations): string[] => {
  const found: string[] = [];
  const onProblem = (p: { message: string }) => found.push(p.message);
  checkLibrary(g.library, [], { kind: 'data' }, { onProblem });
  return found;
};

test.serial('a change of some bytes stores one block', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    overwrite(path, 5 * BLOCK + 100, Buffer.from('changed'));
    const made = g.incremental(options);
    const { delta, size, stored } = largeOf(made);
    t.is(size, 40 * BLOCK);
    t.is(stored, size, 'what it would be in full');
    t.true(delta !== null && delta.bytes > BLOCK && delta.bytes < BLOCK + 4 * KIB);
    t.deepEqual(restored(g, made), readFileSync(path));
    t.deepEqual(cat(g, made), readFileSync(path));
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('an insertion near the end stores what comes behind it, and no more', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    const old = readFileSync(path);
    const at = 35 * BLOCK + 5;
    writeFileSync(path, Buffer.concat([old.subarray(0, at), Buffer.from('in'), old.subarray(at)]));
    const made = g.incremental(options);
    t.true((largeOf(made).delta?.bytes ?? 0) < 6 * BLOCK + 4 * KIB);
    t.deepEqual(restored(g, made), readFileSync(path));
  });
});

test.serial('a file that only shrinks stores no block, one that grows its new ones', (t) => {
  withFile(40 * BLOCK, (g, path, dice) => {
    truncateSync(path, 30 * BLOCK);
    const shrunk = g.incremental(options);
    t.true((largeOf(shrunk).delta?.bytes ?? BLOCK) < 4 * KIB);
    // What comes back is not what was there before it was cut.
    appendFileSync(path, Buffer.concat([Buffer.alloc(5 * BLOCK), noise(dice, 3 * BLOCK + 7)]));
    const grown = g.incremental(options);
    t.true((largeOf(grown).delta?.bytes ?? 0) < 9 * BLOCK + 4 * KIB);
    t.deepEqual(restored(g, grown), readFileSync(path));
    t.is(restored(g, shrunk).length, 30 * BLOCK);
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('holes come, are punched, filled with zeros and filled with data', (t) => {
  withFile(40 * BLOCK, (g, path, dice) => {
    const fd = openSync(path, 'r+');
    ftruncateSync(fd, 4 << 20);
    closeSync(fd);
    const made: [Made, Buffer, number][] = [];
    const keep = () => {
      const set = g.incremental(options);
      made.push([set, readFileSync(path), statSync(path).blocks]);
      return largeOf(set);
    };
    t.true(keep().sparse);
    run('fallocate', ['-p', '-o', String(3 * BLOCK), '-l', String(9 * BLOCK), path]);
    t.true((keep().delta?.bytes ?? BLOCK) < 4 * KIB, 'a hole costs its map');
    overwrite(path, 4 * BLOCK, Buffer.alloc(2 * BLOCK));
    keep();
    overwrite(path, 8 * BLOCK + 3, noise(dice, 100));
    keep();
    run('fallocate', ['-p', '-o', String(8 * BLOCK), '-l', String(BLOCK), path]);
    keep();
    writeFileSync(path, readFileSync(path));
    t.false(keep().sparse);
    for (const [set, data, blocks] of made) {
      const target = join(g.directory, `target-${set.set.id}`);
      const back = join(g.restore(set.set, target).tree, 'large');
      t.true(readFileSync(back).equals(data));
      t.is(statSync(back).blocks, blocks);
      t.true(cat(g, set).equals(data));
    }
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('a file of holes alone', (t) => {
  withFile(BLOCK * 4, (g, path) => {
    writeFileSync(path, '');
    truncateSync(path, 2 ** 29);
    const first = g.incremental(options);
    t.is(largeOf(first).size, 2 ** 29);
    overwrite(path, 2 ** 28 + 5, Buffer.from('x'));
    const made = g.incremental(options);
    t.true((largeOf(made).delta?.bytes ?? 0) < 68 * KIB);
    const target = join(g.directory, 'target');
    const back = join(g.restore(made.set, target).tree, 'large');
    t.is(statSync(back).size, 2 ** 29);
    const fd = openSync(back, 'r');
    t.teardown(() => closeSync(fd));
    const found = native().dataSegments(fd, 2 ** 29, 10) as number[];
    t.is(found.length, 2);
    t.true((found[0] as number) <= 2 ** 28 + 5);
  });
});

test.serial('new times, owner or mode of a large file store no data', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    run('touch', ['-d', '2001-02-03', path]);
    const made = g.incremental(options);
    t.deepEqual(said(made, g.source), ['=/large']);
    overwrite(path, 0, Buffer.from('changed'));
    const changed = g.incremental(options);
    t.true((largeOf(changed).delta?.bytes ?? 0) < BLOCK + 4 * KIB, 'its hashes are still known');
    run('touch', ['-d', '2002-02-03', path]);
    const touched = g.incremental(options);
    t.true(largeOf(touched).sameData);
    t.deepEqual(restored(g, touched), readFileSync(path));
    t.is(statSync(path).mtimeMs, new Date('2002-02-03T00:00:00').getTime());
  });
});

test.serial('same size and same mtime: what changed is found by its hash', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    const { mtimeNs } = statSync(path, { bigint: true });
    overwrite(path, 39 * BLOCK, Buffer.from('sneaky'));
    native().setTimesNs(path, mtimeNs, false);
    const made = g.incremental(options);
    t.deepEqual(restored(g, made), readFileSync(path));
  });
});

test.serial('a file that changes while it is read is read again', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    overwrite(path, BLOCK, Buffer.from('first'));
    class Meddled extends MemoryPipe {
      done = false;
      override commit(bytes: number): void {
        super.commit(bytes);
        if (this.done) return;
        this.done = true;
        overwrite(path, 20 * BLOCK, Buffer.from('second'));
      }
    }
    // Pages smaller than a block: the first is full before the file was read to its end.
    const made = g.incremental(options, new Meddled([4096]));
    const lines = made.items.filter((i) => i.kind === 'entry') as ManifestEntry[];
    const large = lines.filter((e) => e.path.toString().endsWith('/large'));
    t.deepEqual(restored(g, made), readFileSync(path));
    t.deepEqual(large.at(-1)?.superseded, false);
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('after many deltas, or as much as the file has, it is stored in full again', (t) => {
  withFile(8 * BLOCK, (g, path, dice) => {
    let [full, most, run] = [0, 0, 0];
    for (let i = 0; i < 12; i++) {
      overwrite(path, (i % 8) * BLOCK, noise(dice, 10));
      const isFull = largeOf(g.incremental(options)).delta === null;
      full += isFull ? 1 : 0;
      run = isFull ? 0 : run + 1;
      most = Math.max(most, run);
    }
    t.true(full > 0);
    t.true(most <= 9, `${most} deltas of an eighth upon one another`);
    t.deepEqual(problemsOf(g), []);
  });
  withFile(80 * BLOCK, (g, path) => {
    const runs: number[] = [0];
    for (let i = 0; i < 36; i++) {
      overwrite(path, 0, Buffer.from(`change ${i}`));
      if (largeOf(g.incremental(options)).delta === null) runs.push(0);
      else runs[runs.length - 1] = (runs.at(-1) as number) + 1;
    }
    t.deepEqual(runs, [32, 3]);
  });
});

test.serial('hashes that are gone or damaged cost a full copy, and are found by check', (t) => {
  withFile(40 * BLOCK, (g, path, _dice, made) => {
    const lists = join(made.set.directory, 'blocks.bin');
    const whole = readFileSync(lists);
    const changed = Buffer.from(whole);
    changed[100] = (whole[100] as number) ^ 1;
    writeFileSync(lists, changed);
    t.is(problemsOf(g).length, 1);
    overwrite(path, 0, Buffer.from('changed'));
    const after = g.incremental(options);
    t.is(largeOf(after).delta, null);
    t.deepEqual(restored(g, after), readFileSync(path));
    rmSync(lists);
    t.is(problemsOf(g).length, 1);
  });
});

test.serial('a broken base block is found: by check, by restore, by cat', (t) => {
  withFile(40 * BLOCK, (g, path, _dice, made) => {
    overwrite(path, 0, Buffer.from('changed'));
    const after = g.incremental(options);
    const at = largeOf(made).dataOffset + 7 * BLOCK;
    overwrite(made.set.mediaPath, at, Buffer.from('broken'));
    t.throws(() => restored(g, after), { message: /is damaged/ });
    t.throws(() => cat(g, after), { code: 'EBADMSG' });
    t.true(problemsOf(g).length > 0);
  });
});

test.serial('a member of blocks that is no member any more is damage of that file alone', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    writeFileSync(join(g.source, 'small'), 'small');
    overwrite(path, 0, Buffer.from('changed'));
    const after = g.incremental(options);
    const { dataOffset, delta } = largeOf(after);
    for (const at of [dataOffset, dataOffset + (delta?.mapBytes ?? 0) + 5]) {
      rmSync(join(g.directory, `target-${after.set.id}`), { recursive: true, force: true });
      const media = readFileSync(after.set.mediaPath);
      overwrite(after.set.mediaPath, at, Buffer.from('nonsense'));
      t.throws(() => restored(g, after), { message: /large is damaged/ });
      t.throws(() => cat(g, after), { code: 'EBADMSG' });
      t.true(problemsOf(g).length > 0);
      writeFileSync(after.set.mediaPath, media);
    }
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('repair makes block hashes anew, of full files and of deltas', (t) => {
  withFile(40 * BLOCK, (g, path, _dice, made) => {
    run('fallocate', ['-p', '-o', String(3 * BLOCK), '-l', String(9 * BLOCK + 100), path]);
    overwrite(path, 20 * BLOCK, Buffer.from('changed'));
    const after = g.incremental(options);
    for (const { set } of [made, after]) {
      const lists = join(set.directory, 'blocks.bin');
      const whole = readFileSync(lists);
      const spoil: (() => void)[] = [
        () => overwrite(lists, 17, Buffer.from('broken')),
        () => appendFileSync(lists, 'more'),
        () => rmSync(lists),
      ];
      for (const work of spoil) {
        work();
        t.is(problemsOf(g).length, 1);
        const [done] = repairLibrary(g.library, false);
        t.like(done, { set: set.id, action: 'repaired', part: 'blocks' });
        t.true(readFileSync(lists).equals(whole));
        t.deepEqual(problemsOf(g), []);
      }
    }
  });
});

test.serial(
  'repair of a manifest leaves no block hashes behind, and the next backup is none the worse',
  (t) => {
    withFile(40 * BLOCK, (g, path, _dice, made) => {
      overwrite(made.set.manifestPath, 60, Buffer.from('?????'));
      const [done] = repairLibrary(g.library, false);
      t.like(done, { action: 'repaired', part: 'manifest' });
      t.deepEqual(problemsOf(g), []);
      t.false(existsSync(join(made.set.directory, 'blocks.bin')));
      overwrite(path, 0, Buffer.from('changed'));
      const after = g.incremental(options);
      t.is(largeOf(after).delta, null);
      t.deepEqual(restored(g, after), readFileSync(path));
    });
  },
);

test.serial('repair makes a broken header of a delta anew, and moves what it cannot', (t) => {
  withFile(40 * BLOCK, (g, path) => {
    overwrite(path, 0, Buffer.from('changed'));
    const after = g.incremental(options);
    const { headerOffset, dataOffset, delta } = largeOf(after);
    const media = readFileSync(after.set.mediaPath);
    overwrite(after.set.mediaPath, headerOffset, Buffer.from('?'));
    t.like(repairLibrary(g.library, false)[0], { action: 'repaired', part: 'media' });
    t.true(readFileSync(after.set.mediaPath).equals(media));
    // The headers of further members stand in what has one digest.
    overwrite(after.set.mediaPath, dataOffset + (delta?.mapBytes ?? 0), Buffer.from('?'));
    t.like(repairLibrary(g.library, false)[0], { set: after.set.id, action: 'moved' });
    t.deepEqual(problemsOf(g), []);
  });
});

test.serial('a chain is put together without this program', (t) => {
  if (!hasProgram('python3')) {
    t.log('skipped: python3 is missing');
    return t.pass();
  }
  withFile(40 * BLOCK, (g, path, dice, made) => {
    run('fallocate', ['-p', '-o', String(3 * BLOCK), '-l', String(9 * BLOCK), path]);
    const later = [g.incremental(options)];
    overwrite(path, 5 * BLOCK + 9, noise(dice, 2 * BLOCK));
    truncateSync(path, 30 * BLOCK + 17);
    later.push(g.incremental(options));
    const stored = path.slice(1);
    run('tar', ['-C', g.directory, '-xf', made.set.mediumPath(0), stored]);
    const target = join(g.directory, stored);
    const media = later.map(({ set }) => set.mediumPath(0));
    run('scripts/apply-delta.py', [target, stored, ...media]);
    t.true(readFileSync(target).equals(readFileSync(path)));
    // Tar itself takes the members for what they say they are.
    const listed = run('tar', ['-tf', media[1] as string]).toString();
    t.true(listed.includes(`.stp-delta/${stored}/map\n.stp-delta/${stored}/1\n`));
  });
});

test.serial('ten generations of random changes, each restored and compared', (t) => {
  const seed = seedFromEnvironment();
  t.log(`STPD_SEED=${seed}`);
  const dice = new Dice(seed);
  inMemory((d) => {
    const g = new Generations(d);
    mkdirSync(g.source);
    const paths = ['a', 'b', 'c'].map((name) => join(g.source, name));
    for (const path of paths)
      writeFileSync(path, noise(dice, dice.whole(10, 90) * BLOCK + dice.whole(0, 99)));
    const made = [g.full(options)];
    const sums = [paths.map((path) => shaOf(readFileSync(path)))];
    for (let generation = 1; generation <= 10; generation++) {
      for (const path of paths) for (let i = dice.whole(0, 3); i > 0; i--) change(path, dice);
      made.push(g.incremental(options));
      sums.push(paths.map((path) => shaOf(readFileSync(path))));
    }
    made.forEach(({ set }, i) => {
      const target = join(d, `target-${i}`);
      const { tree } = g.restore(set, target);
      const found = ['a', 'b', 'c'].map((name) => shaOf(readFileSync(join(tree, name))));
      t.deepEqual(found, sums[i], `generation ${i}`);
      rmSync(target, { recursive: true });
    });
    t.deepEqual(problemsOf(g), []);
  });
});

/** Insert, overwrite, truncate, extend, punch. */
function change(path: string, dice: Dice): void {
  const { size } = statSync(path);
  const at = dice.whole(0, Math.max(0, size - 1));
  switch (dice.whole(0, 4)) {
    case 0: {
      const old = readFileSync(path);
      const more = noise(dice, dice.size(BLOCK));
      writeFileSync(path, Buffer.concat([old.subarray(0, at), more, old.subarray(at)]));
      break;
    }
    case 1:
      overwrite(path, at, noise(dice, dice.size(3 * BLOCK)));
      break;
    case 2:
      truncateSync(path, Math.max(4 * BLOCK, at));
      break;
    case 3:
      truncateSync(path, size + dice.size(40 * BLOCK));
      break;
    default:
      run('fallocate', ['-p', '-o', String(at), '-l', String(dice.size(20 * BLOCK)), path]);
  }
}
