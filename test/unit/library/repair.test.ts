import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { checkLibrary } from '../../../src/library/check-library.js';
import { Library } from '../../../src/library/library.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { backUp, chainOn, makeSmallTree, restored } from './flips.js';
import { inDirectory, lockFile, randomFrom } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

interface Rig {
  readonly library: Library;
  readonly source: string;
  readonly id: string;
  path(file: string, room?: string): string;
  flip(file: string, at: number, bit?: number, room?: string): void;
  problems(): number;
  ids(): string[];
  restored(): string | null;
}

const withSet = (body: (rig: Rig) => void): void =>
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeSmallTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile });
    const id = backUp(library, source);
    const path = (file: string, room = 'sets') => join(library.directory, room, id, file);
    body({
      library,
      source,
      id,
      path,
      flip(file, at, bit = 0, room = 'sets') {
        const bytes = readFileSync(path(file, room));
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        writeFileSync(path(file, room), bytes);
      },
      problems: () => checkLibrary(library, [], { kind: 'data' }, { onProblem() {} }).problems,
      ids: () => library.list().sets.map((s) => s.id),
      restored: () => restored(library, id, join(directory, 'target'), source),
    });
  });

const actions = (library: Library, dryRun = false) =>
  repairLibrary(library, dryRun).map((r) => `${r.action} ${r.part}`);

const cases = {
  'set.json': 'summary',
  'manifest.jsonl': 'manifest',
  'media.tar': 'media',
  'tree.index': 'list',
};

for (const [file, part] of Object.entries(cases)) {
  test(`a damaged ${file} is made anew, and the old one is kept`, (t) => {
    withSet((rig) => {
      const good = rig.restored();
      rig.flip(file, 101);
      const bad = readFileSync(rig.path(file));
      t.deepEqual(actions(rig.library, true), [`repaired ${part}`]);
      t.deepEqual(readFileSync(rig.path(file)), bad, 'a dry run changes nothing');
      t.deepEqual(actions(rig.library), [`repaired ${part}`]);
      t.is(rig.problems(), 0);
      t.is(rig.restored(), good);
      t.deepEqual(readFileSync(rig.path(file, 'damaged')), bad);
      t.deepEqual(actions(rig.library), []);
    });
  });
}

test('what cannot be made whole moves with its children, and comes back when it is', (t) => {
  withSet((rig) => {
    const child = backUp(rig.library, rig.source, { parent: rig.id });
    const alone = backUp(rig.library, rig.source);
    let at = 0;
    for (const r of rig.library.openSet(rig.id).manifest()) {
      if (r.kind === 'entry' && r.size === 3000) at = r.dataOffset;
    }
    rig.flip('media.tar', at);
    const moved = repairLibrary(rig.library, false);
    t.deepEqual(
      moved.map((r) => r.set),
      [child, rig.id],
    );
    t.deepEqual(rig.ids(), [alone]);
    t.is(rig.problems(), 0);
    t.deepEqual(actions(rig.library), []);
    rig.flip('media.tar', at, 0, 'damaged');
    // Sets of one second are in no order: the child may be looked at first, and wait for a run more.
    repairLibrary(rig.library, false);
    repairLibrary(rig.library, false);
    t.deepEqual(rig.ids().sort(), [rig.id, child, alone].sort());
    t.is(rig.problems(), 0);
  });
});

test('how far it is: never backwards, never over all of it, which grows by what is damaged', (t) => {
  withSet((rig) => {
    const told: [string, number, number][] = [];
    const tell = (what: string, bytes: number, total: number) => told.push([what, bytes, total]);
    t.deepEqual(repairLibrary(rig.library, false, tell), []);
    const sound = told.at(-1)?.[2] as number;
    t.true(told.length > 1 && told.every(([what]) => what === 'checking'));
    t.is(told.at(-1)?.[1], sound);
    rig.flip('media.tar', 101);
    told.length = 0;
    t.is(repairLibrary(rig.library, false, tell)[0]?.action, 'repaired');
    t.true(told.some(([what]) => what === 'mending'));
    t.true((told.at(-1)?.[2] as number) > sound);
    for (const [i, [, bytes, total]] of told.entries()) {
      t.true(bytes <= total && bytes >= (told[i - 1]?.[1] ?? 0));
    }
  });
});

test('a set that a running backup is made against stays where it is', (t) => {
  withSet((rig) => {
    const meta = { host: 'here', roots: ['/x'], stpd: '0.0.0', ...chainOn(rig.library, rig.id) };
    const running = rig.library.beginSet(meta);
    rig.flip('media.tar', 101);
    rig.flip('manifest.jsonl', 101);
    t.deepEqual(actions(rig.library), ['busy null']);
    running.abort();
    t.deepEqual(actions(rig.library), ['moved null']);
  });
});

test('whatever bits were changed: afterwards all that is listed is sound, and nothing is gone', (t) => {
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 30; round++) {
    withSet((rig) => {
      const good = rig.restored();
      const names = Object.keys(cases);
      for (let flips = round % 3; flips >= 0; flips--) {
        const file = names[Math.floor(random() * names.length)] as string;
        const { length } = readFileSync(rig.path(file));
        rig.flip(file, Math.floor(random() * length), Math.floor(random() * 8));
      }
      repairLibrary(rig.library, false);
      t.is(rig.problems(), 0);
      if (rig.ids().length > 0) t.is(rig.restored(), good);
      else t.true(existsSync(rig.path('media.tar', 'damaged')));
      const rest = readdirSync(join(rig.library.directory, 'tmp'));
      t.deepEqual(rest, []);
    });
  }
});
