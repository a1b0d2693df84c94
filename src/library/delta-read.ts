/**
 * A large file of which only blocks were stored, as if it was stored in full: a run of bytes that is
 * what its medium would have, map and segments, put together from the levels of its chain.
 *
 * Each block of the file is looked for from the newest level down: where its map has a hole there
 * are zeros; else its members may have the block; else the level below decides. What a level does
 * not have is, by its hash, what the level below has. That is worked out once, into a place for each
 * block, so the number of levels costs neither time nor memory afterwards.
 *
 * Nothing here vouches for the bytes: whoever gets them compares the digest of the whole file.
 * Blocks; a reader belongs to one thread.
 */
import { type Segment, SparseMapParser } from '../source/sparse.js';
import { BLOCKS_MAX, blocksOf } from './blocks.js';
import type { Level } from './levels.js';
import type { MediaReader } from './media.js';
import { paddedBytes, TAR_BLOCK_BYTES } from './pax.js';
import { MemberError, readMember } from './tar-member.js';

/** Neither a level nor zeros: no level has the block. */
const NONE = 255;
const ZEROS = 254;

export type OpenMedium = (set: number, medium: number) => MediaReader;

/** Takes the bytes of a medium one after the other, as many as are asked for. */
class Taker {
  readonly #media: MediaReader;
  readonly #end: number;
  offset: number;

  constructor(media: MediaReader, offset: number, end: number) {
    this.#media = media;
    this.offset = offset;
    this.#end = end;
  }

  readonly take = (bytes: number): Buffer => {
    if (this.offset + bytes > this.#end) throw new MemberError('it is cut');
    const into = Buffer.allocUnsafe(bytes);
    for (let at = 0; at < bytes; ) {
      const read = this.#media.read(into, at, bytes - at, this.offset);
      if (read === 0) throw new MemberError('its medium ends in it');
      at += read;
      this.offset += read;
    }
    return into;
  };
}

/** Reads a map; `taker` then stands behind it. */
function mapOf(taker: Taker, size: number): Segment[] {
  const map = new SparseMapParser();
  while (!map.isComplete) {
    const problem = map.add(taker.take(TAR_BLOCK_BYTES), size);
    if (problem !== null) throw new MemberError(problem);
  }
  return map.segments.filter(({ bytes }) => bytes > 0);
}

/** A run of bytes in a medium, or of zeros. */
interface Piece {
  readonly media: MediaReader | null;
  readonly offset: number;
  readonly bytes: number;
}

/** Where each block of a file is. */
class BlockPlaces {
  readonly #levels: readonly Level[];
  readonly #blockBytes: number;
  readonly #open: OpenMedium;
  /** By block: its level, ZEROS or NONE. */
  readonly #owner: Uint8Array;
  /** Where it begins in the medium of its level, but for level 0. */
  readonly #offset: Float64Array;
  /** Of level 0, and where the bytes of each are in its medium. */
  #baseSegments: Segment[] = [];
  #basePlaces: number[] = [];
  /** Of the last level. */
  segments: Segment[] = [];

  /** @throws MemberError if a level is not what it should be; EIO */
  constructor(levels: readonly Level[], blockBytes: number, open: OpenMedium) {
    this.#levels = levels;
    this.#blockBytes = blockBytes;
    this.#open = open;
    const count = Math.max(...levels.map(({ size }) => blocksOf(size, blockBytes)));
    if (!(count <= BLOCKS_MAX)) throw new MemberError('it has too many blocks');
    this.#owner = new Uint8Array(count).fill(NONE);
    this.#offset = new Float64Array(count);
    levels.forEach((level, number) => {
      if (number === 0) this.#addBase(level);
      else this.#addDelta(level, number);
      this.#owner.fill(NONE, blocksOf(level.size, blockBytes));
    });
  }

  #addBase(level: Level): void {
    this.#owner.fill(0, 0, blocksOf(level.size, this.#blockBytes));
    const { set, medium, offset, bytes, size } = level;
    if (!level.sparse) {
      this.#baseSegments = [{ offset: 0, bytes: size }];
      this.#basePlaces = [offset];
      return;
    }
    const taker = new Taker(this.#open(set, medium), offset, offset + bytes);
    this.#baseSegments = mapOf(taker, size);
    let at = taker.offset;
    for (const segment of this.#baseSegments) {
      this.#basePlaces.push(at);
      at += segment.bytes;
    }
  }

  #addDelta(level: Level, number: number): void {
    const { set, medium, offset, bytes, size, mapBytes } = level;
    const taker = new Taker(this.#open(set, medium), offset, offset + bytes);
    this.segments = mapOf(taker, size);
    if (taker.offset !== offset + mapBytes) throw new MemberError('its map has another length');
    this.#markHoles(size);
    while (taker.offset < offset + bytes) {
      const member = readMember(taker.take);
      if (member === null) throw new MemberError('there are zeros in place of a member');
      const start = taker.offset;
      const ranges = mapOf(taker, size);
      let at = taker.offset;
      for (const range of ranges) at = this.#addRange(range, number, at, size);
      if (at !== start + member.size) throw new MemberError('its map is not that of its blocks');
      taker.offset = start + paddedBytes(member.size);
    }
  }

  /** Returns where the bytes behind it begin. */
  #addRange({ offset, bytes }: Segment, number: number, at: number, size: number): number {
    const blockBytes = this.#blockBytes;
    const isWhole = bytes % blockBytes === 0 || offset + bytes === size;
    if (offset % blockBytes !== 0 || !isWhole) throw new MemberError('it is not made of blocks');
    for (let done = 0; done < bytes; done += blockBytes) {
      const block = (offset + done) / blockBytes;
      this.#owner[block] = number;
      this.#offset[block] = at + done;
    }
    return at + bytes;
  }

  /** Blocks without any data are zeros from this level on. */
  #markHoles(size: number): void {
    const blockBytes = this.#blockBytes;
    let block = 0;
    for (const { offset, bytes } of this.segments) {
      this.#owner.fill(ZEROS, block, Math.max(block, Math.floor(offset / blockBytes)));
      block = Math.ceil((offset + bytes) / blockBytes);
    }
    this.#owner.fill(ZEROS, block, Math.max(block, blocksOf(size, blockBytes)));
  }

  /** The bytes of the last level's file from `start` to `end`, in pieces. */
  *pieces(start: number, end: number): Generator<Piece, void, void> {
    for (let at = start; at < end; ) {
      const owner = this.#owner[Math.floor(at / this.#blockBytes)] as number;
      const stop = this.#endOfRun(at, end, owner);
      if (owner === NONE) throw new MemberError('no level has one of its blocks');
      if (owner === ZEROS) yield { media: null, offset: 0, bytes: stop - at };
      else if (owner === 0) yield* this.#basePieces(at, stop);
      else {
        const { set, medium } = this.#levels[owner] as Level;
        const offset =
          (this.#offset[Math.floor(at / this.#blockBytes)] as number) + (at % this.#blockBytes);
        yield { media: this.#open(set, medium), offset, bytes: stop - at };
      }
      at = stop;
    }
  }

  /** As far as the blocks stand one behind the other. */
  #endOfRun(at: number, end: number, owner: number): number {
    const blockBytes = this.#blockBytes;
    let block = Math.floor(at / blockBytes);
    for (;;) {
      const next = block + 1;
      if (next * blockBytes >= end) return end;
      if (this.#owner[next] !== owner) return next * blockBytes;
      const isBehind =
        owner === 0 ||
        owner === ZEROS ||
        this.#offset[next] === (this.#offset[block] as number) + blockBytes;
      if (!isBehind) return next * blockBytes;
      block = next;
    }
  }

  *#basePieces(start: number, end: number): Generator<Piece, void, void> {
    const { set, medium, size } = this.#levels[0] as Level;
    if (end > size) throw new MemberError('what it stands on is shorter');
    const media = this.#open(set, medium);
    let at = start;
    for (let i = this.#segmentAt(start); at < end; i++) {
      const segment = this.#baseSegments[i];
      const from = Math.min(end, Math.max(at, segment?.offset ?? end));
      if (from > at) yield { media: null, offset: 0, bytes: from - at };
      at = from;
      if (segment === undefined || at === end) continue;
      const stop = Math.min(end, segment.offset + segment.bytes);
      const offset = (this.#basePlaces[i] as number) + at - segment.offset;
      yield { media, offset, bytes: stop - at };
      at = stop;
    }
  }

  /** The first segment of the base that ends behind `offset`. */
  #segmentAt(offset: number): number {
    let [low, high] = [0, this.#baseSegments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { offset: from, bytes } = this.#baseSegments[middle] as Segment;
      if (from + bytes <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Reads a file of several levels from front to back, as its medium would have it. */
export class AssembledReader implements MediaReader {
  readonly name: string;
  readonly bytes: number;
  readonly #pieces: Generator<Piece, void, void>;
  #piece: Piece = { media: null, offset: 0, bytes: 0 };
  #done = 0;
  #position = 0;

  /**
   * @param levels the oldest first, two at least
   * @param open gives media that the caller closes
   * @throws MemberError if a level is not what it should be; EIO
   */
  constructor(name: string, levels: readonly Level[], blockBytes: number, open: OpenMedium) {
    const places = new BlockPlaces(levels, blockBytes, open);
    const last = levels.at(-1) as Level;
    const mapBytes = last.sparse ? last.mapBytes : 0;
    this.name = name;
    this.bytes = places.segments.reduce((sum, { bytes }) => sum + bytes, mapBytes);
    this.#pieces = allPieces(places, last, mapBytes, open);
  }

  /** @throws MemberError if a block is nowhere; EIO */
  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    if (offset !== this.#position) throw new MemberError('it is read from front to back');
    while (this.#done === this.#piece.bytes) {
      const { value } = this.#pieces.next();
      if (!value) return 0;
      this.#piece = value;
      this.#done = 0;
    }
    const { media, offset: start } = this.#piece;
    let count = Math.min(bytes, this.#piece.bytes - this.#done);
    if (media === null) into.fill(0, at, at + count);
    else count = media.read(into, at, count, start + this.#done);
    if (count === 0) throw new MemberError('its medium ends in it');
    this.#done += count;
    this.#position += count;
    return count;
  }

  /** Its media belong to the caller. */
  close(): void {}
}

function* allPieces(
  places: BlockPlaces,
  last: Level,
  mapBytes: number,
  open: OpenMedium,
): Generator<Piece, void, void> {
  const { set, medium, offset } = last;
  if (mapBytes > 0) yield { media: open(set, medium), offset, bytes: mapBytes };
  for (const segment of places.segments) {
    yield* places.pieces(segment.offset, segment.offset + segment.bytes);
  }
}
