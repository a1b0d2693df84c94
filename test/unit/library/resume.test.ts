/** What an interrupted backup left becomes part of the next one; in memory but for the files. */
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkSet } from '../../../src/library/check.js';
import { prune } from '../../../src/library/forget.js';
import { findInterrupted, INTERRUPTED_BYTES_MIN } from '../../../src/library/interrupted.js';
import type { StoredSet } from '../../../src/library/library.js';
import { openChain } from '../../../src/library/set-tree.js';
import { Generations } from './generations.js';
import { difference, makeHardTree } from './hard-tree.js';
import { adoptedBy, backUp, keyOf } from './interrupting.js';
import { hasProgram, inDirectory, randomFrom, run, testNative } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const rsync = hasProgram('rsync');

function extracted(g: Generations, set: StoredSet, target: string): string {
  mkdirSync(target);
  for (const each of openChain(g.library, set)) {
    const how = each.summary.chain === undefined ? [] : ['--listed-incremental=/dev/null'];
    for (const medium of each.media.keys()) {
      const all = ['--xattrs', '--xattrs-include=*', '--acls', ...how];
      run('tar', ['-C', target, ...all, '-xpf', each.mediumPath(medium)]);
    }
  }
  return join(target, g.source);
}

/** The set is whole, and gives the tree as it is now, by us and by tar. */
function assertWhole(
  t: ExecutionContext,
  g: Generations,
  set: StoredSet | null,
  what: string,
): void {
  if (set === null) return t.fail(what);
  for (const each of openChain(g.library, set)) {
    const problems: string[] = [];
    checkSet(each, { kind: 'data' }, { onProblem: (p) => void problems.push(p.message) });
    t.deepEqual(problems, [], what);
  }
  const names = readdirSync(set.directory)
    .filter((name) => !/^(media-|blocks)/.test(name))
    .sort();
  t.deepEqual(names, ['manifest.jsonl', 'media.tar', 'set.json', 'tree.index'], what);
  t.is(findInterrupted(g.library, keyOf(g, null)), null, what);
  if (!rsync) return;
  const [mine, tars] = ['r', 't'].map((x) => join(g.directory, `${x}-${set.id}`)) as [
    string,
    string,
  ];
  t.is(difference(g.source, g.restore(set, mine).tree), '', `${what}: restored`);
  t.is(difference(g.source, extracted(g, set, tars)), '', `${what}: extracted`);
  for (const each of [mine, tars]) {
    run('chmod', ['-R', 'u+rwX', each]);
    rmSync(each, { recursive: true });
  }
}

/** A tree of many directories and files, and a hard one; all of it from `random`. */
function makeTree(g: Generations, random: () => number): void {
  makeHardTree(join(g.source, 'hard'), Math.floor(random() * 2 ** 31));
  for (let d = 0; d < 8; d++) {
    mkdirSync(join(g.source, `d${d}`));
    for (let f = 0; f < 12; f++) {
      writeFileSync(
        join(g.source, `d${d}/f${f}`),
        Buffer.alloc(Math.floor(random() * 60_000), f + 65),
      );
    }
    linkSync(join(g.source, `d${d}/f1`), join(g.source, `d${d}/z-link`));
  }
}

/** Random changes of every kind that a tree sees between two backups. */
function changeTree(g: Generations, random: () => number): void {
  const pick = (n: number) => Math.floor(random() * n);
  const name = () => join(g.source, `d${pick(8)}/f${pick(12)}`);
  for (let i = 0; i < 12; i++) {
    const path = name();
    rmSync(path, { recursive: true, force: true });
    const kind = pick(6);
    if (kind === 0) writeFileSync(path, `changed ${random()}`);
    else if (kind === 1) writeFileSync(path, Buffer.alloc(pick(200_000), 'n'));
    else if (kind === 2) run('ln', ['-s', 'somewhere', path]);
    else if (kind === 3) {
      mkdirSync(path);
      writeFileSync(join(path, 'inside'), `inside ${random()}`);
    }
  }
  const [from, to] = [`d${pick(8)}`, `e${pick(8)}`];
  if (existsSync(join(g.source, from)) && !existsSync(join(g.source, to))) {
    renameSync(join(g.source, from), join(g.source, to));
    mkdirSync(join(g.source, from));
  }
  chmodSync(join(g.source, `d${pick(8)}`), 0o750);
  if (random() < 0.5) rmSync(join(g.source, `d${pick(8)}`), { recursive: true });
  for (let d = 0; d < 8; d++) mkdirSync(join(g.source, `d${d}`), { recursive: true });
}

/** Lines have arrived when so much data came behind them. */
function makeLarge(g: Generations): void {
  for (const name of ['x', 'y']) writeFileSync(join(g.source, name), Buffer.alloc(5 << 20, name));
}

function withGenerations(body: (g: Generations) => void): void {
  inDirectory((d) => {
    const g = new Generations(d);
    mkdirSync(g.source);
    body(g);
  });
}

test.serial('what arrived is not sent again, and the set is as any other', (t) => {
  withGenerations((g) => {
    makeTree(g, randomFrom(seed));
    t.is(backUp(g, { share: 0.6 }), null);
    t.deepEqual(readdirSync(join(g.library.directory, 'sets')), []);
    const adopted = adoptedBy(g, null);
    t.true((adopted?.bytes ?? 0) > 100_000);
    const set = backUp(g);
    assertWhole(t, g, set, 'resumed');
    const sent = [0, 1].map((medium) =>
      [...(set as StoredSet).manifest()].flatMap((i) =>
        i.kind === 'entry' && i.type === 'file' && i.medium === medium
          ? [i.path.toString('hex')]
          : [],
      ),
    ) as [string[], string[]];
    t.true(sent[0].length > 30 && sent[1].length > 30);
    t.deepEqual(
      sent[1].filter((path) => sent[0].includes(path)),
      [],
      'nothing twice',
    );
  });
});

test.serial('a backup that hardly began leaves nothing', (t) => {
  withGenerations((g) => {
    writeFileSync(join(g.source, 'f'), Buffer.alloc(INTERRUPTED_BYTES_MIN / 2, 'f'));
    const room = join(g.library.directory, 'interrupted');
    t.is(backUp(g, { share: 0.9 }), null);
    t.is(findInterrupted(g.library, keyOf(g, null)), null);
    t.deepEqual(existsSync(room) ? readdirSync(room) : [], []);
    // One that is worth something stays, whatever fails after it.
    makeTree(g, randomFrom(seed));
    t.is(backUp(g, { share: 0.6 }), null);
    t.is(backUp(g, { share: 0.001 }), null);
    t.is(readdirSync(room).length, 1);
    t.true((adoptedBy(g, null)?.bytes ?? 0) > 100_000);
  });
});

test.serial('cut again and again at random places, with changes in between', (t) => {
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 4; round++) {
    withGenerations((g) => {
      makeTree(g, random);
      for (let cuts = 0; cuts < 3; cuts++) {
        backUp(g, { share: random(), killed: random() < 0.5 });
        if (random() < 0.7) changeTree(g, random);
      }
      assertWhole(t, g, backUp(g), `round ${round}, a full backup`);
    });
  }
});

test.serial('an incremental backup is resumed upon the same parent', (t) => {
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 4; round++) {
    withGenerations((g) => {
      makeTree(g, random);
      const full = backUp(g) as StoredSet;
      changeTree(g, random);
      changeTree(g, random);
      for (let cuts = 0; cuts < 2; cuts++) {
        t.is(backUp(g, { parent: full, share: 0.2 + 0.7 * random() }), null);
        if (random() < 0.7) changeTree(g, random);
      }
      const resumed = backUp(g, { parent: full }) as StoredSet;
      assertWhole(t, g, resumed, `round ${round}, an incremental backup`);
      changeTree(g, random);
      assertWhole(t, g, backUp(g, { parent: resumed }), `round ${round}, one upon a resumed one`);
    });
  }
});

test.serial('an interrupted backup is for the same trees upon the same sets only', (t) => {
  withGenerations((g) => {
    makeTree(g, randomFrom(seed));
    const full = backUp(g) as StoredSet;
    t.is(backUp(g, { share: 0.9 }), null);
    t.is(adoptedBy(g, full), null, 'not for an incremental one');
    t.is(findInterrupted(g.library, { host: 'h', roots: ['/other'] }), null);
    t.is(findInterrupted(g.library, { host: 'i', roots: [g.source] }), null);
    t.not(adoptedBy(g, null), null);
  });
});

test.serial('files as new as the interrupted scan are compared by their data', (t) => {
  withGenerations((g) => {
    for (const name of ['a', 'b', 'c'])
      writeFileSync(join(g.source, name), Buffer.alloc(9000, name));
    makeLarge(g);
    const { ctimeNs, mtimeNs } = statSync(join(g.source, 'b'), { bigint: true });
    t.is(backUp(g, { share: 0.8, nowNs: ctimeNs }), null);
    // Another b with the same looks: a list cannot tell, its data can.
    writeFileSync(join(g.source, 'b'), Buffer.alloc(9000, 'B'));
    testNative.setTimesNs(join(g.source, 'b'), mtimeNs, false);
    const set = backUp(g, { nowNs: ctimeNs }) as StoredSet;
    assertWhole(t, g, set, 'resumed');
    const mediumOf = (name: string) =>
      [...set.manifest()].flatMap((i) =>
        i.kind === 'entry' && i.path.toString().endsWith(`/${name}`)
          ? [[i.medium, i.superseded]]
          : [],
      );
    t.deepEqual(mediumOf('a'), [[0, false]], 'kept');
    t.deepEqual(mediumOf('b'), [
      [0, true],
      [1, false],
    ]);
  });
});

test.serial('other names of a file that is sent again are sent again', (t) => {
  withGenerations((g) => {
    writeFileSync(join(g.source, 'a'), Buffer.alloc(5000, 'a'));
    linkSync(join(g.source, 'a'), join(g.source, 'b'));
    makeLarge(g);
    t.is(backUp(g, { share: 0.8 }), null);
    t.is(adoptedBy(g, null)?.entries, 4);
    writeFileSync(join(g.source, 'a'), Buffer.alloc(6000, 'A'));
    assertWhole(t, g, backUp(g), 'resumed');
  });
});

test.serial('a changed bit amid what was kept: nothing of it is taken over', (t) => {
  withGenerations((g) => {
    makeTree(g, randomFrom(seed));
    t.is(backUp(g, { share: 0.6 }), null);
    const found = findInterrupted(g.library, keyOf(g, null));
    const path = join(found?.directory ?? '', 'media.tar');
    const media = readFileSync(path);
    for (const at of [700, 5000, Math.floor(media.length / 3)]) {
      const changed = Buffer.from(media);
      changed[at] = (changed[at] as number) ^ 1;
      writeFileSync(path, changed);
      t.throws(() => adoptedBy(g, null), { name: 'NotAdopted' }, `byte ${at}`);
    }
    writeFileSync(path, media);
    const { bytes: whole = 0, media: kept = [] } = adoptedBy(g, null) ?? {};
    truncateSync(path, Math.floor((kept[0]?.bytes ?? 0) / 2));
    const half = adoptedBy(g, null)?.bytes ?? 0;
    t.true(half > 0 && half < whole, 'but an end that was not written is an end');
  });
});

test.serial('a complete backup, and prune after a week, remove what was kept', (t) => {
  withGenerations((g) => {
    makeTree(g, randomFrom(seed));
    t.is(backUp(g, { share: 0.6 }), null);
    t.is(backUp(g, { share: 0.7 }), null);
    const room = join(g.library.directory, 'interrupted');
    const [id] = readdirSync(room) as [string];
    t.deepEqual(readdirSync(room), [id], 'one for these trees');
    t.deepEqual(prune(g.library, false).sets, []);
    const old = Date.now() / 1000 - 8 * 86_400;
    utimesSync(join(room, id), old, old);
    t.deepEqual(prune(g.library, true).interrupted, [id]);
    t.deepEqual(prune(g.library, false).interrupted, [id]);
    t.deepEqual(readdirSync(room), []);
  });
});
