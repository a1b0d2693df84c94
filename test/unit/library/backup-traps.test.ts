/** The traps that backup programs fell into, one test or more for each, named after it. */
import {
  appendFileSync,
  chmodSync,
  closeSync,
  cpSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { SourceNative } from '../../../src/library/send-member.js';
import { encodeSummary } from '../../../src/library/summary.js';
import { native } from '../../../src/native.js';
import { Generations, LATER_NS, listed, said } from './generations.js';
import { difference } from './hard-tree.js';
import { inDirectory, MemoryPipe, randomFrom, run, testNative } from './stand-ins.js';

function withTree(body: (g: Generations, at: (name: string) => string) => void): void {
  inDirectory((d) => {
    const g = new Generations(d);
    mkdirSync(g.source);
    body(g, (name) => join(g.source, name));
  });
}

/** The times of a file as if nothing had happened to it. */
const setBack = (path: string, mtimeNs: bigint) => testNative.setTimesNs(path, mtimeNs, false);
const mtimeOf = (path: string) => statSync(path, { bigint: true }).mtimeNs;

test.serial('trap 1: mtime set back to its old value with the same size is seen', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'old!');
    const mtime = mtimeOf(at('f'));
    g.full();
    writeFileSync(at('f'), 'new!');
    setBack(at('f'), mtime);
    t.deepEqual(said(g.incremental(), g.source), ['+/f']);
    t.deepEqual(said(g.incremental(), g.source), []);
  });
});

test.serial('trap 2: a change within the same clock tick as the scan is seen', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'one');
    writeFileSync(at('quiet'), 'q');
    // The file is as new as the scan: a change now could leave every time and number as it is.
    const scan = statSync(at('f'), { bigint: true }).ctimeNs;
    g.full({ now: () => scan });
    const { items } = g.incremental();
    t.deepEqual(said({ items } as never, g.source), ['+', '=/f', '=/quiet']);
    t.deepEqual(said(g.incremental(), g.source), [], 'trusted once it was looked at');
  });
});

test.serial(
  'trap 3: a change during the read is retried, marked, and not trusted next time',
  (t) => {
    withTree((g, at) => {
      writeFileSync(at('f'), Buffer.alloc(300_000, 'x'));
      class Meddled extends MemoryPipe {
        override commit(bytes: number): void {
          if (!this.done) appendFileSync(at('f'), 'y');
          super.commit(bytes);
        }
        done = false;
      }
      const { warnings, set } = g.full({}, new Meddled());
      t.deepEqual(
        warnings.map((w) => w.code),
        ['EAGAIN'],
      );
      t.is(set.summary.warnings, 1);
      const next = g.incremental();
      t.deepEqual(said(next, g.source), ['+/f']);
      const { tree } = g.restore(next.set, join(g.directory, 'r'));
      t.is(readFileSync(join(tree, 'f')).compare(readFileSync(at('f'))), 0);
    });
  },
);

test.serial('trap 4: the clock runs backwards: nothing is trusted', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'f');
    g.full();
    const back = g.incremental({ now: () => LATER_NS - 10_000_000_000n });
    t.deepEqual(said(back, g.source), ['+', '=/f']);
  });
});

test.serial('trap 4: mtimes in the future are never trusted, and cost no data', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'f');
    setBack(at('f'), LATER_NS + 5_000_000_000n);
    g.full();
    t.deepEqual(said(g.incremental(), g.source), ['=/f']);
    t.deepEqual(said(g.incremental(), g.source), ['=/f']);
  });
});

test.serial('trap 5: files moved in with old dates are saved, deleted ones stay deleted', (t) => {
  withTree((g, at) => {
    writeFileSync(join(g.directory, 'outside'), 'o');
    setBack(join(g.directory, 'outside'), 1_000_000_000n);
    writeFileSync(at('gone'), 'g');
    g.full();
    renameSync(join(g.directory, 'outside'), at('in'));
    unlinkSync(at('gone'));
    const made = g.incremental();
    t.deepEqual(said(made, g.source), ['+', '-/gone', '+/in']);
    const { tree } = g.restore(made.set, join(g.directory, 'r'));
    t.is(difference(g.source, tree), '');
    mkdirSync(join(g.directory, 't'));
    t.is(difference(g.source, g.replay(made.set, join(g.directory, 't'))), '');
  });
});

test.serial('trap 6: unstable inode numbers cost a reading, but no data', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'same');
    const { set } = g.full();
    // The list says another inode, as after a remount of such a file system.
    const path = join(set.directory, 'tree.index');
    const list = readFileSync(path);
    const record =
      list.indexOf(Buffer.from('source/f')) - g.source.length + 'source'.length - 120 + 1;
    list.writeBigUInt64LE(list.readBigUInt64LE(record + 56) + 1n, record + 56);
    const pipe = new MemoryPipe();
    let position = 0;
    const made = g.incremental(
      {
        previous: () => ({
          fill: (into, at, bytes) => {
            const taken = list.copy(into, at, position, position + bytes);
            position += taken;
            return taken;
          },
          blocks: () => null,
        }),
      },
      pipe,
    );
    t.deepEqual(said(made, g.source), ['=/f']);
  });
});

test.serial('trap 7: metadata-only changes are saved without data', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), Buffer.alloc(1_000_000, 'f'));
    g.full();
    chmodSync(at('f'), 0o604);
    native().setXattr(Buffer.from(at('f')), Buffer.from('user.new'), Buffer.from('v'));
    const made = g.incremental();
    t.deepEqual(said(made, g.source), ['=/f']);
    t.true(made.set.summary.mediaBytes < 10_000);
    const { tree } = g.restore(made.set, join(g.directory, 'r'));
    t.is(difference(g.source, tree), '');
    // And once more upon that: the data is two sets back.
    chmodSync(at('f'), 0o640);
    const again = g.incremental();
    t.is(difference(g.source, g.restore(again.set, join(g.directory, 's')).tree), '');
  });
});

test.serial(
  'trap 8: renames of top directories, and a hard link whose first name went away',
  (t) => {
    withTree((g, at) => {
      mkdirSync(at('top/below'), { recursive: true });
      writeFileSync(at('top/below/f'), 'f');
      writeFileSync(at('a'), 'linked');
      linkSync(at('a'), at('b'));
      g.full();
      renameSync(at('top'), at('tip'));
      unlinkSync(at('a'));
      const made = g.incremental();
      t.true(said(made, g.source).includes('+/b'));
      t.is(difference(g.source, g.restore(made.set, join(g.directory, 'r')).tree), '');
      mkdirSync(join(g.directory, 't'));
      t.is(difference(g.source, g.replay(made.set, join(g.directory, 't'))), '');
    });
  },
);

test.serial('trap 8: a file becomes directory becomes link', (t) => {
  withTree((g, at) => {
    mkdirSync(join(g.directory, 't'));
    const becomes = [
      () => writeFileSync(at('x'), 'file'),
      () => {
        mkdirSync(at('x'));
        writeFileSync(at('x/inside'), 'i');
      },
      () => symlinkSync('somewhere', at('x')),
    ];
    for (const [i, make] of becomes.entries()) {
      rmSync(at('x'), { recursive: true, force: true });
      make();
      const { set } = i === 0 ? g.full() : g.incremental();
      t.is(difference(g.source, g.restore(set, join(g.directory, `r${i}`)).tree), '');
      rmSync(join(g.directory, 't'), { recursive: true });
      mkdirSync(join(g.directory, 't'));
      t.is(difference(g.source, g.replay(set, join(g.directory, 't'))), '');
    }
  });
});

function makeSparse(path: string, size: number, at: readonly number[]): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (const offset of at) writeSync(fd, `data at ${offset}`, offset);
  closeSync(fd);
}

test.serial('trap 9: sparse files keep their holes, in a restore and through GNU tar', (t) => {
  withTree((g, at) => {
    makeSparse(at('begin'), 5_000_000, [0, 4096 * 100]);
    makeSparse(at('end'), 5_000_000, [4_999_000]);
    makeSparse(at('empty'), 5_000_000, []);
    const { set } = g.full();
    t.true(set.summary.mediaBytes < 100_000);
    const { tree } = g.restore(set, join(g.directory, 'r'));
    mkdirSync(join(g.directory, 't'));
    const replayed = g.replay(set, join(g.directory, 't'));
    for (const copy of [tree, replayed]) {
      t.is(difference(g.source, copy), '');
      for (const name of ['begin', 'end', 'empty']) {
        t.is(statSync(join(copy, name)).blocks, statSync(at(name)).blocks, name);
      }
    }
    t.deepEqual(said(g.incremental(), g.source), []);
    chmodSync(at('begin'), 0o600);
    const made = g.incremental();
    t.deepEqual(said(made, g.source), ['=/begin']);
    t.is(difference(g.source, g.restore(made.set, join(g.directory, 's')).tree), '');
  });
});

test.serial('trap 9: wrong SEEK_HOLE loses no data', (t) => {
  const wrong: readonly (number[] | null)[] = [
    [],
    [0, 4096],
    [8192, 4096, 0, 100],
    [0, 2 ** 40],
    null,
  ];
  for (const segments of wrong) {
    withTree((g, at) => {
      makeSparse(at('f'), 5_000_000, [0, 4096 * 100]);
      const lying: SourceNative = {
        getXattrs: native().getXattrs,
        dataSegments: () => segments,
      };
      const { set } = g.full({ native: lying });
      t.is(difference(g.source, g.restore(set, join(g.directory, 'r')).tree), '');
    });
  }
});

test.serial(
  'trap 10: a file that vanishes is a warning, in an incremental backup a tombstone too',
  (t) => {
    withTree((g, at) => {
      writeFileSync(at('large'), Buffer.alloc(300_000, 'x'));
      writeFileSync(at('next'), 'n');
      g.full();
      writeFileSync(at('large'), Buffer.alloc(300_000, 'y'));
      writeFileSync(at('next'), 'changed');
      class Meddled extends MemoryPipe {
        override commit(bytes: number): void {
          rmSync(at('next'), { force: true });
          super.commit(bytes);
        }
      }
      const { warnings, set, ...rest } = g.incremental({}, new Meddled());
      t.deepEqual(
        warnings.map((w) => w.code),
        ['ENOENT'],
      );
      t.deepEqual(said({ set, warnings, ...rest }, g.source), ['+/large', '-/next']);
      t.is(
        difference(g.source, g.restore(set, join(g.directory, 'r')).tree).trim(),
        '.d..t...... ./',
      );
    });
  },
);

test.serial(
  'trap 10: a file that changes while it is read and then vanishes is gone from the list',
  (t) => {
    withTree((g, at) => {
      writeFileSync(at('f'), Buffer.alloc(300_000, 'x'));
      g.full();
      writeFileSync(at('f'), Buffer.alloc(300_000, 'y'));
      class Meddled extends MemoryPipe {
        override commit(bytes: number): void {
          rmSync(at('f'), { force: true });
          super.commit(bytes);
        }
      }
      // Its link count changes its ctime; there is no second reading.
      const made = g.incremental({}, new Meddled());
      t.deepEqual(said(made, g.source), ['+/f', '-/f']);
      t.deepEqual(listed(made, g.source), ['']);
    });
  },
);

test.serial('trap 9: a damaged map of holes is a damaged file, not the end of the restore', (t) => {
  withTree((g, at) => {
    makeSparse(at('a'), 5_000_000, [0, 4096 * 100]);
    writeFileSync(at('b'), 'whole');
    const { set, items } = g.full();
    const sparse = items.find((i) => i.kind === 'entry' && i.sparse);
    const media = readFileSync(set.mediaPath);
    for (const text of ['x', '9999999\n', '2\n0\n99999999\n']) {
      const damaged = Buffer.from(media);
      damaged.write(text, sparse?.kind === 'entry' ? sparse.dataOffset : 0, 'latin1');
      writeFileSync(set.mediaPath, damaged);
      const target = join(g.directory, `r${text.length}`);
      t.throws(() => g.restore(set, target), { message: /a is damaged/ });
      t.is(readFileSync(join(target, at('b')), 'utf8'), 'whole');
    }
  });
});

test.serial('trap 10: a vanished root is an error, not a tree of tombstones', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'f');
    const { set } = g.full();
    rmSync(g.source, { recursive: true });
    t.throws(() => g.incremental(), { code: 'ENOENT', message: /root .*source does not exist/ });
    t.is(g.library.openSet('latest').id, set.id);
  });
});

test.serial('trap 11: a parent that was pruned or lost is refused with the reason', (t) => {
  withTree((g, at) => {
    t.throws(() => g.incremental(), { code: 'ENOENT', message: /make a full backup first/ });
    writeFileSync(at('f'), 'f');
    const full = g.full();
    writeFileSync(at('f'), 'ff');
    const next = g.incremental();
    rmSync(full.set.directory, { recursive: true });
    const why = { code: 'ENOENT', message: /needs set .* pruned or lost; make a full backup/ };
    t.throws(() => g.incremental(), why);
    t.throws(() => g.restore(next.set, join(g.directory, 'r')), why);
  });
});

test.serial('trap 11: a parent that is another, or damaged, or partial is refused', (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'f');
    const full = g.full();
    const list = join(full.set.directory, 'tree.index');
    const whole = readFileSync(list);
    const changed = Buffer.from(whole);
    changed[changed.length - 40] = (changed[changed.length - 40] as number) ^ 1;
    writeFileSync(list, changed);
    writeFileSync(at('g'), 'g');
    t.throws(() => g.incremental(), { message: /damaged|parent has it not|in the order/ });
    writeFileSync(list, whole);
    const next = g.incremental();
    const other = { ...full.set.summary, manifestBlake3: '0'.repeat(64) };
    writeFileSync(join(full.set.directory, 'set.json'), encodeSummary(other));
    t.throws(() => g.incremental(), { code: 'EINVAL', message: /is not the one/ });
    t.throws(() => g.restore(next.set, join(g.directory, 'r')), { code: 'EINVAL' });
  });
});

test.serial("trap 11: a backup that failed is nobody's parent: advance only on commit", (t) => {
  withTree((g, at) => {
    writeFileSync(at('f'), 'f');
    const full = g.full();
    writeFileSync(at('g'), 'g');
    class Broken extends MemoryPipe {
      override consume(): void {
        throw new Error('the client is gone');
      }
    }
    t.throws(() => g.incremental({}, new Broken()), { message: /client is gone/ });
    const made = g.incremental();
    t.is(made.set.summary.chain?.at(-1)?.id, full.set.id);
    t.true(said(made, g.source).includes('+/g'));
  });
});

test.serial('trap 12: names that are not UTF-8, in incrementals and tombstones', (t) => {
  withTree((g) => {
    const name = (text: string) =>
      Buffer.concat([Buffer.from(`${g.source}/`), Buffer.from(text, 'latin1')]);
    writeFileSync(name('\xe4-gone'), 'a');
    writeFileSync(name('\xff\xfe-stays'), 'b');
    g.full();
    unlinkSync(name('\xe4-gone'));
    writeFileSync(name('\x80-new'), 'c');
    const made = g.incremental();
    const deleted = made.items.find((i) => i.kind === 'deleted');
    t.true(deleted?.path.toString('latin1').endsWith('\xe4-gone'));
    t.is(difference(g.source, g.restore(made.set, join(g.directory, 'r')).tree), '');
    mkdirSync(join(g.directory, 't'));
    t.is(difference(g.source, g.replay(made.set, join(g.directory, 't'))), '');
  });
});

test.serial('ten generations of random changes: every one restores and replays', (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  const pick = (n: number) => Math.floor(random() * n);
  withTree((g, at) => {
    const name = () => `d${pick(4)}/${'abcdef-+ '[pick(9)]}${pick(6)}`;
    const points: { set: ReturnType<Generations['full']>['set']; copy: string }[] = [];
    for (let i = 0; i < 10; i++) {
      for (let change = 0; change < 25; change++) {
        mkdirSync(at(`d${pick(4)}`), { recursive: true });
        mutate(at, name, pick);
      }
      const { set } = i === 0 ? g.full() : g.incremental();
      const copy = join(g.directory, `copy${i}`);
      run('cp', ['-a', g.source, copy]);
      points.push({ set, copy });
    }
    for (const [i, { set, copy }] of points.entries()) {
      const { tree } = g.restore(set, join(g.directory, `restored${i}`));
      t.is(difference(copy, tree), '', `restore of ${i}`);
      const replayed = join(g.directory, `replayed${i}`);
      mkdirSync(replayed);
      const wrong = difference(copy, g.replay(set, replayed));
      // Of what only changed its metadata, tar has no member; and it touches directories whose
      // files it replaces. The manifest has both.
      const data = wrong.split('\n').filter((line) => line !== '' && !/^[.h][fLd]\.\./.test(line));
      t.deepEqual(data, [], `replay of ${i}`);
    }
  });
});

function mutate(at: (n: string) => string, name: () => string, pick: (n: number) => number): void {
  const [a, b] = [at(name()), at(name())];
  const ignoring = (work: () => void) => {
    try {
      work();
    } catch {
      // The name is taken, or there is nothing there.
    }
  };
  const changes = [
    () => writeFileSync(a, 'x'.repeat(pick(2000))),
    () => appendFileSync(a, 'more'),
    () => rmSync(a, { recursive: true }),
    () => renameSync(a, b),
    () => linkSync(a, b),
    () => symlinkSync('to', a),
    () => mkdirSync(a),
    () => writeFileSync(join(a, 'in'), 'i'),
    () => chmodSync(a, 0o600 + pick(0o100)),
    () => setBack(a, BigInt(pick(2 ** 30)) * 1_000_000_001n),
    () => cpSync(a, b, { recursive: true }),
    () => makeSparse(a, 100_000, [pick(90_000)]),
  ];
  ignoring(changes[pick(changes.length)] as () => void);
}
