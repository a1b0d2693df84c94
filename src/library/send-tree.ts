/**
 * Backup, the client's side: a file tree becomes one stream of frames.
 *
 * A file's bytes go file to page (read(2)) and are hashed there; nothing of them is copied again. A
 * small file costs one call of the addon (open, fstat, flistxattr, read, fstat, close), and none of the
 * stream. The header announces
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
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { realtimeNs } from '../clock.js';
import { isCoded, stpError } from '../errors.js';
import { Selector } from '../source/exclude.js';
import { accessOf, type TreeEntry, TreeWalk, type TreeWarning } from '../source/file-tree.js';
import { compareWalk, displayPath } from '../source/names.js';
import {
  type DataSegments,
  encodeSparseMap,
  isSparse,
  type Segment,
  segmentsOf,
} from '../source/sparse.js';
import { XATTRS_BYTES_MAX, type Xattr, xattrsOf } from '../source/xattrs.js';
import {
  encodeTotals,
  FileReadError,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_WARNING,
  FrameWriter,
  LINE_BYTES_MAX,
  LINES_BYTES_TARGET,
  type PageSink,
  type Totals,
} from './frames.js';
import {
  BLAKE3_EMPTY,
  encodeEntry,
  encodeScan,
  encodeTombstone,
  encodeWarning,
  type RareFacts,
} from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';
import { type FillList, TreeIndexReader } from './tree-index.js';

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

/** Larger ones seldom fit what is left of a page. */
const SMALL_BYTES_MAX = 48 << 10;

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
  /** The parent's list, for an incremental backup; reads on demand. */
  readonly previous?: (frames: FrameWriter) => FillList;
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

interface Content {
  /** Bytes that stand for the data: `size`, or map and segments. */
  readonly stored: number;
  readonly segments: readonly Segment[] | null;
  readonly map: Buffer | null;
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
  #previous: TreeIndexReader | null = null;
  /** The clock went back since the parent's scan: what is older than it may be newer. */
  #trustsNothing = false;
  #lines = '';
  #mediaBytes = 0;
  #entries = 0;
  #bytes = 0;
  #warnings = 0;

  constructor(sink: PageSink, roots: readonly (Buffer | string)[], options: TransferOptions) {
    this.#frames = new FrameWriter(sink);
    this.#options = options;
    this.#progress = options.progress ?? new Float64Array(2);
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
    const fill = this.#options.previous?.(this.#frames);
    if (fill === undefined) return;
    this.#previous = new TreeIndexReader('of the parent', fill);
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
    if (known === null && this.#sendSmall(entry)) return true;
    for (let reads = 1; ; reads++) {
      const fd = this.#walk.open(entry);
      if (fd < 0) return false;
      try {
        if (known !== null && reads === 1 && this.#sendSameData(entry, known, fd)) return true;
        const isLast = reads === READS_MAX || entry.size > AGAIN_BYTES_MAX;
        if (this.#sendFile(entry, fd, isLast)) return true;
      } finally {
        closeSync(fd);
      }
    }
  }

  /** The common case, in one call: header and data fit a page, and nothing about it is unusual. */
  #sendSmall(entry: TreeEntry): boolean {
    const { size } = entry;
    if (size > SMALL_BYTES_MAX || isSparse(size, entry.blocks)) return false;
    const headerBytes = this.#headers.write(entry);
    this.#hasher.reset();
    const sent = this.#frames.putMember(
      this.#headers.buffer.subarray(0, headerBytes),
      size,
      (view, at) => this.#walk.readWhole(entry, view, at),
      this.#hasher,
    );
    if (!sent) return false;
    this.#headerBytes = headerBytes;
    this.#progress[1] = (this.#progress[1] as number) + size;
    this.#line(entry, size, this.#hasher.digest('hex'), false, null);
    return true;
  }

  #sendHeader(entry: TreeEntry): void {
    const xattrs = entry.type === 'hardlink' ? null : this.#xattrsOf(entry, accessOf(entry));
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
    const xattrs = this.#xattrsOf(entry, fd);
    // A link of a file to itself: GNU tar leaves the file as it is.
    this.#member({ ...entry, type: 'hardlink', link: entry.path, size: 0 }, 0);
    const sparse = map !== null ? { sparse: true, stored } : {};
    this.#line(entry, 0, digest, false, { sameData: true, ...sparse, xattrs });
    return true;
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
    const failure = this.#moveAll(fd, segments ?? [{ offset: 0, bytes: size }]);
    this.#frames.putZeros(this.#frames.owed - (paddedBytes(stored) - stored), this.#hasher);
    this.#frames.putZeros(this.#frames.owed);
    const changed = failure === null && !this.#walk.isSame(entry, fd);
    const again = changed && !isLast;
    if (failure !== null) this.#warnUnreadable(entry, failure);
    else if (changed && isLast) this.#walk.reportChanged(entry);
    const rare: RareFacts = {
      ...(map !== null && { sparse: true, stored }),
      superseded: again,
      xattrs,
    };
    this.#line(entry, stored, this.#hasher.digest('hex'), failure !== null || changed, rare);
    return !again;
  }

  /** Returns the code of a read error, null if the data or the end of the file was reached. */
  #moveAll(fd: number, segments: readonly Segment[]): string | null {
    try {
      for (const { offset, bytes } of segments) {
        if (!this.#moveData(fd, offset, bytes)) break;
      }
      return null;
    } catch (e) {
      if (e instanceof FileReadError) return e.code;
      throw e;
    }
  }

  /** False at the end of the file. */
  #moveData(fd: number, offset: number, bytes: number): boolean {
    const progress = this.#progress;
    for (let at = 0; at < bytes; ) {
      const asked = Math.min(bytes - at, SLICE_BYTES);
      const moved = this.#frames.putFile(fd, offset + at, asked, this.#hasher);
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
