/**
 * Files with holes: which parts of an open file have data, and the map that stands before them in
 * the media (GNU tar's sparse format 1.0): decimal numbers, one a line: how many segments, then
 * offset and bytes of each; zeros up to a whole block of 512.
 *
 * A file system that calls data a hole would lose it: what it calls holes is read and compared with
 * zeros, up to HOLE_BYTES_READ_MAX; whatever looks wrong makes the file an ordinary one.
 * Worker threads: it reads.
 */
import { readSync } from 'node:fs';

/** Offset and bytes of what has data. */
export interface Segment {
  readonly offset: number;
  readonly bytes: number;
}

/** The map of a file is held in memory by both sides: 2.8 MB at most. The last segment then reaches
 * to the end. */
export const SEGMENTS_MAX = 65536;
/** Two decimal numbers of a segment with their ends of line. */
export const SPARSE_MAP_BYTES_MAX = 32 + SEGMENTS_MAX * 34;
/** About two seconds of reading zeros that cost no disk. */
export const HOLE_BYTES_READ_MAX = 16 * 2 ** 30;
/** Smaller files gain nothing. */
const SPARSE_BYTES_MIN = 4096;
/** Unit of st_blocks. */
const STAT_BLOCK_BYTES = 512;
const BLOCK_BYTES = 512;
const READ_BYTES = 1 << 20;

export type DataSegments = (fd: number, size: number, countMax: number) => number[] | null;

let zeros: Buffer | null = null;
let scratch: Buffer | null = null;

/** True if all of [from, to) is zeros, or cannot be read: then the data decides. */
function isZero(fd: number, from: number, to: number): boolean {
  zeros ??= Buffer.alloc(READ_BYTES);
  scratch ??= Buffer.allocUnsafeSlow(READ_BYTES);
  for (let at = from; at < to; ) {
    const read = readSync(fd, scratch, 0, Math.min(READ_BYTES, to - at), at);
    if (read === 0) return false;
    if (scratch.compare(zeros, 0, read, 0, read) !== 0) return false;
    at += read;
  }
  return true;
}

/** True if a file may have holes worth looking for. */
export const isSparse = (size: number, blocks: number): boolean =>
  size >= SPARSE_BYTES_MIN && blocks * STAT_BLOCK_BYTES < size;

/**
 * The segments of a sparse file of `size` bytes with `blocks` of 512 on the disk; null for a file
 * that is to be stored whole.
 */
export function segmentsOf(
  fd: number,
  size: number,
  blocks: number,
  dataSegments: DataSegments,
): Segment[] | null {
  if (!isSparse(size, blocks)) return null;
  const found = dataSegments(fd, size, SEGMENTS_MAX);
  if (found === null) return null;
  const segments: Segment[] = [];
  let end = 0;
  let holeBytes = 0;
  const holes: [number, number][] = [];
  for (let i = 0; i + 1 < found.length; i += 2) {
    const offset = found[i] as number;
    const bytes = found[i + 1] as number;
    if (offset < end || bytes <= 0 || offset + bytes > size) return null;
    if (offset > end) holes.push([end, offset]);
    holeBytes += offset - end;
    segments.push({ offset, bytes });
    end = offset + bytes;
  }
  if (end < size) holes.push([end, size]);
  holeBytes += size - end;
  if (holeBytes === 0) return null;
  let left = HOLE_BYTES_READ_MAX;
  for (const [from, to] of holes) {
    const until = Math.min(to, from + left);
    if (!isZero(fd, from, until)) return null;
    left -= until - from;
  }
  return segments;
}

/** The map; a hole at the end is an empty segment there, as GNU tar has it. */
export function encodeSparseMap(segments: readonly Segment[], size: number): Buffer {
  const last = segments.at(-1);
  const isCut = last === undefined || last.offset + last.bytes < size;
  const lines = [segments.length + (isCut ? 1 : 0)];
  for (const { offset, bytes } of segments) lines.push(offset, bytes);
  if (isCut) lines.push(size, 0);
  const text = `${lines.join('\n')}\n`;
  const map = Buffer.alloc(Math.ceil(text.length / BLOCK_BYTES) * BLOCK_BYTES);
  map.write(text, 'latin1');
  return map;
}

/** Reads a map block by block. Foreign bytes: what breaks a rule is refused with the reason. */
export class SparseMapParser {
  readonly segments: Segment[] = [];
  #numbers: number[] = [];
  #count = -1;
  #digits = '';

  get isComplete(): boolean {
    return this.#count >= 0 && this.segments.length === this.#count;
  }

  /** @returns why the block is not part of a map; null if it is */
  add(block: Uint8Array, size: number): string | null {
    for (const byte of block) {
      if (this.isComplete) return null;
      if (byte >= 0x30 && byte <= 0x39) {
        this.#digits += String.fromCharCode(byte);
        if (this.#digits.length > 16) return 'a number of its map is too long';
        continue;
      }
      if (byte !== 0x0a || this.#digits === '') return 'its map is not made of numbers';
      this.#numbers.push(Number(this.#digits));
      this.#digits = '';
      const problem = this.#settle(size);
      if (problem !== null) return problem;
    }
    return null;
  }

  #settle(size: number): string | null {
    if (this.#count < 0) {
      this.#count = this.#numbers.pop() as number;
      return this.#count <= SEGMENTS_MAX + 1 ? null : 'its map has too many segments';
    }
    if (this.#numbers.length < 2) return null;
    const [offset, bytes] = this.#numbers as [number, number];
    this.#numbers = [];
    const last = this.segments.at(-1);
    const end = last === undefined ? 0 : last.offset + last.bytes;
    if (offset < end || offset + bytes > size) return 'the segments of its map are out of order';
    this.segments.push({ offset, bytes });
    return null;
  }
}
