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
