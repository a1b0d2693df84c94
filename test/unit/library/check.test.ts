import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { CheckDepth, SetProblem } from '../../../src/library/check.js';
import { checkLibrary } from '../../../src/library/check-library.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import { readFileOf } from '../../../src/library/read-file.js';
import { backUp, makeSmallTree, tryFlips } from './flips.js';
import { makeHardTree } from './hard-tree.js';
import { inDirectory, lockFile } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

function withSet(body: (library: Library, set: StoredSet, source: string) => void): void {
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeSmallTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile });
    backUp(library, source);
    body(library, library.openSet('latest'), source);
  });
}

function problemsOf(library: Library, depth: CheckDepth): SetProblem[] {
  const found: SetProblem[] = [];
  checkLibrary(library, [], depth, { onProblem: (p) => found.push(p) });
  return found;
}

const structure: CheckDepth = { kind: 'structure' };
const data: CheckDepth = { kind: 'data' };

/** Offset in the media of an entry's first byte of data. */
function dataOffset(set: StoredSet, name: string): number {
  for (const record of set.manifest()) {
    if (record.kind === 'entry' && record.path.toString().endsWith(name)) return record.dataOffset;
  }
  throw new Error(`${name} is not in the set`);
}

function change(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

test.serial('some hundred changed bits are all found, and none restores silently', (t) => {
  t.log(`seed ${seed}`);
  t.deepEqual(tryFlips(300, seed, 3), { flips: 300, missed: [], silent: [] });
});

test.serial('a changed bit in large files is found, and never restores silently', (t) => {
  t.log(`seed ${seed}`);
  t.deepEqual(tryFlips(60, seed, 6, 'large'), { flips: 60, missed: [], silent: [] });
});

test.serial('a changed bit anywhere in a chain is found, and never restores silently', (t) => {
  t.log(`seed ${seed}`);
  t.deepEqual(tryFlips(120, seed, 3, 'chain'), { flips: 120, missed: [], silent: [] });
});

test.serial(
  'single flipped bits in block deltas, their base and block hashes are all found',
  (t) => {
    t.log(`seed ${seed}`);
    t.deepEqual(tryFlips(150, seed, 2, 'delta'), { flips: 150, missed: [], silent: [] });
  },
);

test.serial('a sound set passes at every depth', (t) => {
  t.log(`seed ${seed}`);
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeHardTree(source, seed);
    const library = Library.open(join(directory, 'library'), { lockFile });
    backUp(library, source);
    for (const depth of [structure, data, { kind: 'share', share: 1, draw: () => 0.5 }] as const) {
      t.deepEqual(problemsOf(library, depth), []);
    }
  });
});

test.serial(
  'changed data is named by check of the data, and not seen by that of the structure',
  (t) => {
    withSet((library, set) => {
      change(set.mediaPath, dataOffset(set, 'f3000') + 7);
      t.deepEqual(problemsOf(library, structure), []);
      const found = problemsOf(library, data);
      t.is(found.length, 2);
      t.regex(found[0]?.path ?? '', /source\/f3000$/);
      t.regex(found[1]?.message ?? '', /does not have its digest/);
    });
  },
);

test.serial('a share reads the files that are drawn, and only those', (t) => {
  withSet((library, set) => {
    change(set.mediaPath, dataOffset(set, 'f3000'));
    const share = (draw: () => number): CheckDepth => ({ kind: 'share', share: 0.5, draw });
    t.is(
      problemsOf(
        library,
        share(() => 0.4),
      ).length,
      1,
    );
    t.is(
      problemsOf(
        library,
        share(() => 0.6),
      ).length,
      0,
    );
  });
});

test.serial('changed headers and short media are seen by check of the structure', (t) => {
  withSet((library, set) => {
    change(set.mediaPath, dataOffset(set, 'f3000') - 512 + 100);
    t.regex(problemsOf(library, structure)[0]?.message ?? '', /checksum/);
    truncateSync(set.mediaPath, 512);
    t.regex(problemsOf(library, structure)[0]?.message ?? '', /512 bytes instead of/);
  });
});

test.serial('a damaged manifest does not hide damaged media', (t) => {
  withSet((library, set) => {
    change(set.mediaPath, dataOffset(set, 'f3000'));
    change(set.manifestPath, 100);
    t.deepEqual(
      problemsOf(library, structure).map((p) => p.part),
      ['manifest'],
    );
    t.deepEqual(
      problemsOf(library, data).map((p) => p.part),
      ['manifest', 'media'],
    );
  });
});

test.serial('a missing parent is a problem', (t) => {
  withSet((library, _set, source) => {
    const parent = library.openSet('latest').id;
    const child = backUp(library, source, { parent });
    t.deepEqual(problemsOf(library, structure), []);
    rmSync(join(library.directory, 'sets', parent), { recursive: true });
    t.like(problemsOf(library, structure), [{ set: child, part: 'parent' }]);
  });
});

test.serial('a file is read out whole, and not at all when it is damaged', (t) => {
  withSet((library, set, source) => {
    const read = (name: string): string => {
      let got = '';
      const path = Buffer.from(join(source, name).slice(1));
      readFileOf([library.openSet(set.id)], path, { update: (b) => (got += Buffer.from(b)) });
      return got;
    };
    t.is(read('f3000'), 'x'.repeat(3000));
    t.is(read('f0'), '');
    t.throws(() => read('nothing'), { code: 'ENOENT' });
    t.throws(() => read('d'.repeat(120)), { code: 'EISDIR' });
    change(set.mediaPath, dataOffset(set, 'f3000') + 2999);
    let passed = 0;
    const path = Buffer.from(join(source, 'f3000').slice(1));
    t.throws(() => readFileOf([set], path, { update: () => passed++ }), { code: 'EBADMSG' });
    t.is(passed, 0);
  });
});
