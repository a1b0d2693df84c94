/**
 * Compressed media: zstd frames that can be read one by one, and a table of them at the end, in the
 * form of zstd's seekable format. Any zstd reads all of it; the table it passes over.
 *
 *   frames        each of the same number of bytes, the last one of fewer
 *   skippable frame 0x184D2A5E: 8 bytes a frame (compressed, then decompressed bytes), then 9 bytes:
 *                 number of frames, 0, 0x8F92EAB1; all numbers little-endian
 *
 * A skippable frame that holds the label stands in the table, too, with 0 bytes decompressed.
 * Synchronous; holds one frame. Any thread.
 */
import zstd from '@toondepauw/node-zstd';
import { stpError } from '../errors.js';
import { type ByteFile, readAll } from './bytes.js';

const TABLE_MAGIC = 0x184d2a5e;
const LABEL_MAGIC = 0x184d2a50;
const FOOTER_MAGIC = 0x8f92eab1;
const FRAME_HEAD_BYTES = 8;
const ENTRY_BYTES = 8;
const FOOTER_BYTES = 9;
/** What a restore of one small file reads and decompresses, and what is held for it. */
export const ZSTD_FRAME_BYTES = 1 << 20;

export const tableBytes = (frames: number): number =>
  FRAME_HEAD_BYTES + frames * ENTRY_BYTES + FOOTER_BYTES;

/** Bytes that zstd passes over, `bytes` long with its head. */
export function skippable(content: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_HEAD_BYTES + content.length);
  frame.writeUInt32LE(LABEL_MAGIC, 0);
  frame.writeUInt32LE(content.length, 4);
  frame.set(content, FRAME_HEAD_BYTES);
  return frame;
}

/** The table while it grows. */
export class FrameTable {
  readonly #sizes: number[] = [];

  add(compressed: number, decompressed: number): void {
    this.#sizes.push(compressed, decompressed);
  }

  get frames(): number {
    return this.#sizes.length / 2;
  }

  encode(): Buffer {
    const table = Buffer.alloc(tableBytes(this.frames));
    table.writeUInt32LE(TABLE_MAGIC, 0);
    table.writeUInt32LE(table.length - FRAME_HEAD_BYTES, 4);
    this.#sizes.forEach((size, i) => {
      table.writeUInt32LE(size, FRAME_HEAD_BYTES + 4 * i);
    });
    table.writeUInt32LE(this.frames, table.length - 9);
    table.writeUInt32LE(FOOTER_MAGIC, table.length - 4);
    return table;
  }
}

/** Compresses pieces into frames. */
export class Compressor {
  readonly #encoder: InstanceType<typeof zstd.Encoder>;

  constructor(level: number) {
    this.#encoder = new zstd.Encoder(level);
  }

  frame(data: Buffer): Buffer {
    return this.#encoder.encodeSync(data);
  }
}

const FRAME_MAGIC = 0xfd2fb528;
const BLOCK_HEAD_BYTES = 3;
const RLE_BLOCK = 1;
const CHECKSUM_BYTES = 4;
/** Most bytes of a frame's header after its magic. */
const HEADER_BYTES_MAX = 14;

/** Bytes of the frame at `start` by its own blocks (RFC 8878, 3.1.1); 0 if there is none. */
function frameBytes(file: ByteFile, start: number): number {
  const head = Buffer.alloc(4 + HEADER_BYTES_MAX);
  if (start + 9 > file.bytes) return 0;
  file.read(head, 0, head.length, start);
  if (head.readUInt32LE(0) !== FRAME_MAGIC) return 0;
  const descriptor = head[4] as number;
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? Number(isSingle) : 1 << sizeFlag;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  let at = start + 5 + (isSingle ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let isLast = false; !isLast; ) {
    if (at + BLOCK_HEAD_BYTES > file.bytes) return 0;
    readAll(file, head.subarray(0, BLOCK_HEAD_BYTES), at);
    const block = head.readUIntLE(0, BLOCK_HEAD_BYTES);
    isLast = (block & 1) !== 0;
    at += BLOCK_HEAD_BYTES + (((block >> 1) & 3) === RLE_BLOCK ? 1 : block >> 3);
  }
  const end = at + ((descriptor & 4) !== 0 ? CHECKSUM_BYTES : 0);
  return end > file.bytes ? 0 : end - start;
}

/** One frame of a file, as a table has it. */
export interface Frame {
  readonly start: number;
  readonly compressed: number;
  readonly offset: number;
  readonly bytes: number;
}

/** A damaged file of frames, for repair alone: what it has in spite of that. */
export class BrokenZstd implements ByteFile {
  readonly name: string;
  readonly frames: readonly Frame[];
  readonly bytes: number;
  readonly #file: ByteFile;
  readonly #decoder = new zstd.Decoder();
  #held = -1;
  #content: Uint8Array = Buffer.alloc(0);

  /**
   * @param file closed with this; also when it throws
   * @param labelBytes of a label in front of the frames
   * @param bytes decompressed, as is known from elsewhere
   * @throws EBADMSG if neither its frames nor its table tell where they are
   */
  constructor(file: ByteFile, labelBytes: number, bytes: number) {
    this.#file = file;
    this.name = file.name;
    this.bytes = bytes;
    const frames = this.#byTable() ?? this.#byFrames(labelBytes);
    if (frames === null) {
      file.close();
      throw stpError('EBADMSG', `${this.name} is damaged: its frames are not to be found`);
    }
    this.frames = frames.filter((frame) => frame.bytes > 0);
  }

  /** Null if the table cannot be that of the file. */
  #byTable(): Frame[] | null {
    const count = Buffer.alloc(FOOTER_BYTES);
    const { bytes } = this.#file;
    if (bytes < tableBytes(0)) return null;
    readAll(this.#file, count, bytes - FOOTER_BYTES);
    const whole = tableBytes(count.readUInt32LE(0));
    if (whole > bytes) return null;
    const table = Buffer.alloc(whole);
    readAll(this.#file, table, bytes - whole);
    const sizes: [number, number][] = [];
    for (let at = FRAME_HEAD_BYTES; at < whole - FOOTER_BYTES; at += ENTRY_BYTES) {
      sizes.push([table.readUInt32LE(at), table.readUInt32LE(at + 4)]);
    }
    return this.#framesOf(sizes, bytes - whole);
  }

  /** Null if they are not whole, one behind the other. */
  #byFrames(labelBytes: number): Frame[] | null {
    const sizes: [number, number][] = labelBytes > 0 ? [[labelBytes, 0]] : [];
    let at = labelBytes;
    for (;;) {
      const length = frameBytes(this.#file, at);
      if (length === 0) return this.#framesOf(sizes, at);
      const content = this.#decode(at, length);
      if (content === null) return null;
      sizes.push([length, content.length]);
      at += length;
    }
  }

  #framesOf(sizes: readonly (readonly [number, number])[], end: number): Frame[] | null {
    let [start, offset] = [0, 0];
    const frames = sizes.map(([compressed, bytes]) => {
      const frame = { start, compressed, offset, bytes };
      start += compressed;
      offset += bytes;
      return frame;
    });
    const fit = frames.every(({ bytes }) => bytes <= ZSTD_FRAME_BYTES);
    return fit && start === end && offset === this.bytes ? frames : null;
  }

  #decode(start: number, length: number): Buffer | null {
    try {
      return this.#decoder.decodeSync(this.raw({ start, compressed: length }));
    } catch (e) {
      if (e instanceof Error && 'syscall' in e) throw e;
      return null;
    }
  }

  /** As it is in the file. */
  raw({ start, compressed }: Pick<Frame, 'start' | 'compressed'>): Buffer {
    const bytes = Buffer.allocUnsafeSlow(compressed);
    readAll(this.#file, bytes, start);
    return bytes;
  }

  /** What it decompresses to; null if it does not. */
  content(frame: Frame): Buffer | null {
    const content = this.#decode(frame.start, frame.compressed);
    return content?.length === frame.bytes ? content : null;
  }

  /** Zeros where a frame does not decompress. */
  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    const frame = this.frames.findLast((f) => f.offset <= offset);
    if (frame === undefined || offset >= this.bytes) return 0;
    if (this.#held !== frame.start) {
      this.#content = this.content(frame) ?? Buffer.alloc(frame.bytes);
      this.#held = frame.start;
    }
    const from = offset - frame.offset;
    const count = Math.min(bytes, frame.bytes - from);
    into.set(this.#content.subarray(from, from + count), at);
    return count;
  }

  close(): void {
    this.#file.close();
  }
}

/** What is compressed in a file of frames. */
export class ZstdFile implements ByteFile {
  readonly name: string;
  readonly bytes: number;
  readonly #file: ByteFile;
  /** Where each frame begins, compressed and decompressed; one more for the end. */
  readonly #starts: Float64Array;
  readonly #offsets: Float64Array;
  readonly #decoder = new zstd.Decoder();
  #compressed = Buffer.alloc(0);
  #frame: Uint8Array = Buffer.alloc(0);
  #number = -1;

  /**
   * @param file closed with this; also when it throws
   * @throws EBADMSG if its table is damaged; EIO, ...
   */
  constructor(file: ByteFile) {
    this.#file = file;
    this.name = file.name;
    try {
      const table = this.#table();
      const frames = table.length / ENTRY_BYTES;
      this.#starts = new Float64Array(frames + 1);
      this.#offsets = new Float64Array(frames + 1);
      for (let i = 0; i < frames; i++) {
        const at = i * ENTRY_BYTES;
        this.#starts[i + 1] = (this.#starts[i] as number) + table.readUInt32LE(at);
        const bytes = table.readUInt32LE(at + 4);
        if (bytes > ZSTD_FRAME_BYTES) throw this.#damaged('a frame in its table is too large');
        this.#offsets[i + 1] = (this.#offsets[i] as number) + bytes;
      }
      if (this.#starts[frames] !== file.bytes - tableBytes(frames)) {
        throw this.#damaged('its table is not that of its frames');
      }
      this.bytes = this.#offsets[frames] as number;
    } catch (e) {
      file.close();
      throw e;
    }
  }

  #damaged(why: string): Error {
    return stpError('EBADMSG', `${this.name} is damaged: ${why}`);
  }

  /** Its entries alone. */
  #table(): Buffer {
    const { bytes } = this.#file;
    if (bytes < tableBytes(0)) throw this.#damaged('it was cut');
    const footer = Buffer.alloc(FOOTER_BYTES);
    readAll(this.#file, footer, bytes - FOOTER_BYTES);
    const frames = footer.readUInt32LE(0);
    const whole = tableBytes(frames);
    if (footer.readUInt32LE(5) !== FOOTER_MAGIC || footer[4] !== 0 || whole > bytes) {
      throw this.#damaged('it does not end in a table of its frames');
    }
    const head = Buffer.alloc(FRAME_HEAD_BYTES);
    readAll(this.#file, head, bytes - whole);
    const isOne =
      head.readUInt32LE(0) === TABLE_MAGIC && head.readUInt32LE(4) === whole - FRAME_HEAD_BYTES;
    if (!isOne) throw this.#damaged('its table does not begin as one');
    const table = Buffer.alloc(frames * ENTRY_BYTES);
    readAll(this.#file, table, bytes - whole + FRAME_HEAD_BYTES);
    return table;
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    if (offset >= this.bytes) return 0;
    const offsets = this.#offsets;
    const isHeld =
      this.#number >= 0 &&
      offset >= (offsets[this.#number] as number) &&
      offset < (offsets[this.#number + 1] as number);
    if (!isHeld) this.#load(lastAtMost(offsets, offset));
    const from = offset - (offsets[this.#number] as number);
    const count = Math.min(bytes, this.#frame.length - from);
    into.set(this.#frame.subarray(from, from + count), at);
    return count;
  }

  #load(number: number): void {
    this.#number = -1;
    const start = this.#starts[number] as number;
    const length = (this.#starts[number + 1] as number) - start;
    if (this.#compressed.length < length) this.#compressed = Buffer.allocUnsafeSlow(length);
    const compressed = this.#compressed.subarray(0, length);
    readAll(this.#file, compressed, start);
    const expected = (this.#offsets[number + 1] as number) - (this.#offsets[number] as number);
    let frame: Buffer;
    try {
      frame = this.#decoder.decodeSync(compressed);
    } catch {
      throw this.#damaged(`its frame at ${start} cannot be decompressed`);
    }
    if (frame.length !== expected) throw this.#damaged(`its frame at ${start} has another length`);
    this.#frame = frame;
    this.#number = number;
  }

  close(): void {
    this.#file.close();
  }
}

/** The last place whose value is at most `value`, of which there is one; equal ones count last. */
export function lastAtMost(sorted: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((sorted[middle] as number) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
