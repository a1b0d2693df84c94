/**
 * Single changed bits in a set: `check --data` must find each, and none may restore silently.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '../../../src/errors.js';
import { Catalog } from '../../../src/library/catalog.js';
import { checkLibrary } from '../../../src/library/check-library.js';
import { nameMatcher } from '../../../src/library/find.js';
import { Library } from '../../../src/library/library.js';
import type { MediaAccess, MediaPlan } from '../../../src/library/media-plan.js';
import { RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { chainThrough, openChain, treeOf } from '../../../src/library/set-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { Generations } from './generations.js';
import { inDirectory, lockFile, MemoryPipe, randomFrom, run, testNative } from './stand-ins.js';

/** Small, with long names and fractions of a second, so that headers are a good part of it. */
export function makeSmallTree(root: string): void {
  mkdirSync(join(root, 'd'.repeat(120)), { recursive: true });
  for (const size of [0, 1, 511, 512, 3000])
    writeFileSync(join(root, `f${size}`), 'x'.repeat(size));
  writeFileSync(join(root, 'd'.repeat(120), 'e'.repeat(200)), 'deep');
  testNative.setTimesNs(join(root, 'f512'), 1_700_000_000_123_456_789n, false);
}

/** What the header of a set says of the one that it is made against. */
export const chainOn = (library: Library, parent: string) => ({
  chain: chainThrough(library.openSet(parent).summary),
});

/** With a parent the set depends on that, although all of the tree is in it. */
export function backUp(
  library: Library,
  source: string,
  more: { parent?: string; plan?: MediaPlan } = {},
): string {
  const chain = more.parent === undefined ? {} : chainOn(library, more.parent);
  const meta = { host: 'here', roots: [source], stpd: '0.0.0', ...chain };
  const set = library.beginSet(meta, more.plan === undefined ? {} : { plan: more.plan });
  const pipe = new MemoryPipe();
  sendTree(pipe, [source]);
  storeSet(pipe, set);
  return set.commit().id;
}

/** Names, modes, times and data below a directory, as text. */
export function portrait(directory: string): string {
  const facts = run('find', [
    directory,
    '-mindepth',
    '1',
    '-printf',
    '%P %y %m %U %G %s %T@ %l\\n',
  ]);
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile())
    .map((e) => readFileSync(join(e.parentPath, e.name)).toString('latin1'));
  return `${facts.toString().split('\n').sort().join('\n')}\n${files.sort().join('\0')}`;
}

/** What a restore says, or the portrait of what it made. */
export function restored(
  library: Library,
  id: string,
  target: string,
  source: string,
): string | null {
  try {
    const pipe = new MemoryPipe();
    const set = library.openSet(id);
    sendSet(pipe, set, { chain: openChain(library, set) });
    let problems = 0;
    const onProblem = () => problems++;
    restoreSet(pipe, new RestoreWriter(target, { native: testNative, onProblem }));
    return problems > 0 ? null : portrait(join(target, source));
  } catch (e) {
    if (!isCoded(e)) throw e;
    return null;
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
}

export interface Flips {
  readonly flips: number;
  /** Where one was not found: file, byte and bit. */
  readonly missed: readonly string[];
  /** Where a restore gave something else and said nothing. */
  readonly silent: readonly string[];
}

/**
 * What is flipped: one full set, or a chain of three, each file of each of them; with `delta` most of
 * it is one file and its changed blocks.
 */
export type FlipKind = 'full' | 'chain' | 'delta';

const BLOCK_BYTES = 16 << 10;

function makeDeltas(generations: Generations, source: string): string[] {
  const large = join(source, 'large');
  const data = Buffer.alloc(3 * BLOCK_BYTES, 'large ');
  const options = { deltaFrom: BLOCK_BYTES };
  writeFileSync(large, data);
  const ids = [generations.full(options).set.id];
  for (const at of [BLOCK_BYTES + 1, 2 * BLOCK_BYTES]) {
    data.write('changed', at);
    writeFileSync(large, data);
    const { set, items } = generations.incremental(options);
    if (!items.some((i) => i.kind === 'entry' && i.delta !== null)) {
      throw new Error('there is no delta to flip');
    }
    ids.push(set.id);
  }
  return ids;
}

/** How the media are, and with what they are read. */
export interface MediaHow {
  readonly plan?: MediaPlan;
  readonly access?: MediaAccess;
}

/** @returns the ids of the sets, the last one of which has the tree */
function makeSets(library: Library, source: string, kind: FlipKind, how: MediaHow = {}): string[] {
  const { plan } = how;
  if (kind === 'full') return [backUp(library, source, plan === undefined ? {} : { plan })];
  const generations = new Generations(join(library.directory, '..'), how);
  if (kind === 'delta') return makeDeltas(generations, source);
  const full = generations.full().set.id;
  writeFileSync(join(source, 'f511'), 'now it is longer than it was\n'.repeat(30));
  rmSync(join(source, 'f1'));
  const second = generations.incremental().set.id;
  chmodSync(join(source, 'f3000'), 0o600);
  writeFileSync(join(source, 'new'), 'new');
  return [full, second, generations.incremental().set.id];
}

interface Flip {
  readonly path: string;
  readonly where: string;
  undo(): void;
}

/** Changes one bit of a file; each byte and bit is as likely. */
export function flipBit(path: string, random: () => number): Flip {
  const whole = readFileSync(path);
  const at = Math.floor(random() * whole.length);
  const bit = Math.floor(random() * 8);
  const changed = Buffer.from(whole);
  changed[at] = (whole[at] as number) ^ (1 << bit);
  writeFileSync(path, changed);
  return {
    path,
    where: `${path}, byte ${at}, bit ${bit}`,
    undo: () => writeFileSync(path, whole),
  };
}

/** @param restores every how many flips the tree is restored, too; 0: none */
export function tryFlips(
  count: number,
  seed: number,
  restores: number,
  kind: FlipKind = 'full',
  how: MediaHow = {},
): Flips {
  return inDirectory((directory) => {
    const random = randomFrom(seed);
    const source = join(directory, 'source');
    makeSmallTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile, access: how.access });
    const ids = makeSets(library, source, kind, how);
    const id = ids.at(-1) as string;
    // Whatever a set has is flipped, so that a new kind of file is not forgotten here.
    const files = ids.flatMap((set) => {
      const home = join(library.directory, 'sets', set);
      return readdirSync(home).map((name) => join(home, name));
    });
    const target = join(directory, 'target');
    const good = restores === 0 ? '' : restored(library, id, target, source);
    if (good === null) throw new Error('the set does not restore before any bit is changed');
    const missed: string[] = [];
    const silent: string[] = [];
    for (let i = 0; i < count; i++) {
      const flip = flipBit(files[i % files.length] as string, random);
      const { problems } = checkLibrary(library, [], { kind: 'data' }, { onProblem() {} });
      if (problems === 0) missed.push(flip.where);
      if (restores > 0 && i % restores === 0) {
        const found = restored(library, id, target, source);
        if (found !== null && found !== good) silent.push(flip.where);
      }
      flip.undo();
    }
    return { flips: count, missed, silent };
  });
}

/** What `find` says of everything there is: by the catalog, or by the manifests where there is none. */
export function listing(library: Library, catalog: Catalog | null): string {
  const rows = catalog
    ? catalog.find(nameMatcher('*'), () => true)
    : library.list().sets.flatMap(({ id }) => {
        const tree = treeOf(openChain(library, library.openSet(id)));
        return [...tree].map(({ entry }) => ({ set: id, entry }));
      });
  return rows
    .map(({ set, entry }) => `${set} ${entry.path} ${entry.size} ${entry.mode}`)
    .join('\n');
}

/**
 * Flips over the catalog of a chain. What is wrong is `silent`: a listing that is not that of the
 * manifests. `missed`: a damaged catalog that was used as it is.
 */
export function tryCatalogFlips(count: number, seed: number): Flips {
  return inDirectory((directory) => {
    const random = randomFrom(seed);
    const source = join(directory, 'source');
    makeSmallTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile });
    makeSets(library, source, 'chain');
    const catalog = new Catalog(library);
    const good = listing(library, null);
    if (listing(library, catalog) !== good) throw new Error('the catalog is wrong from the start');
    const missed: string[] = [];
    const silent: string[] = [];
    for (let i = 0; i < count; i++) {
      const name = i % 8 === 0 ? 'catalog.json' : 'catalog.sqlite';
      const flip = flipBit(join(library.directory, name), random);
      const damaged = readFileSync(flip.path);
      if (listing(library, catalog) !== good) silent.push(flip.where);
      else if (name === 'catalog.sqlite' && readFileSync(flip.path).equals(damaged)) {
        missed.push(flip.where);
      }
    }
    return { flips: count, missed, silent };
  });
}
