/**
 * One medium as it is sent: members into one stream, and a manifest line for each.
 *
 * A file's bytes go file to page (read(2)) and are hashed there; nothing of them is copied again. A
 * small one is a call of the addon in whole.
 * The header announces the size that fstat gave: a file that shrinks or fails meanwhile is filled up
 * with zeros; one that grows is cut. Whoever extends this says what becomes of lines and warnings.
 *
 * Worker thread: all of it blocks.
 */
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import { isCoded, stpError } from '../errors.js';
import {
  accessOf,
  changedWarning,
  isSameFile,
  type TreeEntry,
  type TreeWarning,
} from '../source/file-tree.js';
import { displayPath } from '../source/names.js';
import {
  type DataSegments,
  encodeSparseMap,
  isSparse,
  type Segment,
  segmentsOf,
} from '../source/sparse.js';
import { XATTRS_BYTES_MAX, type Xattr, xattrsOf } from '../source/xattrs.js';
import {
  BLOCKS_MAX,
  type BlockList,
  BlockLister,
  blockBytesFor,
  blocksOf,
  DELTA_FROM_DEFAULT,
} from './blocks.js';
import {
  type Digest,
  FileReadError,
  FRAME_BLOCKS,
  FrameWriter,
  LINE_BYTES_MAX,
  type PageSink,
} from './frames.js';
import { BLAKE3_EMPTY, encodeEntry, isLargeData, type RareFacts } from './manifest.js';
import { paddedBytes, TAR_HEADER_BYTES, TarHeaderWriter } from './pax.js';
import { type Content, DeltaSender, type KnownFile } from './send-delta.js';

/** Large files report progress this often. */
const SLICE_BYTES = 8 << 20;
/** A file that changed while it was read is read again so often, ... */
const READS_MAX = 3;
/** ... if it is not larger: each reading stands in the media. */
const AGAIN_BYTES_MAX = 64 << 20;

/** Larger ones are read page by page: a call more is nothing beside so much data. */
const SMALL_BYTES_MAX = 256 << 10;

/** Of a manifest line, beside two paths with every byte escaped. */
const XATTRS_LINE_BYTES_MAX = LINE_BYTES_MAX - 220 * 1024;

/** What Node lacks: from the addon. */
export interface SourceNative {
  readonly getXattrs: (fdOrPath: number | Buffer, bytesMax: number) => Buffer[] | null;
  readonly dataSegments: DataSegments;
}

export interface MediumOptions {
  /** Its number. */
  readonly medium: number;
  /** Kept up to date for another thread to show: [entries, bytes of data]. */
  readonly progress: Float64Array;
  /** Without it there are neither attributes nor holes. */
  readonly native?: SourceNative | undefined;
  /** Files from this size on have block hashes, and go as deltas; 0: none. */
  readonly deltaFrom?: number | undefined;
  /** Bytes of a block of a new list, where the file has pages; see `blockBytesFor`. */
  readonly blockBytes?: number | undefined;
}

/** `TreeWalk.readWhole` of one entry. */
type ReadWhole = (header: Uint8Array, headerBytes: number, view: Uint8Array, at: number) => boolean;

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

/** True if a file that changes while it is read for the n-th time stays as it is. */
export const isLastRead = (reads: number, entry: TreeEntry): boolean =>
  reads === READS_MAX || entry.size > AGAIN_BYTES_MAX;

export abstract class MemberSender {
  protected readonly frames: FrameWriter;
  protected readonly hasher = new Blake3Hasher();
  protected readonly progress: Float64Array;
  readonly #headers = new TarHeaderWriter();
  readonly #native: SourceNative | undefined;
  readonly #medium: number;
  readonly #deltaFrom: number;
  readonly #blockBytes: number | undefined;
  readonly #lister = new BlockLister();
  readonly #deltas: DeltaSender;
  /** Hashes of the file and of its blocks. */
  readonly #both: Digest;
  /** Where members of small files are made that do not fit the page. */
  readonly #aside = Buffer.allocUnsafeSlow(SMALL_BYTES_MAX + TAR_HEADER_BYTES);
  /** Of this medium, so far. */
  protected mediaBytes = 0;
  /** Of block hashes that were sent for it. */
  #listsBytes = 0;
  #headerBytes = 0;

  constructor(sink: PageSink, options: MediumOptions) {
    this.frames = new FrameWriter(sink);
    this.#medium = options.medium;
    this.#native = options.native;
    this.progress = options.progress;
    this.#deltaFrom = options.deltaFrom ?? DELTA_FROM_DEFAULT;
    this.#blockBytes = options.blockBytes;
    this.#deltas = new DeltaSender(this.frames, this.#headers, this.progress);
    this.#both = {
      update: (bytes) => {
        this.hasher.update(bytes);
        this.#lister.update(bytes);
      },
    };
  }

  /**
   * The line of a member, whose bytes have gone; with the bytes of data that stand behind it.
   * @param again it is no entry of its own
   */
  protected abstract onLine(line: string, dataBytes: number, again: boolean): void;
  protected abstract onWarning(warning: TreeWarning): void;

  /** A member without data; returns the attributes that it went with. */
  protected sendHeader(entry: TreeEntry, dumpdir: Buffer | null): Xattr[] | null {
    const xattrs = entry.type === 'hardlink' ? null : this.xattrsOf(entry, accessOf(entry));
    this.member({ ...entry, xattrs, dumpdir }, 0);
    const digest = entry.type === 'file' ? BLAKE3_EMPTY : null;
    this.line(entry, 0, digest, false, { xattrs });
    return xattrs;
  }

  /** A directory once more, so that tar sets its times behind what it puts there. */
  protected sendAgain(entry: TreeEntry, xattrs: readonly Xattr[] | null): void {
    this.member({ ...entry, xattrs }, 0);
    this.line(entry, 0, null, false, { again: true, xattrs });
  }

  /** The header of a member, and the beginning of its frame; data, `endMember` and `line` follow. */
  protected member(member: Parameters<TarHeaderWriter['write']>[0], dataBytes: number): void {
    const headerBytes = this.#headers.write(member);
    this.#headerBytes = headerBytes;
    const isLarge = isLargeData(member.path, dataBytes);
    this.frames.beginMember(this.#headers.buffer, headerBytes, dataBytes, isLarge);
  }

  protected line(
    entry: TreeEntry,
    dataBytes: number,
    blake3: string | null,
    changed: boolean,
    rare: RareFacts | null,
  ): void {
    const headerOffset = this.mediaBytes;
    const dataOffset = headerOffset + this.#headerBytes;
    this.mediaBytes = dataOffset + paddedBytes(dataBytes);
    const facts = this.#medium === 0 ? rare : { ...rare, medium: this.#medium };
    const text = encodeEntry(entry, headerOffset, dataOffset, blake3, changed, facts);
    this.onLine(text, dataBytes, rare?.again === true);
  }

  protected xattrsOf(entry: TreeEntry, place: number | Buffer): Xattr[] | null {
    if (this.#native === undefined) return null;
    try {
      const found = xattrsOf(this.#native.getXattrs(place, XATTRS_BYTES_MAX));
      if (found === null || fitsLine(found)) return found;
      throw stpError('E2BIG', 'the attributes do not fit a line of the manifest');
    } catch (e) {
      // What vanished meanwhile is noticed elsewhere.
      if (!isCoded(e)) throw e;
      const message = `the attributes of /${displayPath(entry.path)} are not stored: ${e.code}`;
      this.onWarning({ path: entry.path, code: e.code, message });
      return null;
    }
  }

  protected contentOf(entry: TreeEntry, fd: number): Content {
    const { size, blocks } = entry;
    const native = this.#native;
    const segments = native ? segmentsOf(fd, size, blocks, native.dataSegments) : null;
    if (segments === null) return { stored: size, segments: null, map: null };
    const map = encodeSparseMap(segments, size);
    const stored = segments.reduce((sum, { bytes }) => sum + bytes, map.length);
    return { stored, segments, map };
  }

  /**
   * The common case: a small file about which nothing is unusual. Its member is made where it goes in
   * the page; or aside, if it does not fit what is left of that. False: nothing was sent.
   * @param readWhole puts the header, the data and what is missing to whole blocks
   */
  protected sendSmall(entry: TreeEntry, readWhole: ReadWhole): boolean {
    const { size } = entry;
    if (size > SMALL_BYTES_MAX || isSparse(size, entry.blocks)) return false;
    if (this.fitsDelta(size, blockBytesFor(size, this.#blockBytes))) return false;
    const headerBytes = this.#headers.write(entry);
    const header = this.#headers.buffer;
    const bytes = headerBytes + paddedBytes(size);
    const make = (view: Uint8Array, at: number) => readWhole(header, headerBytes, view, at);
    let member: Uint8Array | null;
    if (this.frames.hasRoomFor(bytes)) {
      member = this.frames.putMember(bytes, make);
      if (member === null) return false;
    } else {
      if (!make(this.#aside, 0)) return false;
      member = this.#aside.subarray(0, bytes);
      this.frames.putWhole(member);
    }
    this.#headerBytes = headerBytes;
    this.progress[1] = (this.progress[1] as number) + size;
    const data = member.subarray(headerBytes, headerBytes + size);
    this.line(entry, size, blake3(data).toString('hex'), false, null);
    return true;
  }

  /** Sends header and data; false if it changed meanwhile and is to be read again. */
  protected sendFile(entry: TreeEntry, fd: number, isLast: boolean): boolean {
    const { size } = entry;
    const { stored, map, segments } = this.contentOf(entry, fd);
    const xattrs = this.xattrsOf(entry, fd);
    const sparse = map !== null ? { size: stored, sparseBytes: size } : {};
    this.member({ ...entry, xattrs, ...sparse }, stored);
    this.hasher.reset();
    if (map !== null) {
      this.hasher.update(map);
      this.frames.put(map, 0, map.length);
    }
    const blockBytes = blockBytesFor(size, this.#blockBytes);
    const listed = this.fitsDelta(size, blockBytes) ? blockBytes : 0;
    const failure = this.#moveAll(fd, segments ?? [{ offset: 0, bytes: size }], size, listed);
    const isWhole = this.frames.owedData === 0;
    this.frames.putZeros(this.frames.owedData, this.hasher);
    const digest = this.hasher.digest('hex');
    this.frames.endMember(digest);
    return this.#finishFile(entry, fd, isLast, {
      digest,
      failure,
      dataBytes: stored,
      list: listed > 0 && isWhole ? this.#lister.finish() : null,
      blockBytes,
      rare: { ...(map !== null && { sparse: true, stored }), xattrs },
    });
  }

  /** True if a file of this size goes by blocks of this one. */
  protected fitsDelta(size: number, blockBytes: number): boolean {
    const isLarge = this.#deltaFrom > 0 && size >= this.#deltaFrom;
    return isLarge && blockBytes > 0 && blocksOf(size, blockBytes) <= BLOCKS_MAX;
  }

  /**
   * Sends the blocks that changed, or the metadata alone; false if the file changed meanwhile and is
   * to be read again.
   */
  protected sendDelta(entry: TreeEntry, fd: number, isLast: boolean, known: KnownFile): boolean {
    // It is another size by now.
    if (!this.fitsDelta(entry.size, known.blockBytes)) return this.sendFile(entry, fd, isLast);
    const content = this.contentOf(entry, fd);
    const { map, stored } = content;
    const isSame = (digest: string): boolean =>
      known.size === entry.size &&
      known.stored === stored &&
      known.sparse === (map !== null) &&
      known.blake3 === digest &&
      isSameFile(entry, fd);
    const sent = this.#deltas.send(entry, fd, content, known, isSame);
    if (sent.delta === null) {
      this.sendLink(entry, fd, content, sent.blake3);
      return true;
    }
    this.#headerBytes = sent.headerBytes;
    return this.#finishFile(entry, fd, isLast, {
      digest: sent.blake3,
      failure: sent.failure,
      dataBytes: sent.delta.bytes,
      list: sent.list,
      blockBytes: known.blockBytes,
      rare: {
        ...(map !== null && { sparse: true, stored }),
        delta: sent.delta,
        xattrs: this.xattrsOf(entry, fd),
      },
    });
  }

  /** Metadata alone: a link of a file to itself; GNU tar leaves the file as it is. */
  protected sendLink(entry: TreeEntry, fd: number, content: Content, digest: string): void {
    const { map, stored } = content;
    const xattrs = this.xattrsOf(entry, fd);
    this.member({ ...entry, type: 'hardlink', link: entry.path, size: 0 }, 0);
    const sparse = map !== null ? { sparse: true, stored } : {};
    this.line(entry, 0, digest, false, { sameData: true, ...sparse, xattrs });
  }

  /** The line of a file whose data has gone; false if that is superseded: it is to be read again. */
  #finishFile(entry: TreeEntry, fd: number, isLast: boolean, sent: SentFile): boolean {
    const { digest, failure, dataBytes, list, blockBytes, rare } = sent;
    const same = failure === null && isSameFile(entry, fd);
    const again = failure === null && !isLast && !same;
    if (failure !== null) this.#warnUnreadable(entry, failure);
    else if (!same && !again) this.onWarning(changedWarning(entry));
    const blocks = again || list === null ? null : this.#sendList(list, blockBytes);
    this.line(entry, dataBytes, digest, !same, { ...rare, superseded: again, blocks });
    return !again;
  }

  #sendList(list: Buffer, blockBytes: number): BlockList {
    this.frames.frame(FRAME_BLOCKS, list);
    const offset = this.#listsBytes;
    this.#listsBytes += list.length;
    return { blockBytes, offset, blake3: blake3(list).toString('hex') };
  }

  /**
   * Returns the code of a read error, null if the data or the end of the file was reached.
   * @param blockBytes if not 0, the lister gets all bytes, holes included
   */
  #moveAll(
    fd: number,
    segments: readonly Segment[],
    size: number,
    blockBytes: number,
  ): string | null {
    const lister = blockBytes > 0 ? this.#lister : null;
    lister?.begin(size, blockBytes);
    const digest = lister === null ? this.hasher : this.#both;
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
    const { progress } = this;
    for (let at = 0; at < bytes; ) {
      const asked = Math.min(bytes - at, SLICE_BYTES);
      const moved = this.frames.putFile(fd, offset + at, asked, digest);
      at += moved;
      progress[1] = (progress[1] as number) + moved;
      if (moved < asked) return false;
    }
    return true;
  }

  #warnUnreadable(entry: TreeEntry, code: string): void {
    const message = `/${displayPath(entry.path)} could not be read to its end; zeros stand for the rest`;
    this.onWarning({ path: entry.path, code, message });
  }
}
