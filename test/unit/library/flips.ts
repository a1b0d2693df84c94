/**
 * Single changed bits in a set: `check --data` must find each, and none may restore silently.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '../../../src/errors.js';
import { Catalog } from '../../../src/library/catalog.js';
import { checkLibrary } from '../../../src/library/check-library.js';
import { nameMatcher } from '../../../src/library/find.js';
import { LARGE_DATA_BYTES } from '../../../src/library/frames.js';
import { Library } from '../../../src/library/library.js';
import type { MediaAccess, MediaPlan } from '../../../src/library/media-plan.js';
import { RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { chainThrough, openChain, treeOf } from '../../../src/library/set-tree.js';
import { SPREAD_BYTES_MIN } from '../../../src/library/spread.js';
import { storeSet } from '../../../src/library/store-set.js';
import { Generations } from './generations.js';
import { inMemory, lockFile, MemoryPipe, randomFrom, testNative } from './stand-ins.js';

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
  // What is encrypted has no block hashes.
  sendTree(pipe, [source], more.plan?.recipients === undefined ? {} : { deltaFrom: 0 });
  storeSet(pipe, set);
  return set.commit().id;
}

/** Names, modes, owners, times, links and data below a directory, as text. */
export function portrait(directory: string): string {
  const lines = readdirSync(directory, { recursive: true, withFileTypes: true }).map((e) => {
    const path = join(e.parentPath, e.name);
    const { mode, uid, gid, mtimeNs, nlink } = lstatSync(path, { bigint: true });
    const links = e.isDirectory() ? '' : nlink;
    const facts = [path.slice(directory.length), mode.toString(8), uid, gid, mtimeNs, links];
    const content = e.isFile()
      ? readFileSync(path, 'latin1')
      : e.isSymbolicLink()
        ? readlinkSync(path)
        : '';
    return `${facts.join(' ')} ${content}`;
  });
  return lines.sort().join('\n');
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
 * it is one file and its changed blocks, with `streams` each set has three media, with `large` a full
 * set has mostly data whose own digest stands for it in the medium's.
 */
export type FlipKind = 'full' | 'chain' | 'delta' | 'streams' | 'large';

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

/** The small tree, links, and as much more as its media need to be several. */
function makeFlipTree(source: string, kind: FlipKind, { plan }: MediaHow): void {
  makeSmallTree(source);
  if (kind === 'large') {
    writeFileSync(join(source, 'f-large'), Buffer.alloc(LARGE_DATA_BYTES, 'whole pages'));
    writeFileSync(join(source, 'g-large'), Buffer.alloc(LARGE_DATA_BYTES + 777, 'and a part'));
  }
  symlinkSync('f512', join(source, 'link'));
  linkSync(join(source, 'f511'), join(source, 'second-name'));
  const large = plan?.volumeBytes ?? (kind === 'streams' ? SPREAD_BYTES_MIN : 0);
  if (large === 0) return;
  // What does not compress, so that packed media are as many.
  const noise = randomFrom(1);
  for (const name of ['large-a', 'large-b']) {
    const data = Uint8Array.from({ length: large }, () => noise() * 256);
    writeFileSync(join(source, name), data);
  }
}

/** @returns the ids of the sets, oldest first */
function makeSets(library: Library, source: string, kind: FlipKind, how: MediaHow = {}): string[] {
  const { plan } = how;
  if (kind === 'full' || kind === 'large')
    return [backUp(library, source, plan === undefined ? {} : { plan })];
  const streams = kind === 'streams' ? 3 : 1;
  const generations = new Generations(join(library.directory, '..'), { ...how, streams });
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
  const fd = openSync(path, 'r+');
  try {
    const at = Math.floor(random() * fstatSync(fd).size);
    const bit = Math.floor(random() * 8);
    const byte = Buffer.alloc(1);
    if (readSync(fd, byte, 0, 1, at) !== 1) throw new Error(`${path} has no bit to change`);
    const put = (value: number): void => {
      if (writeSync(fd, Buffer.of(value), 0, 1, at) !== 1) throw new Error(`${path}: not written`);
    };
    const good = byte[0] as number;
    put(good ^ (1 << bit));
    const where = `${path}, byte ${at}, bit ${bit}`;
    return { path, where, undo: () => putByte(path, at, good) };
  } finally {
    closeSync(fd);
  }
}

function putByte(path: string, at: number, value: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.of(value), 0, 1, at);
  closeSync(fd);
}

/** A library to spoil, and what is in it while it is whole. */
interface FlipRig {
  readonly library: Library;
  readonly source: string;
  readonly target: string;
  readonly ids: readonly string[];
  /** Every file of every set, with the number of its set. */
  readonly files: readonly { readonly path: string; readonly set: number }[];
}

/**
 * Flips a bit, checks, restores a set that has the flipped file or builds on it, and takes it back.
 * @param restores every how many flips a tree is restored, too; 0: none
 */
export function tryFlips(
  count: number,
  seed: number,
  restores: number,
  kind: FlipKind = 'full',
  how: MediaHow = {},
): Flips {
  return inMemory((directory) => {
    const random = randomFrom(seed);
    const rig = makeFlipRig(directory, kind, how);
    const { library, ids, files } = rig;
    const good = restores === 0 ? [] : ids.map((id) => restoredWhole(rig, id));
    const missed: string[] = [];
    const silent: string[] = [];
    for (let i = 0; i < count; i++) {
      const { path, set } = files[i % files.length] as (typeof files)[number];
      const flip = flipBit(path, random);
      const { problems } = checkLibrary(library, [], { kind: 'data' }, { onProblem() {} });
      if (problems === 0) missed.push(flip.where);
      if (restores > 0 && i % restores === 0) {
        const point = set + Math.floor(random() * (ids.length - set));
        const found = restored(library, ids[point] as string, rig.target, rig.source);
        if (found !== null && found !== good[point]) silent.push(flip.where);
      }
      flip.undo();
    }
    assertWhole(rig);
    return { flips: count, missed, silent };
  });
}

function makeFlipRig(directory: string, kind: FlipKind, how: MediaHow): FlipRig {
  const source = join(directory, 'source');
  makeFlipTree(source, kind, how);
  const library = Library.open(join(directory, 'library'), { lockFile, access: how.access });
  const ids = makeSets(library, source, kind, how);
  const first = library.openSet(ids[0] as string);
  const volumes = first.volumes().length;
  if (kind === 'streams' && first.media.length !== 3) throw new Error('it is one medium');
  if (how.plan?.volumeBytes !== undefined && volumes < 2) throw new Error('it is one volume');
  // Whatever a set has is flipped, so that a new kind of file is not forgotten here.
  const files = ids.flatMap((id, set) => {
    const home = join(library.directory, 'sets', id);
    return readdirSync(home).map((name) => ({ path: join(home, name), set }));
  });
  const target = join(directory, 'target');
  const rig = { library, source, target, ids, files };
  assertWhole(rig);
  return rig;
}

/** Nothing is found where nothing is damaged: every flip was taken back. */
function assertWhole({ library }: FlipRig): void {
  const onProblem = ({ message }: { message: string }): void => {
    throw new Error(`a problem without a changed bit: ${message}`);
  };
  checkLibrary(library, [], { kind: 'data' }, { onProblem });
}

function restoredWhole({ library, source, target }: FlipRig, id: string): string {
  const good = restored(library, id, target, source);
  if (good === null) throw new Error('the set does not restore before any bit is changed');
  return good;
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
  return inMemory((directory) => {
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
