/**
 * The tree of a set as it was at that point: each entry with the line of the manifest that tells of
 * it and the media that have its data, both of which an incremental set may find in earlier ones.
 *
 * A chain is the full set, then every incremental up to the one that is asked for. It is held
 * together by digests: a set names the manifests that it builds on. Any thread; one iteration.
 */
import { isCoded, stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import type { ByteFile } from './bytes.js';
import { type Extra, NO_EXTRA } from './levels.js';
import type { Library, StoredSet } from './library.js';
import {
  CHAIN_MAX,
  type ChainLink,
  chainOf,
  decodeLine,
  LineError,
  type ManifestEntry,
} from './manifest.js';
import type { SetSummary } from './set-writer.js';
import { isAtOrBelow } from './stored-path.js';
import { TreeIndexReader } from './tree-index.js';
import type { ParentList } from './tree-merge.js';

export const indexPathOf = (set: StoredSet): string => set.listPath;

/** The list of the set that a new one is made against. @throws EACCES if it is sealed */
export const parentListOf = (set: StoredSet): ParentList =>
  set.isSealed
    ? { path: set.openList(), blake3: null }
    : { path: set.listPath, blake3: set.summary.indexBlake3 ?? '' };

/** What a set is called that a new one builds on: all before it, then itself. */
export const chainThrough = (summary: SetSummary): ChainLink[] => [
  ...(summary.chain ?? []),
  { id: summary.id, manifestBlake3: summary.manifestBlake3 },
];

/**
 * All sets that `set` needs, the full one first, itself last.
 * @throws ENOENT if one was pruned or lost, EINVAL if one is not what it was
 */
export function openChain(library: Library, set: StoredSet): StoredSet[] {
  let links: ChainLink[];
  try {
    links = chainOf(set.summary.chain ?? []);
  } catch (e) {
    if (!(e instanceof LineError)) throw e;
    throw stpError('EINVAL', `the summary of set ${set.id} is damaged: ${e.message}`);
  }
  return [...links.map((link) => openLink(library, link, set.id)), set];
}

function openLink(library: Library, link: ChainLink, neededBy: string): StoredSet {
  let set: StoredSet;
  try {
    set = library.openSet(link.id);
  } catch (e) {
    if (!isCoded(e) || e.code !== 'ENOENT') throw e;
    const why = 'which is not in the library: it was pruned or lost';
    throw stpError('ENOENT', `set ${neededBy} needs set ${link.id}, ${why}; make a full backup`);
  }
  if (set.id === link.id && set.summary.manifestBlake3 === link.manifestBlake3) return set;
  const why = 'which is not the one that it was made from';
  throw stpError('EINVAL', `set ${neededBy} needs set ${link.id}, ${why}; make a full backup`);
}

/** The newest set of a host with just these roots. */
export function lastSetOf(
  library: Library,
  host: string,
  roots: readonly string[],
): SetSummary | undefined {
  const wanted = JSON.stringify([...roots].sort());
  // Names of sets have seconds only, which two runs may share.
  return library
    .list()
    .sets.filter((s) => s.host === host && JSON.stringify([...s.roots].sort()) === wanted)
    .sort((a, b) => (a.finishedAt < b.finishedAt ? -1 : 1))
    .at(-1);
}

/**
 * The set that an incremental backup of these roots builds on, and what that builds on.
 * @throws ENOENT if there is none, or one of the chain is gone; EINVAL if one is damaged
 */
export function openParent(library: Library, host: string, roots: readonly string[]): StoredSet[] {
  const found = lastSetOf(library, host, roots);
  if (found === undefined) {
    throw stpError('ENOENT', `no set of ${host} has just these roots; make a full backup first`);
  }
  if (found.indexBytes === undefined) {
    throw stpError('EINVAL', `set ${found.id} has no list to compare with; make a full backup`);
  }
  const chain = openChain(library, library.openSet(found.id));
  if (chain.length < CHAIN_MAX) return chain;
  throw stpError('E2BIG', `set ${found.id} builds on ${CHAIN_MAX - 1} others; make a full backup`);
}

/**
 * Reads all that tells of the tree once: lines count only when their manifests have their digests.
 * @throws EBADMSG if something is not what was written; EIO
 */
export function verifyTree(chain: readonly StoredSet[]): void {
  for (const set of chain) set.verifyManifest();
  if (chain.length > 1) chain.at(-1)?.verifyList();
}

export interface TreeItem {
  readonly entry: ManifestEntry;
  /** Without its newline; valid until the next. */
  readonly line: Buffer;
  /** Its manifest has the line, at `lineOffset`. */
  readonly lineSet: StoredSet;
  readonly lineOffset: number;
  /** Has the data, at `dataOffset` of this one of its media. */
  readonly dataSet: StoredSet;
  readonly dataMedium: number;
  readonly dataOffset: number;
  /** Of a large file in an incremental set: the levels that its data is put together from. */
  readonly extra: Extra;
}

/**
 * Entries of the last set of a chain, in the order of the walk; with `selected`, those at or below
 * these stored paths.
 * @throws ENOENT at the end if one of them selects nothing; EINVAL for what is damaged
 */
export function* treeOf(
  chain: readonly StoredSet[],
  selected: readonly Buffer[] = [],
): Generator<TreeItem, void, void> {
  const unseen = new Set(selected);
  const set = chain.at(-1) as StoredSet;
  const all = set.summary.chain === undefined ? itemsOfManifest(set) : itemsOfIndex(chain);
  for (const item of all) {
    if (selected.length === 0) {
      yield item;
      continue;
    }
    const tops = selected.filter((top) => isAtOrBelow(item.entry.path, top));
    for (const top of tops) unseen.delete(top);
    if (tops.length > 0) yield item;
  }
  const [missing] = unseen;
  if (missing) {
    const name = displayPath(missing);
    throw stpError('ENOENT', `/${name} is not in this set; stpbackup list shows its roots`);
  }
}

function* itemsOfManifest(set: StoredSet): Generator<TreeItem, void, void> {
  const manifest = set.manifest();
  try {
    for (const entry of manifest) {
      if (entry.kind !== 'entry' || entry.superseded || entry.again) continue;
      const { line, lineOffset } = manifest;
      const { medium: dataMedium, dataOffset } = entry;
      const place = { dataSet: set, dataMedium, dataOffset, extra: NO_EXTRA };
      yield { entry, line, lineSet: set, lineOffset, ...place };
    }
  } finally {
    manifest.close();
  }
}

function* itemsOfIndex(chain: readonly StoredSet[]): Generator<TreeItem, void, void> {
  const set = chain.at(-1) as StoredSet;
  const path = set.listPath;
  const manifests: (LineFile | undefined)[] = chain.map(() => undefined);
  const file = set.openList();
  try {
    const list = TreeIndexReader.ofFile(file);
    while (list.next()) {
      const place = list.place;
      const [lineSet, dataSet] = [chain[place.set], chain[place.dataSet]];
      const { extra } = list;
      const isThere = extra.levels.every((level) => chain[level.set] !== undefined);
      if (lineSet === undefined || dataSet === undefined || !isThere) {
        throw stpError('EINVAL', `${path} is damaged: it names a set that is not in its chain`);
      }
      const lines = manifests[place.set] ?? new LineFile(lineSet.openManifest());
      manifests[place.set] = lines;
      const line = lines.at(place.lineOffset, place.lineBytes);
      const entry = entryAt(line, list, lineSet.manifestPath);
      const { lineOffset, dataMedium, dataOffset } = place;
      yield { entry, line, lineSet, lineOffset, dataSet, dataMedium, dataOffset, extra };
    }
    // A sealed list shows each change by itself.
    if (!set.isSealed && list.digest() !== set.summary.indexBlake3) {
      throw stpError('EINVAL', `${path} is damaged: its digest is not that of set.json`);
    }
  } finally {
    file.close();
    for (const lines of manifests) lines?.close();
  }
}

function entryAt(line: Buffer, list: TreeIndexReader, manifest: string): ManifestEntry {
  const wrong = (why: string) =>
    stpError('EINVAL', `${manifest} is damaged at /${displayPath(list.path)}: ${why}`);
  try {
    const record = decodeLine(line.toString());
    const isIt =
      record.kind === 'entry' &&
      list.isAt(record.path) &&
      list.looksLike(record) &&
      (record.blake3 === null || record.blake3 === list.blake3);
    if (isIt) return record;
  } catch (e) {
    if (!(e instanceof LineError)) throw e;
    throw wrong(e.message);
  }
  throw wrong('its line is not the one that the list names');
}

const READ_BYTES = 256 * 1024;

/** Lines at given places of a manifest, mostly one after the other. */
class LineFile {
  readonly #file: ByteFile;
  #chunk = Buffer.allocUnsafeSlow(READ_BYTES);
  #from = 0;
  #bytes = 0;

  constructor(file: ByteFile) {
    this.#file = file;
  }

  /** Valid until the next call. */
  at(offset: number, bytes: number): Buffer {
    if (offset < this.#from || offset + bytes > this.#from + this.#bytes) this.#load(offset, bytes);
    const start = offset - this.#from;
    return this.#chunk.subarray(start, start + bytes);
  }

  #load(offset: number, bytes: number): void {
    if (bytes > this.#chunk.length) this.#chunk = Buffer.allocUnsafeSlow(bytes);
    this.#from = offset;
    this.#bytes = 0;
    while (this.#bytes < bytes) {
      const room = this.#chunk.length - this.#bytes;
      const read = this.#file.read(this.#chunk, this.#bytes, room, offset + this.#bytes);
      if (read === 0) throw stpError('EINVAL', `${this.#file.name} is shorter than its list says`);
      this.#bytes += read;
    }
  }

  close(): void {
    this.#file.close();
  }
}
