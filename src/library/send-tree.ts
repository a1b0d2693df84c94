/**
 * Backup, the client's side: a file tree becomes one stream of frames.
 *
 * What goes on the wire for each entry: send-member.ts. A small file costs one call of the addon
 * (open, fstat, flistxattr, read, fstat, close), and none of the stream. With further streams
 * (spread.ts) large files go through those; the walk, its order and all lines stay here. A file that
 * changed is read again, and what was sent of it is superseded; one that
 * changes each time, or is large, stays as it is, marked `changed` and reported.
 *
 * Incremental: the list of the parent (tree-index.ts) comes in the order of the walk, so both are
 * gone through once, side by side. What looks as it did is not mentioned; what looks different but
 * has the same data is sent without it; what the walk does not meet is a tombstone.
 *
 * Worker thread: all of it blocks.
 */
import { closeSync, readSync } from 'node:fs';
import { realtimeNs } from '../clock.js';
import { isCoded } from '../errors.js';
import { Selector } from '../source/exclude.js';
import {
  accessOf,
  isSameFile,
  type TreeEntry,
  TreeWalk,
  type TreeWarning,
} from '../source/file-tree.js';
import { compareWalk, PATH_BYTES_MAX } from '../source/names.js';
import type { Xattr } from '../source/xattrs.js';
import { listBytesOf } from './blocks.js';
import {
  encodeTotals,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_WARNING,
  type FrameWriter,
  LINES_BYTES_TARGET,
  type PageSink,
  type Totals,
} from './frames.js';
import { LEVELS_MAX } from './levels.js';
import { LineBuffer } from './line-buffer.js';
import type { PreviousTree } from './list-transfer.js';
import { DELTA_NAME_BYTES_MAX, encodeScan, encodeTombstone, encodeWarning } from './manifest.js';
import type { Content, KnownFile } from './send-delta.js';
import { isLastRead, MemberSender, type SourceNative } from './send-member.js';
import { type LaneResult, type Lanes, SPREAD_BYTES_MIN, Spread } from './spread.js';
import { TreeIndexReader } from './tree-index.js';

/**
 * A file with another mtime and the same size is read first, to see whether its data is the same: at
 * most this much, which is still in the page cache when it is read again.
 */
const COMPARE_BYTES_MAX = 64 << 20;

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
  /** Stored path of the only root, a file, where that is not its own. */
  readonly storedAs?: Buffer;
  /** The parent, for an incremental backup; asked on demand. */
  readonly previous?: (frames: FrameWriter) => PreviousTree;
  /** Of files from this size on only blocks that changed are sent; 0: never. */
  readonly deltaFrom?: number;
  /** Bytes of a block, where the files are databases: of a page. */
  readonly blockBytes?: number;
  /** Nothing but warnings and END is sent: what would be, by the looks of it. */
  readonly dryRun?: boolean;
  /** Further streams, for the data of large files. */
  readonly lanes?: Lanes;
  /** Number of the medium that this makes; lower ones are those of an interrupted backup. */
  readonly firstMedium?: number;
  /** Directories have the names that are in them, for tar, which then removes what is gone; default: with `previous`. */
  readonly isIncremental?: boolean;
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

/** Lines go at the latest behind so much data: without its line, data is nothing to resume from. */
const FLUSH_BYTES = 4 << 20;

const SLASH = Buffer.from('/');
const DOT = 0x2e;
/** Of a directory: its owner makes entries in it. */
const OWNER_MAY_WRITE = 0o300;

/** One character a byte. */
const keyOf = (path: Buffer): string => path.toString('latin1');

/** True if an open file is still what the walk saw. */
const sameFacts = (a: TreeEntry, b: TreeEntry): boolean =>
  a.ctimeNs === b.ctimeNs && a.mtimeNs === b.mtimeNs && a.size === b.size && a.mode === b.mode;

const isBelow = (path: Buffer, prefix: Buffer): boolean =>
  path.length > prefix.length && path.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;

/** A directory on the way to where the walk stands. */
interface OpenDirectory {
  readonly entry: TreeEntry;
  /** Of its path in the archive, with a slash behind; empty for `/` itself. */
  readonly prefix: Buffer;
  readonly xattrs: readonly Xattr[] | null;
  /** Its own is one of the media that were there before. */
  readonly isOlder: boolean;
  /** Something in it lies in a medium that tar reads behind the directory's own. */
  isSpread: boolean;
  /** Its member stands in this medium once more. */
  isAgain: boolean;
}

class TreeSender extends MemberSender {
  readonly #walk: TreeWalk;
  readonly #options: TransferOptions;
  readonly #spread: Spread | null;
  readonly #directories: OpenDirectory[] = [];
  readonly #scratch = Buffer.allocUnsafeSlow(1 << 18);
  readonly #lines = new LineBuffer();
  /** Lower media are there already. */
  readonly #isResumed: boolean;
  #parent: PreviousTree | null = null;
  #previous: TreeIndexReader | null = null;
  /** The clock went back since the parent's scan: what is older than it may be newer. */
  #trustsNothing = false;
  #bytesFlushed = 0;
  #entries = 0;
  #bytes = 0;
  #warnings = 0;

  constructor(sink: PageSink, roots: readonly (Buffer | string)[], options: TransferOptions) {
    const { native, progress = new Float64Array(2), lanes } = options;
    const { firstMedium = 0, deltaFrom, blockBytes } = options;
    super(sink, { medium: firstMedium, progress, native, deltaFrom, blockBytes });
    this.#options = options;
    this.#isResumed = (options.firstMedium ?? 0) > 0;
    this.#spread =
      lanes === undefined
        ? null
        : new Spread(lanes, {
            onLines: (lines) => this.#queue(lines),
            onResult: (result) => this.#onResult(result),
            onWait: () => {
              this.#flushLines();
              this.frames.flush();
            },
          });
    const onWarning = (warning: TreeWarning) => this.onWarning(warning);
    const { exclude = [], oneFileSystem = false, excludeCaches = false } = options.selection ?? {};
    const selector = new Selector(exclude);
    this.#walk = new TreeWalk(roots, {
      ...{ onWarning, selector, oneFileSystem, excludeCaches },
      storedAs: options.storedAs,
    });
  }

  run(): Totals {
    const scanNs = (this.#options.now ?? realtimeNs)();
    this.#openPrevious(scanNs);
    this.#addLine(encodeScan(scanNs));
    for (const entry of this.#walk) {
      this.#leaveTo(entry.path);
      this.#entry(entry);
    }
    this.#leaveTo(null);
    const previous = this.#previous;
    for (; previous?.hasRecord; previous.next()) this.#tombstone(previous.path);
    this.#spread?.finish();
    this.#flushLines();
    const totals = { entries: this.#entries, bytes: this.#bytes, warnings: this.#warnings };
    this.frames.frame(FRAME_END, encodeTotals(totals));
    this.frames.flush();
    return totals;
  }

  #openPrevious(scanNs: bigint): void {
    this.#parent = this.#options.previous?.(this.frames) ?? null;
    if (this.#parent === null) return;
    this.#previous = new TreeIndexReader('of the parent', this.#parent.fill);
    this.#trustsNothing = scanNs < this.#previous.scanNs;
    this.#previous.next();
  }

  #entry(entry: TreeEntry): void {
    const known = this.#advanceTo(entry.path);
    const isKept = known?.isKept === true;
    const parent = this.#directories.at(-1);
    if (known !== null && this.#isUnchanged(entry, known)) {
      known.next();
      this.progress[0] = (this.progress[0] as number) + 1;
      this.#enter(entry, isKept);
      return;
    }
    if (parent?.isOlder && this.#spread === null && !parent.isAgain && !this.#options.dryRun) {
      // Before what comes into it, and once more behind: tar makes some symlinks last of all, and
      // sets the times after these of directories only that it knew before them.
      this.sendAgain(parent.entry, parent.xattrs);
      parent.isAgain = true;
    }
    // The data of what an interrupted backup has is sent again, or it is kept as it is.
    const sent = this.#send(entry, isKept ? null : known);
    // What could not be opened is gone from this point of the tree, as it is from a full set.
    if (!sent && known !== null) this.#tombstone(entry.path);
    if (known !== null) known.next();
    if (sent && parent?.isOlder) parent.isSpread = true;
    if (sent && entry.nlink > 1 && this.#isResumed) this.#sentFirsts.add(keyOf(entry.path));
    this.#enter(entry, false);
  }
  /** First names of files that are not taken over: nor are their other names. */
  readonly #sentFirsts = new Set<string>();

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
    if (!known.looksLike(entry)) return false;
    if (known.isTrusted && !this.#trustsNothing) {
      return !known.isKept || entry.link === null || !this.#sentFirsts.has(keyOf(entry.link));
    }
    return known.isKept && this.#hasKeptData(entry, known);
  }

  /** A file of an interrupted backup whose times may lie: its digest does not. */
  #hasKeptData(entry: TreeEntry, known: TreeIndexReader): boolean {
    if (this.#options.dryRun || entry.type !== 'file' || entry.size === 0) return false;
    const before = { ...entry };
    const fd = this.#walk.open(entry);
    if (fd < 0) return false;
    try {
      // Attributes have no digest: where there are some, or were, all is sent again.
      const xattrs = this.xattrsOf(entry, fd) ?? [];
      if (known.hasXattrs || xattrs.length > 0) return false;
      if (!sameFacts(before, entry)) return false;
      return this.#isKnownData(entry, known, fd, this.contentOf(entry, fd));
    } finally {
      closeSync(fd);
    }
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
    if (known === null) {
      const isSent = this.sendSmall(entry, (header, headerBytes, view, at) =>
        this.#walk.readWhole(entry, header, headerBytes, view, at),
      );
      if (isSent) return true;
    }
    let blocks: KnownFile | null | undefined;
    for (let reads = 1; ; reads++) {
      const fd = this.#walk.open(entry);
      if (fd < 0) return false;
      let isMine = true;
      try {
        if (blocks === undefined) blocks = known && this.#blocksOf(entry, known);
        const isNew = known === null || reads > 1 || blocks !== null;
        if (!isNew && this.#sendSameData(entry, known, fd)) return true;
        if (reads === 1 && this.#giveAway(entry, fd, blocks)) {
          isMine = false;
          return true;
        }
        const isLast = isLastRead(reads, entry);
        const isSent =
          blocks === null
            ? this.sendFile(entry, fd, isLast)
            : this.sendDelta(entry, fd, isLast, blocks);
        if (isSent) return true;
      } finally {
        if (isMine) closeSync(fd);
      }
    }
  }

  #sendHeader(entry: TreeEntry): void {
    const { isIncremental = this.#previous !== null } = this.#options;
    const isListed = isIncremental && entry.type === 'directory';
    const dumpdir = isListed ? this.#walk.dumpdirOf(entry) : null;
    this.#sent = { entry, xattrs: this.sendHeader(entry, dumpdir) };
  }
  /** The last header without data, and the attributes that it went with. */
  #sent: Pick<OpenDirectory, 'entry' | 'xattrs'> | null = null;

  /** True if another stream takes the file: large, of one name, and where tar can put it later. */
  #giveAway(entry: TreeEntry, fd: number, known: KnownFile | null): boolean {
    const { nlink, size } = entry;
    if (this.#spread === null || nlink > 1 || size < SPREAD_BYTES_MIN) return false;
    const parent = this.#directories.at(-1);
    // Tar makes a directory as it is to be, and whoever is not root then puts nothing into it.
    if (parent !== undefined && (parent.entry.mode & OWNER_MAY_WRITE) !== OWNER_MAY_WRITE) {
      return false;
    }
    if (!this.#spread.giveFile(entry, fd, known)) return false;
    if (parent !== undefined) parent.isSpread = true;
    return true;
  }

  /** Directories that the walk has left: tar must set the times of some once more. */
  #leaveTo(path: Buffer | null): void {
    for (;;) {
      const last = this.#directories.at(-1);
      if (last === undefined || (path !== null && isBelow(path, last.prefix))) return;
      this.#directories.pop();
      if (!last.isSpread || this.#options.dryRun) continue;
      if (this.#spread !== null) this.#spread.giveDirectory(last.entry, last.xattrs);
      else this.sendAgain(last.entry, last.xattrs);
    }
  }

  #enter(entry: TreeEntry, isOlder: boolean): void {
    if (entry.type !== 'directory' || (this.#spread === null && !this.#isResumed)) return;
    const isTop = entry.path.length === 1 && entry.path[0] === DOT;
    const prefix = isTop ? Buffer.alloc(0) : Buffer.concat([entry.path, SLASH]);
    const sent = this.#sent;
    const xattrs = sent?.entry === entry ? sent.xattrs : this.xattrsOf(entry, accessOf(entry));
    this.#directories.push({ entry, prefix, xattrs, isOlder, isSpread: false, isAgain: false });
  }

  /**
   * Sends a file without its data if that is what the parent has: by its digest, since the times
   * say nothing (set back, or of the same tick, or another inode of a file system without numbers).
   */
  #sendSameData(entry: TreeEntry, known: TreeIndexReader, fd: number): boolean {
    if (known.type !== 'file' || known.size !== entry.size) return false;
    if (known.mtimeNs !== entry.mtimeNs && entry.size > COMPARE_BYTES_MAX) return false;
    const content = this.contentOf(entry, fd);
    if (!this.#isKnownData(entry, known, fd, content)) return false;
    this.sendLink(entry, fd, content, known.blake3);
    return true;
  }

  /** Reads all of it. */
  #isKnownData(entry: TreeEntry, known: TreeIndexReader, fd: number, content: Content): boolean {
    const { stored, map, segments } = content;
    if (known.isSparse !== (map !== null) || known.stored !== stored) return false;
    this.hasher.reset();
    if (map !== null) this.hasher.update(map);
    for (const { offset, bytes } of segments ?? [{ offset: 0, bytes: entry.size }]) {
      if (!this.#hashPart(fd, offset, bytes)) return false;
    }
    return this.hasher.digest('hex') === known.blake3 && isSameFile(entry, fd);
  }

  /**
   * The parent's hashes of a file's blocks; null if it is to be sent in full: there are none, it
   * stands on too many levels, or these are as large as the file by now.
   */
  #blocksOf(entry: TreeEntry, known: TreeIndexReader): KnownFile | null {
    const { type, size, stored, isSparse: sparse, blake3, extra } = known;
    if (type !== 'file' || entry.path.length > PATH_BYTES_MAX - DELTA_NAME_BYTES_MAX) return null;
    const { list, levels, blockBytes } = extra;
    if (list === null || levels.length >= LEVELS_MAX) return null;
    const deltaBytes = levels.slice(1).reduce((sum, { bytes }) => sum + bytes, 0);
    if (deltaBytes >= size || !this.fitsDelta(entry.size, blockBytes)) return null;
    const hashes = this.#parent?.blocks(list, listBytesOf(size, blockBytes)) ?? null;
    return hashes && { size, stored, sparse, blake3, blockBytes, hashes };
  }

  #hashPart(fd: number, offset: number, bytes: number): boolean {
    try {
      for (let at = 0; at < bytes; ) {
        const asked = Math.min(bytes - at, this.#scratch.length);
        const read = readSync(fd, this.#scratch, 0, asked, offset + at);
        if (read === 0) return false;
        this.hasher.update(this.#scratch.subarray(0, read));
        at += read;
      }
      return true;
    } catch (e) {
      // Sending it meets the same error, and knows what to do.
      if (isCoded(e)) return false;
      throw e;
    }
  }

  #onResult({ entries, bytes, warnings }: LaneResult): void {
    this.#entries += entries;
    this.#bytes += bytes;
    this.progress[0] = (this.progress[0] as number) + entries;
    for (const warning of warnings) this.onWarning(warning);
  }

  protected onLine(line: string, dataBytes: number, again: boolean): void {
    if (!again) this.#count(dataBytes);
    this.#addLine(line);
  }

  #count(bytes: number): void {
    this.#entries++;
    this.#bytes += bytes;
    this.progress[0] = (this.progress[0] as number) + 1;
  }

  #tombstone(path: Buffer): void {
    if (!this.#options.dryRun) this.#addLine(encodeTombstone(path));
  }

  #addLine(line: string): void {
    if (this.#options.dryRun) return;
    if (this.#spread === null) this.#queue(line);
    else this.#spread.addLine(line);
  }

  /** Any number of lines: no frame holds many more than its target. */
  #queue(lines: string): void {
    for (let start = 0; start < lines.length; ) {
      const newline = lines.indexOf('\n', start + LINES_BYTES_TARGET);
      const end = newline < 0 ? lines.length : newline + 1;
      const some = lines.slice(start, end);
      if (!this.#lines.hasRoomFor(some)) this.#flushLines();
      this.#lines.put(some);
      this.#flushIfDue();
      start = end;
    }
  }

  protected override onSmall(
    entry: TreeEntry,
    headerOffset: number,
    dataOffset: number,
    digest: string,
  ): void {
    if (this.#spread !== null) {
      super.onSmall(entry, headerOffset, dataOffset, digest);
      return;
    }
    this.#count(entry.size);
    this.#lines.putFile(entry, headerOffset, dataOffset, digest);
    this.#flushIfDue();
  }

  #flushIfDue(): void {
    const isDue = this.#bytes - this.#bytesFlushed >= FLUSH_BYTES;
    if (isDue || this.#lines.length >= LINES_BYTES_TARGET) this.#flushLines();
  }

  #flushLines(): void {
    this.#bytesFlushed = this.#bytes;
    const { bytes, length } = this.#lines;
    if (length === 0) return;
    this.frames.frame(FRAME_ENTRY, bytes, length);
    this.#lines.clear();
  }

  protected onWarning(warning: TreeWarning): void {
    this.#warnings++;
    const { path, code, message } = warning;
    this.frames.frame(FRAME_WARNING, Buffer.from(encodeWarning(Buffer.from(path), code, message)));
    this.#options.onWarning?.(warning);
  }
}
