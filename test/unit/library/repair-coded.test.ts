/** Repair of media that are cut, compressed or encrypted: byte for byte what they were, or moved. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkLibrary } from '../../../src/library/check-library.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import type { ManifestEntry } from '../../../src/library/manifest.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { backUp } from './flips.js';
import { type Kind, kinds, makeTree } from './media-kinds.js';
import { inDirectory, lockFile, randomFrom } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const LABEL_BYTES = 4096;
const CHUNK_BYTES = 64 * 1024;
const TAG_BYTES = 16;

interface Rig {
  readonly library: Library;
  readonly id: string;
  readonly set: StoredSet;
  /** The volume that has a logical byte, and where in its file. */
  place(offset: number): { path: string; at: number };
  entries(): ManifestEntry[];
}

const withSet = (kind: Kind, body: (rig: Rig) => void): void =>
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeTree(source, seed);
    const home = join(directory, 'library');
    const library = Library.open(home, { lockFile, access: kind.access });
    const id = backUp(library, source, { plan: kind.plan });
    const set = library.openSet(id);
    const place = (offset: number) => {
      const volume = set.volumes().findLast(({ facts }) => facts.offset <= offset);
      if (!volume?.path) throw new Error('no volume');
      const within = offset - volume.facts.offset;
      if (set.summary.coding?.encrypt === undefined) {
        return { path: volume.path, at: LABEL_BYTES + within };
      }
      const head = readFileSync(volume.path);
      const start = head.indexOf('\n', head.indexOf('\n--- ') + 1) + 1 + TAG_BYTES;
      const chunk = Math.floor(within / CHUNK_BYTES);
      return { path: volume.path, at: start + within + chunk * TAG_BYTES };
    };
    const entries = () => [...set.manifest()].filter((r) => r.kind === 'entry');
    body({ library, id, set, place, entries });
  });

function flip(path: string, at: number, bit = 0): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ (1 << bit);
  writeFileSync(path, bytes);
}

/** Damages a file at some places, and it must come back as it was. */
function comesBack(t: ExecutionContext, rig: Rig, path: string, places: readonly number[]): void {
  const good = readFileSync(path);
  for (const at of places) flip(path, at, at % 8);
  const what = `${path} at ${places}`;
  t.false(readFileSync(path).equals(good));
  const done = repairLibrary(rig.library, false);
  t.deepEqual(
    done.map((r) => `${r.action} ${r.part}`),
    ['repaired media'],
    what,
  );
  t.true(readFileSync(path).equals(good), what);
  t.is(checkLibrary(rig.library, [], { kind: 'data' }, { onProblem() {} }).problems, 0, what);
}

for (const kind of kinds) {
  const { plan } = kind;
  test(`${kind.name}: what the manifest knows is made anew, each volume as it was`, (t) => {
    t.log(`seed ${seed}`);
    withSet(kind, (rig) => {
      const first = rig.set.volumes()[0]?.path as string;
      // The label, and with age the word of the recipients' list that it is in.
      const label = plan.recipients === undefined ? 20 : readFileSync(first).indexOf('host=') + 6;
      comesBack(t, rig, first, [label]);
      const last = rig.set.volumes().at(-1)?.path as string;
      if (plan.recipients !== undefined) {
        // The tag of what is sealed last.
        comesBack(t, rig, last, [readFileSync(last).length - 1]);
      }
      if (plan.level === undefined) {
        for (const entry of rig
          .entries()
          .filter((e) => e.type === 'file')
          .slice(0, 12)) {
          const { path, at } = rig.place(entry.headerOffset + 120);
          comesBack(t, rig, path, [at, at + 7]);
        }
        const end = rig.place(rig.set.summary.mediaBytes - 3);
        comesBack(t, rig, end.path, [end.at]);
      } else {
        const { length } = readFileSync(last);
        // Inside of the table of frames, and of its magic number.
        comesBack(t, rig, last, [length - 15 - (plan.recipients ? TAG_BYTES : 0)]);
        comesBack(t, rig, last, [length - 2 - (plan.recipients ? TAG_BYTES : 0)]);
      }
    });
  });

  test(`${kind.name}: data that is damaged moves the set away, and nothing else`, (t) => {
    withSet(kind, (rig) => {
      const large = rig.entries().find((e) => e.size === 300_000) as ManifestEntry;
      const path = plan.level === undefined ? rig.place(large.dataOffset + 5000) : null;
      const volume = rig.set.volumes().find((v) => v.facts.bytes > 50_000)?.path as string;
      flip(path?.path ?? volume, path?.at ?? 30_000);
      const other = backUp(rig.library, rig.set.summary.roots[0] as string);
      const done = repairLibrary(rig.library, false);
      t.deepEqual(
        done.map((r) => [r.set, r.action]),
        [[rig.id, 'moved']],
      );
      t.deepEqual(
        rig.library.list().sets.map((s) => s.id),
        [other],
      );
    });
  });
}

test('whatever bits were changed, in any kind of media: repaired to the byte, or moved', (t) => {
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  const below = (n: number): number => Math.floor(random() * n);
  let repaired = 0;
  for (const kind of kinds) {
    withSet(kind, (rig) => {
      for (let round = 0; round < 6 && rig.library.list().sets.length > 0; round++) {
        const volumes = rig.set.volumes();
        const { path } = volumes[below(volumes.length)] as { path: string };
        const good = readFileSync(path);
        // Beginnings have labels and headers.
        const at = round % 2 === 0 ? below(Math.min(5000, good.length)) : below(good.length);
        flip(path, at, below(8));
        const [done] = repairLibrary(rig.library, false);
        const problems = checkLibrary(
          rig.library,
          [],
          { kind: 'data' },
          { onProblem() {} },
        ).problems;
        t.is(problems, 0, `${kind.name} at ${at}`);
        if (done?.action !== 'repaired') continue;
        t.true(readFileSync(path).equals(good), `${kind.name} at ${at}`);
        repaired++;
      }
    });
  }
  t.log(`${repaired} repaired`);
  t.true(repaired > 0);
});
