/**
 * Backup, the client's side: a file tree becomes one stream of frames.
 *
 * A file's bytes go file to page (read(2)) and are hashed there; nothing of them is copied again. A
 * small file costs open, fstat, read, fstat, close and no call of the stream. The header announces
 * the size that fstat gave: a file that shrinks or fails meanwhile is filled up with zeros; one that
 * grows is cut. A file that changed is read again, and what was sent of it is superseded; one that
 * changes each time, or is large, stays as it is, marked `changed` and reported.
 *
 * Incremental: the list of the parent (tree-index.ts) comes in the order of the walk, so both are
 * gone through once, side by side. What looks as it did is not mentioned; what looks different but
 * has the same data is sent without it; what the walk does not meet is a tombstone.
 *
 * Worker thread: all of it blocks.
 */
import { closeSync, readSync } from 'node:fs';
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { realtimeNs } from '../clock.js';
import { isCoded, stpError } from '../errors.js';
import { Selector } from '../source/exclude.js';
import { type TreeEntry, TreeWalk, type TreeWarning } from '../source/file-tree.js';
import { compareWalk, displayPath, PATH_BYTES_MAX } from '../source/names.js';
import { type DataSegments, encodeSparseMap, type Segment, segmentsOf } from '../source/sparse.js';
import { XATTRS_BYTES_MAX, type Xattr, xattrsOf } from '../source/xattrs.js';
import {
  BLOCKS_MAX,
  type BlockList,
  BlockLister,
  blockBytesFor,
  blocksOf,
  DELTA_FROM_DEFAULT,
  listBytesOf,
} from './blocks.js';
import {
  type Digest,
  encodeTotals,
  FileReadError,
  FRAME_BLOCKS,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_WARNING,
  FrameWriter,
  LINE_BYTES_MAX,
  LINES_BYTES_TARGET,
  type PageSink,
  type Totals,
} from './frames.js';
import { LEVELS_MAX } from './levels.js';
import type { PreviousTree } from './list-transfer.js';
import {
  BLAKE3_EMPTY,
  DELTA_NAME_BYTES_MAX,
  encodeEntry,
  encodeScan,
  encodeTombstone,
  encodeWarning,
  type RareFacts,
} from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';
import { type Content, DeltaSender, type KnownBlocks } from './send-delta.js';
import { TreeIndexReader } from './tree-index.js';

/** Large files report progress this often. */
const SLICE_BYTES = 8 << 20;
/** A file that changed while it was read is read again so often, ... */
const READS_MAX = 3;
/** ... if it is not larger: each reading stands in the media. */
const AGAIN_BYTES_MAX = 64 << 20;
/**
 * A file with another mtime and the same size is read first, to see whether its data is the same: at
 * most this much, which is still in the page cache when it is read again.
 */
const COMPARE_BYTES_MAX = 64 << 20;

/** Of a manifest line, beside two paths with every byte escaped. */
const XATTRS_LINE_BYTES_MAX = LINE_BYTES_MAX - 220 * 1024;

/** What Node lacks: from the addon. */
export interface SourceNative {
  readonly getXattrs: (fdOrPath: number | Buffer, bytesMax: number) => Buffer[] | null;
  readonly dataSegments: DataSegments;
}

/** What of the roots is sent. */
export interface TreeSelection {
  /** As in .gitignore, from `/` on. */
  readonly exclude?: readonly string[];
  readonly oneFileSystem?: boolean;
  readonly excludeCaches?: boolean;
}

export interface TransferOptions {
  /** Kept up to date for another thread to show: [entries, bytes of data]. */
  readonly progress?: Float64Array;
  /** Also told of each warning, which the stream carries anyway. */
  readonly onWarning?: (warning: TreeWarning) => void;
  /** Without it there are neither attributes nor holes. */
  readonly native?: SourceNative;
  readonly selection?: TreeSelection;
  /** The parent, for an incremental backup; asked on demand. */
  readonly previous?: (frames: FrameWriter) => PreviousTree;
  /** Of files from this size on only blocks that changed are sent; 0: never. */
  readonly deltaFrom?: number;
  /** Nothing but warnings and END is sent: what would be, by the looks of it. */
  readonly dryRun?: boolean;
  /** Nanoseconds since 1970. */
  readonly now?: () => bigint;
}

/**
 * Sends all of `roots` (real paths, see confine.ts), then END, and flushes; the caller shuts the
 * stream down.
 * @throws ENOENT, EACCES for a root; EINVAL for a pattern or a damaged list; what the stream throws
 */
export function sendTree(
  sink: PageSink,
  roots: readonly (Buffer | string)[],
  options: TransferOptions = {},
): Totals {
  return new TreeSender(sink, roots, options).run();
}

/** A file whose data has gone. */
interface SentFile {
  readonly digest: string;
  /** Code of a read error. */
  readonly failure: string | null;
  /** In the media, behind the first header. */
  readonly dataBytes: number;
  /** Hashes of its blocks. */
  readonly list: Buffer | null;
  readonly blockBytes: number;
  readonly rare: RareFacts;
}

/** With every byte of a name escaped, base64 of the values, and what stands around them. */
function fitsLine(xattrs: readonly Xattr[]): boolean {
  let bytes = 0;
  for (const { name, value } of xattrs) bytes += 6 * name.length + (value.length * 4) / 3 + 32;
  return bytes <= XATTRS_LINE_BYTES_MAX;
}

class TreeSender {
  readonly #frames: FrameWriter;
  readonly #walk: TreeWalk;
  readonly #options: TransferOptions;
  readonly #progress: Float64Array;
  readonly #headers = new TarHeaderWriter();
  readonly #hasher = new Blake3Hasher();
  readonly #scratch = Buffer.allocUnsafeSlow(1 << 18);
  readonly #lineBytes = Buffer.allocUnsafeSlow(LINE_BYTES_MAX + LINES_BYTES_TARGET);
  readonly #lister = new BlockLister();
  readonly #deltas: DeltaSender;
  readonly #both: Digest;
  #parent: PreviousTree | null = null;
  #previous: TreeIndexReader | null = null;
  /** The clock went back since the parent's scan: what is older than it may be newer. */
  #trustsNothing = false;
  #lines = '';
  #mediaBytes = 0;
  /** Of block lists. */
  #listsBytes = 0;
  #entries = 0;
  #bytes = 0;
  #warnings = 0;

  constructor(sink: PageSink, roots: readonly (Buffer | string)[], options: TransferOptions) {
    this.#frames = new FrameWriter(sink);
    this.#options = options;
    this.#progress = options.progress ?? new Float64Array(2);
    this.#deltas = new DeltaSender(this.#frames, this.#headers, this.#progress);
    this.#both = {
      update: (bytes) => {
        this.#hasher.update(bytes);
        this.#lister.update(bytes);
      },
    };
    const onWarning = (warning: TreeWarning) => {
      this.#warn(warning);
      options.onWarning?.(warning);
    };
    const { exclude = [], oneFileSystem = false, excludeCaches = false } = options.selection ?? {};
    const selector = new Selector(exclude);
    this.#walk = new TreeWalk(roots, { onWarning, selector, oneFileSystem, excludeCaches });
  }

  run(): Totals {
    const scanNs = (this.#options.now ?? realtimeNs)();
    this.#openPrevious(scanNs);
    this.#addLine(encodeScan(scanNs));
    for (const entry of this.#walk) this.#entry(entry);
    const previous = this.#previous;
    for (; previous?.hasRecord; previous.next()) this.#tombstone(previous.path);
    this.#flushLines();
    const totals = { entries: this.#entries, bytes: this.#bytes, warnings: this.#warnings };
    this.#frames.frame(FRAME_END, encodeTotals(totals));
    this.#frames.flush();
    return totals;
  }

  #openPrevious(scanNs: bigint): void {
    this.#parent = this.#options.previous?.(this.#frames) ?? null;
    if (this.#parent === null) return;
    this.#previous = new TreeIndexReader('of the parent', this.#parent.fill);
    this.#trustsNothing = scanNs < this.#previous.scanNs;
    this.#previous.next();
  }

  #entry(entry: TreeEntry): void {
    const known = this.#advanceTo(entry.path);
    if (known !== null && this.#isUnchanged(entry, known)) {
      known.next();
      this.#progress[0] = (this.#progress[0] as number) + 1;
      return;
    }
    const sent = this.#send(entry, known);
    // What could not be opened is gone from this point of the tree, as it is from a full set.
    if (!sent && known !== null) this.#tombstone(entry.path);
    if (known !== null) known.next();
  }

  /** Tombstones for what the parent has before `path`; the list, if it then stands at it. */
  #advanceTo(path: Buffer): TreeIndexReader | null {
    const previous = this.#previous;
    while (previous?.hasRecord) {
      if (previous.isAt(path)) return previous;
      if (compareWalk(previous.path, path) > 0) return null;
      this.#tombstone(previous.path);
      previous.next();
    }
    return null;
  }

  #isUnchanged(entry: TreeEntry, known: TreeIndexReader): boolean {
    return known.isTrusted && !this.#trustsNothing && known.looksLike(entry);
  }

  /** False if the entry is not in the backup after all; a warning said why. */
  #send(entry: TreeEntry, known: TreeIndexReader | null): boolean {
    if (this.#options.dryRun) {
      this.#count(entry.size);
      return true;
    }
    if (entry.type !== 'file' || entry.size === 0) {
      this.#sendHeader(entry);
      return true;
    }
    let blocks: KnownBlocks | null | undefined;
    for (let reads = 1; ; reads++) {
      const fd = this.#walk.open(entry);
      if (fd < 0) return false;
      try {
        const isLast = reads === READS_MAX || entry.size > AGAIN_BYTES_MAX;
        if (blocks === undefined) blocks = known && this.#blocksOf(entry, known);
        if (known !== null && blocks !== null && this.#fits(entry.size, blocks.blockBytes)) {
          if (this.#sendDelta(entry, known, blocks, fd, isLast)) return true;
          continue;
        }
        if (known !== null && reads === 1 && this.#sendSameData(entry, known, fd)) return true;
        if (this.#sendFile(entry, fd, isLast)) return true;
      } finally {
        closeSync(fd);
      }
    }
  }

  #sendHeader(entry: TreeEntry): void {
    const xattrs = entry.type === 'hardlink' ? null : this.#xattrsOf(entry, entry.access);
    const isListed = this.#previous !== null && entry.type === 'directory';
    const dumpdir = isListed ? this.#walk.dumpdirOf(entry) : null;
    this.#member({ ...entry, xattrs, dumpdir }, 0);
    const digest = entry.type === 'file' ? BLAKE3_EMPTY : null;
    this.#line(entry, 0, digest, false, xattrs === null ? null : { xattrs });
  }

  /** The header of a member; `#line` then follows. Returns after the frame is begun. */
  #member(member: Parameters<TarHeaderWriter['write']>[0], dataBytes: number): void {
    const headerBytes = this.#headers.write(member);
    this.#headerBytes = headerBytes;
    this.#frames.beginMedia(headerBytes + paddedBytes(dataBytes));
    this.#frames.put(this.#headers.buffer, 0, headerBytes);
  }
  #headerBytes = 0;

  #xattrsOf(entry: TreeEntry, place: number | Buffer): Xattr[] | null {
    const { native } = this.#options;
    if (native === undefined) return null;
    try {
      const found = xattrsOf(native.getXattrs(place, XATTRS_BYTES_MAX));
      if (found === null || fitsLine(found)) return found;
      throw stpError('E2BIG', 'the attributes do not fit a line of the manifest');
    } catch (e) {
      // What vanished meanwhile is noticed elsewhere.
      if (!isCoded(e)) throw e;
      const message = `the attributes of /${displayPath(entry.path)} are not stored: ${e.code}`;
      this.#warnBoth({ path: entry.path, code: e.code, message });
      return null;
    }
  }

  #contentOf(entry: TreeEntry, fd: number): Content {
    const { native } = this.#options;
    const { size, blocks } = entry;
    const segments = native ? segmentsOf(fd, size, blocks, native.dataSegments) : null;
    if (segments === null) return { stored: size, segments: null, map: null };
    const map = encodeSparseMap(segments, size);
    const stored = segments.reduce((sum, { bytes }) => sum + bytes, map.length);
    return { stored, segments, map };
  }

  /**
   * Sends a file without its data if that is what the parent has: by its digest, since the times
   * say nothing (set back, or of the same tick, or another inode of a file system without numbers).
   */
  #sendSameData(entry: TreeEntry, known: TreeIndexReader, fd: number): boolean {
    if (known.type !== 'file' || known.size !== entry.size) return false;
    if (known.mtimeNs !== entry.mtimeNs && entry.size > COMPARE_BYTES_MAX) return false;
    const content = this.#contentOf(entry, fd);
    const { stored, map, segments } = content;
    if (known.isSparse !== (map !== null) || known.stored !== stored) return false;
    this.#hasher.reset();
    if (map !== null) this.#hasher.update(map);
    for (const { offset, bytes } of segments ?? [{ offset: 0, bytes: entry.size }]) {
      if (!this.#hashPart(fd, offset, bytes)) return false;
    }
    const digest = this.#hasher.digest('hex');
    if (digest !== known.blake3 || !this.#walk.isSame(entry, fd)) return false;
    this.#sendLink(entry, fd, content, digest);
    return true;
  }

  /** Metadata alone: a link of a file to itself; GNU tar leaves the file as it is. */
  #sendLink(entry: TreeEntry, fd: number, { map, stored }: Content, digest: string): void {
    const xattrs = this.#xattrsOf(entry, fd);
    this.#member({ ...entry, type: 'hardlink', link: entry.path, size: 0 }, 0);
    const sparse = map !== null ? { sparse: true, stored } : {};
    this.#line(entry, 0, digest, false, { sameData: true, ...sparse, xattrs });
  }

  /** True if a file of this size goes by blocks of this one. */
  #fits(size: number, blockBytes: number): boolean {
    const { deltaFrom = DELTA_FROM_DEFAULT } = this.#options;
    const isLarge = deltaFrom > 0 && size >= deltaFrom;
    return isLarge && blockBytes > 0 && blocksOf(size, blockBytes) <= BLOCKS_MAX;
  }

  /**
   * The parent's hashes of a file's blocks; null if it is to be sent in full: there are none, it
   * stands on too many levels, or they are as large as the file by now.
   */
  #blocksOf(entry: TreeEntry, known: TreeIndexReader): KnownBlocks | null {
    if (known.type !== 'file' || entry.path.length > PATH_BYTES_MAX - DELTA_NAME_BYTES_MAX) {
      return null;
    }
    const { list, levels } = known.extra;
    if (list === null || levels.length >= LEVELS_MAX) return null;
    const deltaBytes = levels.slice(1).reduce((sum, { bytes }) => sum + bytes, 0);
    if (deltaBytes >= known.size || !this.#fits(entry.size, list.blockBytes)) return null;
    const bytes = listBytesOf(known.size, list.blockBytes);
    const hashes = this.#parent?.blocks(list, bytes) ?? null;
    return hashes && { blockBytes: list.blockBytes, hashes };
  }

  /** Sends the blocks that changed; false if the file changed meanwhile and is to be read again. */
  #sendDelta(
    entry: TreeEntry,
    known: TreeIndexReader,
    blocks: KnownBlocks,
    fd: number,
    isLast: boolean,
  ): boolean {
    const content = this.#contentOf(entry, fd);
    const { map, stored } = content;
    const isSame = (digest: string): boolean =>
      known.size === entry.size &&
      known.stored === stored &&
      known.isSparse === (map !== null) &&
      known.blake3 === digest &&
      this.#walk.isSame(entry, fd);
    const sent = this.#deltas.send(entry, fd, content, blocks, isSame);
    if (sent.delta === null) {
      this.#sendLink(entry, fd, content, sent.blake3);
      return true;
    }
    this.#headerBytes = sent.headerBytes;
    return this.#finishFile(entry, fd, isLast, {
      digest: sent.blake3,
      failure: sent.failure,
      dataBytes: sent.delta.bytes,
      list: sent.list,
      blockBytes: blocks.blockBytes,
      rare: {
        ...(map !== null && { sparse: true, stored }),
        delta: sent.delta,
        xattrs: this.#xattrsOf(entry, fd),
      },
    });
  }

  #hashPart(fd: number, offset: number, bytes: number): boolean {
    try {
      for (let at = 0; at < bytes; ) {
        const asked = Math.min(bytes - at, this.#scratch.length);
        const read = readSync(fd, this.#scratch, 0, asked, offset + at);
        if (read === 0) return false;
        this.#hasher.update(this.#scratch.subarray(0, read));
        at += read;
      }
      return true;
    } catch (e) {
      // Sending it meets the same error, and knows what to do.
      if (isCoded(e)) return false;
      throw e;
    }
  }

  /** Sends header and data; false if it changed meanwhile and is to be read again. */
  #sendFile(entry: TreeEntry, fd: number, isLast: boolean): boolean {
    const { size } = entry;
    const { stored, map, segments } = this.#contentOf(entry, fd);
    const xattrs = this.#xattrsOf(entry, fd);
    const sparse = map !== null ? { size: stored, sparseBytes: size } : {};
    this.#member({ ...entry, xattrs, ...sparse }, stored);
    this.#hasher.reset();
    if (map !== null) {
      this.#hasher.update(map);
      this.#frames.put(map, 0, map.length);
    }
    const blockBytes = blockBytesFor(size);
    const listed = this.#fits(size, blockBytes) ? blockBytes : 0;
    const failure = this.#moveAll(fd, segments ?? [{ offset: 0, bytes: size }], size, listed);
    const padding = paddedBytes(stored) - stored;
    const isWhole = this.#frames.owed === padding;
    this.#frames.putZeros(this.#frames.owed - padding, this.#hasher);
    this.#frames.putZeros(padding);
    return this.#finishFile(entry, fd, isLast, {
      digest: this.#hasher.digest('hex'),
      failure,
      dataBytes: stored,
      list: listed > 0 && isWhole ? this.#lister.finish() : null,
      blockBytes,
      rare: { ...(map !== null && { sparse: true, stored }), xattrs },
    });
  }

  /** The line of a file whose data is sent; false if that is superseded: it is to be read again. */
  #finishFile(entry: TreeEntry, fd: number, isLast: boolean, sent: SentFile): boolean {
    const { digest, failure, dataBytes, list, blockBytes, rare } = sent;
    const again = failure === null && !isLast && !this.#walk.isSame(entry, fd);
    if (failure !== null) this.#warnUnreadable(entry, failure);
    const whole = failure === null && (again || this.#walk.isUnchanged(entry, fd));
    const blocks = again || list === null ? null : this.#sendList(list, blockBytes);
    const facts = { ...rare, superseded: again, blocks };
    this.#line(entry, dataBytes, digest, !whole || again, facts);
    return !again;
  }

  #sendList(list: Buffer, blockBytes: number): BlockList {
    this.#frames.frame(FRAME_BLOCKS, list);
    const offset = this.#listsBytes;
    this.#listsBytes += list.length;
    return { blockBytes, offset, blake3: blake3(list).toString('hex') };
  }

  /**
   * Returns the code of a read error, null if the data or the end of the file was reached.
   * @param blockBytes with it the lister gets all bytes, holes included
   */
  #moveAll(
    fd: number,
    segments: readonly Segment[],
    size: number,
    blockBytes: number,
  ): string | null {
    const lister = blockBytes > 0 ? this.#lister : null;
    lister?.begin(size, blockBytes);
    const digest = lister === null ? this.#hasher : this.#both;
    try {
      for (const { offset, bytes } of segments) {
        lister?.skipTo(offset);
        if (!this.#moveData(fd, offset, bytes, digest)) return null;
      }
      lister?.skipTo(size);
      return null;
    } catch (e) {
      if (e instanceof FileReadError) return e.code;
      throw e;
    }
  }

  /** False at the end of the file. */
  #moveData(fd: number, offset: number, bytes: number, digest: Digest): boolean {
    const progress = this.#progress;
    for (let at = 0; at < bytes; ) {
      const asked = Math.min(bytes - at, SLICE_BYTES);
      const moved = this.#frames.putFile(fd, offset + at, asked, digest);
      at += moved;
      progress[1] = (progress[1] as number) + moved;
      if (moved < asked) return false;
    }
    return true;
  }

  #warnUnreadable(entry: TreeEntry, code: string): void {
    const message = `/${displayPath(entry.path)} could not be read to its end; zeros stand for the rest`;
    this.#warn({ path: entry.path, code, message });
  }

  #line(
    entry: TreeEntry,
    dataBytes: number,
    blake3: string | null,
    changed: boolean,
    rare: RareFacts | null,
  ): void {
    const headerOffset = this.#mediaBytes;
    const dataOffset = headerOffset + this.#headerBytes;
    this.#mediaBytes = dataOffset + paddedBytes(dataBytes);
    this.#count(dataBytes);
    this.#addLine(encodeEntry(entry, headerOffset, dataOffset, blake3, changed, rare));
  }

  #count(bytes: number): void {
    this.#entries++;
    this.#bytes += bytes;
    this.#progress[0] = (this.#progress[0] as number) + 1;
  }

  #tombstone(path: Buffer): void {
    if (!this.#options.dryRun) this.#addLine(encodeTombstone(path));
  }

  #addLine(line: string): void {
    if (this.#options.dryRun) return;
    this.#lines += line;
    if (this.#lines.length >= LINES_BYTES_TARGET) this.#flushLines();
  }

  #flushLines(): void {
    if (this.#lines === '') return;
    const bytes = this.#lineBytes.write(this.#lines);
    assert(bytes < this.#lineBytes.length, 'lines fit their frame');
    this.#frames.frame(FRAME_ENTRY, this.#lineBytes, bytes);
    this.#lines = '';
  }

  #warnBoth(warning: TreeWarning): void {
    this.#warn(warning);
    this.#options.onWarning?.(warning);
  }

  #warn(warning: TreeWarning): void {
    this.#warnings++;
    const { path, code, message } = warning;
    this.#frames.frame(FRAME_WARNING, Buffer.from(encodeWarning(path, code, message)));
  }
}
