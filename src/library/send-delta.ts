/**
 * Backup, the client's side: a large file that changed becomes the blocks that changed.
 *
 * The file is read once. Each block's hash is held against the parent's; blocks that differ are
 * gathered, and go as members of a few MiB, since a tar header says how long its member is:
 *
 *   .stp-delta/PATH/map     where the file has data, as in a sparse member (source/sparse.ts); for a
 *                           file without holes one segment, all of it
 *   .stp-delta/PATH/1, ...  sparse members of the file's size: the changed blocks, at their places
 *
 * A block that is all hole is in no member: the map tells. The digests are of the bytes that were
 * compared and sent, so a file that changes meanwhile is what they say, whatever else it is.
 *
 * Worker thread: all of it blocks.
 */
import { readSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded } from '../errors.js';
import type { TreeEntry } from '../source/file-tree.js';
import { encodeSparseMap, type Segment } from '../source/sparse.js';
import { BLOCK_HASH_BYTES, hashOfZeros, listBytesOf, putHash } from './blocks.js';
import type { FrameWriter } from './frames.js';
import { type DeltaFacts, deltaPath } from './manifest.js';
import { paddedBytes, type TarHeaderWriter } from './pax.js';

/** Read and hashed at once, or one block where blocks are larger. */
const WINDOW_BYTES = 1 << 20;
/** Changed blocks in one member: headers and maps are little beside it, and so is memory. */
const PART_BYTES = 8 << 20;

/** What stands for a file's data. */
export interface Content {
  /** Bytes that stand for the data: `size`, or map and segments. */
  readonly stored: number;
  readonly segments: readonly Segment[] | null;
  readonly map: Buffer | null;
}

/** A large file as the parent has it. */
export interface KnownFile {
  readonly size: number;
  readonly stored: number;
  readonly sparse: boolean;
  readonly blake3: string;
  readonly blockBytes: number;
  readonly hashes: Uint8Array;
}

export interface DeltaSent {
  /** Of the first member's header. */
  readonly headerBytes: number;
  /** Null if nothing was sent, because the file is the same. */
  readonly delta: DeltaFacts | null;
  /** Of the file as it would be stored in full. */
  readonly blake3: string;
  /** The new hashes; valid until the next file. */
  readonly list: Buffer;
  /** Code of a read error; zeros stand for the rest then. */
  readonly failure: string | null;
}

export class DeltaSender {
  readonly #frames: FrameWriter;
  readonly #headers: TarHeaderWriter;
  readonly #progress: Float64Array;
  readonly #whole = new Blake3Hasher();
  readonly #region = new Blake3Hasher();
  #window: Buffer = Buffer.alloc(0);
  #part: Buffer = Buffer.alloc(0);
  #list: Buffer = Buffer.alloc(0);
  #zeroHash: Buffer = Buffer.alloc(0);
  #zeroBytes = 0;
  // Of the file that is being sent:
  #entry: TreeEntry | null = null;
  #segments: readonly Segment[] = [];
  #map: Buffer = Buffer.alloc(0);
  #nextSegment = 0;
  #isEnded = false;
  #failure: string | null = null;
  #ranges: Segment[] = [];
  #partBytes = 0;
  #parts = 0;
  #headerBytes = 0;
  #regionBytes = 0;

  constructor(frames: FrameWriter, headers: TarHeaderWriter, progress: Float64Array) {
    this.#frames = frames;
    this.#headers = headers;
    this.#progress = progress;
  }

  /**
   * Sends what changed of an open file. What the stream throws passes.
   * @param isSame asked where no block differs: true if the file is what the parent has
   */
  send(
    entry: TreeEntry,
    fd: number,
    content: Content,
    known: KnownFile,
    isSame: (blake3: string) => boolean,
  ): DeltaSent {
    const { size } = entry;
    this.#begin(entry, content, known.blockBytes);
    const list = this.#list.subarray(0, listBytesOf(size, known.blockBytes));
    const window = Math.max(WINDOW_BYTES, known.blockBytes);
    for (let at = 0; at < size; at += window) {
      this.#compare(fd, at, Math.min(size, at + window), list, known);
    }
    const blake3 = this.#whole.digest('hex');
    const failure = this.#failure;
    if (this.#parts === 0 && this.#partBytes === 0 && failure === null && isSame(blake3)) {
      return { headerBytes: 0, delta: null, blake3, list, failure };
    }
    if (this.#partBytes > 0) this.#sendPart();
    if (this.#headerBytes === 0) this.#sendMap();
    const mapBytes = this.#map.length;
    const delta = { bytes: this.#regionBytes, mapBytes, blake3: this.#region.digest('hex') };
    return { headerBytes: this.#headerBytes, delta, blake3, list, failure };
  }

  #begin(entry: TreeEntry, content: Content, blockBytes: number): void {
    const { size } = entry;
    this.#entry = entry;
    this.#segments = content.segments ?? [{ offset: 0, bytes: size }];
    this.#map = content.map ?? encodeSparseMap(this.#segments, size);
    this.#nextSegment = 0;
    this.#isEnded = false;
    this.#failure = null;
    this.#ranges = [];
    this.#partBytes = 0;
    this.#parts = 0;
    this.#headerBytes = 0;
    this.#regionBytes = 0;
    this.#region.reset();
    this.#whole.reset();
    if (content.map !== null) this.#whole.update(content.map);
    this.#window = roomFor(this.#window, Math.max(WINDOW_BYTES, blockBytes));
    this.#part = roomFor(this.#part, Math.max(PART_BYTES, blockBytes));
    this.#list = roomFor(this.#list, listBytesOf(size, blockBytes));
  }

  /** Compares the blocks from `start` to `end` and gathers those that differ. */
  #compare(fd: number, start: number, end: number, list: Buffer, known: KnownFile): void {
    const { blockBytes, hashes } = known;
    const first = this.#nextSegment;
    this.#read(fd, start, end);
    let segment = first;
    for (let at = start; at < end; at += blockBytes) {
      const stop = Math.min(at + blockBytes, end);
      while (segment < this.#segments.length && endOf(this.#segments[segment]) <= at) segment++;
      const isHole = (this.#segments[segment]?.offset ?? end) >= stop;
      const index = at / blockBytes;
      const block = this.#window.subarray(at - start, stop - start);
      if (isHole) this.#hashOfHole(stop - at).copy(list, index * BLOCK_HASH_BYTES);
      else putHash(list, index, block);
      const hashAt = index * BLOCK_HASH_BYTES;
      const hashEnd = hashAt + BLOCK_HASH_BYTES;
      const isKnown =
        hashEnd <= hashes.length && list.compare(hashes, hashAt, hashEnd, hashAt, hashEnd) === 0;
      if (!isKnown && !isHole) this.#gather(at, block);
    }
  }

  /** Fills the window with the file's bytes, holes as zeros, and hashes what is data. */
  #read(fd: number, start: number, end: number): void {
    const window = this.#window;
    let filled = start;
    for (; this.#nextSegment < this.#segments.length; this.#nextSegment++) {
      const segment = this.#segments[this.#nextSegment] as Segment;
      if (segment.offset >= end) break;
      const from = Math.max(start, segment.offset);
      const to = Math.min(end, endOf(segment));
      window.fill(0, filled - start, from - start);
      this.#readPart(fd, from, to, from - start);
      this.#whole.update(window.subarray(from - start, to - start));
      filled = to;
      if (endOf(segment) > end) break;
    }
    window.fill(0, filled - start, end - start);
  }

  #readPart(fd: number, from: number, to: number, into: number): void {
    let at = from;
    try {
      while (at < to && !this.#isEnded) {
        const read = readSync(fd, this.#window, into + at - from, to - at, at);
        // It is shorter by now, which its times tell, too.
        if (read === 0) this.#isEnded = true;
        at += read;
      }
    } catch (e) {
      if (!isCoded(e)) throw e;
      this.#failure = e.code;
      this.#isEnded = true;
    }
    this.#window.fill(0, into + at - from, into + to - from);
  }

  #hashOfHole(bytes: number): Buffer {
    if (this.#zeroBytes !== bytes) this.#zeroHash = Buffer.from(hashOfZeros(bytes));
    this.#zeroBytes = bytes;
    return this.#zeroHash;
  }

  #gather(offset: number, block: Buffer): void {
    if (this.#partBytes + block.length > this.#part.length) this.#sendPart();
    block.copy(this.#part, this.#partBytes);
    this.#partBytes += block.length;
    const last = this.#ranges.at(-1);
    if (last !== undefined && endOf(last) === offset) {
      const bytes = last.bytes + block.length;
      this.#ranges[this.#ranges.length - 1] = { offset: last.offset, bytes };
    } else this.#ranges.push({ offset, bytes: block.length });
  }

  #sendMap(): void {
    const entry = this.#entry as TreeEntry;
    const size = this.#map.length;
    const path = deltaPath(entry.path, 'map');
    this.#headerBytes = this.#headers.write({ ...entry, path, size });
    this.#frames.beginMedia(this.#headerBytes + paddedBytes(size));
    this.#frames.put(this.#headers.buffer, 0, this.#headerBytes);
    this.#put(this.#map);
  }

  #sendPart(): void {
    if (this.#headerBytes === 0) this.#sendMap();
    const entry = this.#entry as TreeEntry;
    const map = encodeSparseMap(this.#ranges, entry.size);
    const size = map.length + this.#partBytes;
    const path = deltaPath(entry.path, ++this.#parts);
    const headerBytes = this.#headers.write({ ...entry, path, size, sparseBytes: entry.size });
    this.#frames.beginMedia(headerBytes + paddedBytes(size));
    this.#put(this.#headers.buffer.subarray(0, headerBytes));
    this.#put(map);
    this.#put(this.#part.subarray(0, this.#partBytes));
    this.#put(Buffer.alloc(paddedBytes(size) - size));
    this.#progress[1] = (this.#progress[1] as number) + this.#partBytes;
    this.#ranges = [];
    this.#partBytes = 0;
  }

  #put(bytes: Buffer): void {
    this.#frames.put(bytes, 0, bytes.length);
    this.#region.update(bytes);
    this.#regionBytes += bytes.length;
  }
}

const endOf = (segment: Segment | undefined): number =>
  segment === undefined ? 0 : segment.offset + segment.bytes;

const roomFor = (buffer: Buffer, bytes: number): Buffer =>
  buffer.length >= bytes ? buffer : Buffer.allocUnsafeSlow(bytes);
