/**
 * Writes the list of a set (tree-index.ts): the parent's, with what the client says has changed.
 *
 * Both come in the order of the walk, so this is one merge: records of the parent that the client
 * does not mention are copied as they are. An entry that says its data is the parent's is held
 * against the parent's record. Synchronous; the thread of its set writer.
 */
import { stpError } from '../errors.js';
import { compareWalk, displayPath } from '../source/names.js';
import type { Sealing } from './age-file.js';
import { type ByteFile, PlainFile } from './bytes.js';
import { type Extra, LEVELS_MAX, NO_EXTRA } from './levels.js';
import { LineError, type ManifestEntry } from './manifest.js';
import { NewFile } from './new-file.js';
import {
  encodeIndexHeader,
  type IndexPlace,
  RecordBuffer,
  TICK_NS,
  TreeIndexReader,
} from './tree-index.js';

const GATHER_BYTES = 1 << 20;

/** What an incremental set builds on. */
export interface ParentList {
  /** Path of its list; or the list, where it is sealed, which is closed with the merge. */
  readonly path: string | ByteFile;
  /** Of what is in it; null where it is sealed: that shows each change by itself. */
  readonly blake3: string | null;
}

export interface TreeMergeOptions {
  readonly path: string;
  /** Place of the set that is written in its chain. */
  readonly ordinal: number;
  readonly parent: ParentList | null;
  /** Who may read it; left out: anybody. */
  readonly sealing?: Sealing | null;
  /** The list is of what is kept of an interrupted backup, and says so of each entry. */
  readonly isKept?: boolean;
}

const openList = (from: string | ByteFile): ByteFile =>
  typeof from === 'string' ? new PlainFile(from) : from;

export class TreeMerge {
  readonly #options: TreeMergeOptions;
  readonly #file: NewFile;
  readonly #parentFile: ByteFile | null;
  readonly #parent: TreeIndexReader | null = null;
  readonly #gathered = new RecordBuffer(GATHER_BYTES);
  #entries = 0;
  #scanNs: bigint | null = null;
  #trustedBeforeNs = 0n;
  #last: Buffer | null = null;
  #closed = false;

  constructor(options: TreeMergeOptions) {
    this.#options = options;
    const { parent } = options;
    this.#parentFile = parent && openList(parent.path);
    this.#file = new NewFile(options.path, options.sealing);
    if (this.#parentFile === null) return;
    this.#parent = TreeIndexReader.ofFile(this.#parentFile);
    this.#parent.next();
  }

  /** The scan's time; the latest possible one if the client does not say: nothing is trusted then. */
  begin(scanNs: bigint): void {
    if (this.#scanNs !== null) throw new LineError('scanNs comes twice, or behind an entry');
    this.#scanNs = scanNs;
    this.#trustedBeforeNs = scanNs - TICK_NS;
    this.#write(encodeIndexHeader(scanNs));
  }

  put(entry: ManifestEntry, lineOffset: number, lineBytes: number): void {
    // It stands in the list already, or is to come.
    if (entry.again) return;
    const before = this.#last;
    const match = this.#advanceTo(entry.path);
    if (entry.superseded) {
      // The same path comes again, or as a tombstone.
      this.#last = before;
      return;
    }
    let dataSet = this.#options.ordinal;
    let { medium: dataMedium, dataOffset } = entry;
    if (entry.sameData) ({ dataSet, dataMedium, dataOffset } = this.#dataOf(entry, match));
    const set = this.#options.ordinal;
    const place = { set, lineOffset, lineBytes, dataSet, dataMedium, dataOffset };
    const extra = this.#extraOf(entry, match);
    const { isKept = false } = this.#options;
    this.#gathered.add(entry, place, this.#trustedBeforeNs, extra, isKept);
    this.#flushIfFull();
    this.#entries++;
    if (match) this.#parent?.next();
  }

  #dataOf(
    entry: ManifestEntry,
    match: boolean,
  ): Pick<IndexPlace, 'dataSet' | 'dataMedium' | 'dataOffset'> {
    const parent = this.#parent;
    const same =
      match &&
      parent?.type === 'file' &&
      parent.size === entry.size &&
      parent.stored === entry.stored &&
      parent.isSparse === entry.sparse &&
      parent.blake3 === entry.blake3;
    if (same) return parent.place;
    throw new LineError(`${displayPath(entry.path)} has sameData, but the parent has it not`);
  }

  /** Where block hashes and levels of a file are. */
  #extraOf(entry: ManifestEntry, match: boolean): Extra {
    const parent = this.#parent;
    if (entry.sameData) return parent?.extra ?? NO_EXTRA;
    const { blocks, delta, medium, dataOffset: offset, size, sparse } = entry;
    if (blocks === null && delta === null) return NO_EXTRA;
    const set = this.#options.ordinal;
    const list = blocks && { ...blocks, set, medium };
    if (delta === null) return { blockBytes: blocks?.blockBytes ?? 0, list, levels: [] };
    const { blockBytes, levels } = this.#extraBelow(entry, match);
    const { bytes, mapBytes } = delta;
    const level = { set, medium, offset, bytes, size, sparse, mapBytes };
    return { blockBytes, list, levels: [...levels, level] };
  }

  /** What the blocks of an entry stand on: the parent's data. */
  #extraBelow(entry: ManifestEntry, match: boolean): Extra {
    const parent = this.#parent;
    const say = (what: string) => new LineError(`${displayPath(entry.path)} is a delta, ${what}`);
    if (!match || parent?.type !== 'file') throw say('but the parent has no such file');
    const { extra } = parent;
    if (extra.list === null) throw say('but the parent has no hashes of its blocks');
    if (entry.blocks !== null && entry.blocks.blockBytes !== extra.blockBytes) {
      throw say('and its blocks have another size than those of the parent');
    }
    if (extra.levels.length >= LEVELS_MAX) throw say('but it stands on too many levels');
    if (extra.levels.length > 0) return extra;
    const { dataSet: set, dataMedium: medium, dataOffset: offset } = parent.place;
    const { stored: bytes, size, isSparse: sparse } = parent;
    return { ...extra, levels: [{ set, medium, offset, bytes, size, sparse, mapBytes: 0 }] };
  }

  remove(path: Buffer): void {
    if (!this.#advanceTo(path)) {
      throw new LineError(`${displayPath(path)} is deleted, but the parent has it not`);
    }
    this.#parent?.next();
  }

  /** The same of what the parent may not have; false if so. */
  removeIfThere(path: Buffer): boolean {
    const isThere = this.#advanceTo(path);
    if (isThere) this.#parent?.next();
    return isThere;
  }

  /** Copies what the parent has before `path`; true if the parent then stands at it. */
  #advanceTo(path: Buffer): boolean {
    if (this.#scanNs === null) this.begin(0n);
    if (this.#last !== null && compareWalk(this.#last, path) >= 0) {
      throw new LineError(`${displayPath(path)} comes twice, or not in the order of the walk`);
    }
    this.#last = path;
    const parent = this.#parent;
    if (parent === null) return false;
    while (parent.hasRecord) {
      if (parent.isAt(path)) return true;
      if (compareWalk(parent.path, path) > 0) return false;
      this.#copy(parent);
    }
    return false;
  }

  #copy(parent: TreeIndexReader): void {
    this.#write(parent.record);
    this.#entries++;
    parent.next();
  }

  /** Copies the rest and puts all of it on the disk. @throws EINVAL if the parent's is damaged */
  finish(): { entries: number; bytes: number; blake3: string } {
    if (this.#scanNs === null) this.begin(0n);
    const parent = this.#parent;
    while (parent?.hasRecord) this.#copy(parent);
    const expected = this.#options.parent?.blake3 ?? null;
    if (expected !== null && parent?.digest() !== expected) {
      const { name } = this.#parentFile as ByteFile;
      throw stpError('EINVAL', `${name} is damaged: its digest is another; make a full backup`);
    }
    this.#flush();
    const blake3 = this.#file.finish();
    return { entries: this.#entries, bytes: this.#file.bytes, blake3 };
  }

  #write(bytes: Buffer): void {
    this.#gathered.put(bytes);
    this.#flushIfFull();
  }

  #flushIfFull(): void {
    if (this.#gathered.length >= GATHER_BYTES) this.#flush();
  }

  #flush(): void {
    this.#file.put(this.#gathered.bytes.subarray(0, this.#gathered.length));
    this.#gathered.length = 0;
  }

  /** Harmless when done twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
    this.#parentFile?.close();
  }
}
