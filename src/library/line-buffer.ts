/**
 * Manifest lines as the bytes of a frame, until it goes.
 *
 * A file about which nothing is unusual has its line written here byte by byte: strings for its
 * numbers, their joining and their encoding take three times as long. The line is just what
 * `encodeEntry` says of the file. One thread.
 */
import { assert } from '../assert.js';
import type { TreeEntry } from '../source/file-tree.js';
import { putBytes, putDecimal, putDigits } from './decimal.js';
import { LINE_BYTES_MAX, LINES_BYTES_TARGET } from './frames.js';
import { SplitTime } from './nanoseconds.js';

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
const PATH = bytesOf('{"path":"');
const MTIME = bytesOf(',"mtimeNs":"');
const CTIME = bytesOf('","ctimeNs":"');
const INO = bytesOf('","ino":"');
const DATA_OFFSET = bytesOf(',"dataOffset":');
const BLAKE3 = bytesOf(',"blake3":"');
const END = bytesOf('"}\n');

/** Of an entry: the facts of its line, beside offsets and digest. */
export type PlainFile = Pick<
  TreeEntry,
  'path' | 'mode' | 'uid' | 'gid' | 'size' | 'mtimeNs' | 'ctimeNs' | 'ino' | 'dev'
>;

export class LineBuffer {
  readonly bytes = Buffer.allocUnsafeSlow(LINE_BYTES_MAX + LINES_BYTES_TARGET);
  length = 0;
  readonly #time = new SplitTime();
  readonly #word = new BigUint64Array(1);
  /** The same eight bytes: on every machine that this runs on, the low half comes first. */
  readonly #halves = new Uint32Array(this.#word.buffer);
  /** What stands between path and size, and between inode and offset: that of the file before, mostly. */
  #mode = -1;
  #uid = -1;
  #gid = -1;
  #owner = bytesOf('');
  #dev = -1n;
  #device = bytesOf('');

  clear(): void {
    this.length = 0;
  }

  /** True if lines of a text fit beside what is here. */
  hasRoomFor(text: string): boolean {
    const room = this.bytes.length - this.length;
    // No character has more than three bytes.
    return text.length * 3 <= room || Buffer.byteLength(text) <= room;
  }

  /** Lines, each with its newline. */
  put(text: string): void {
    assert(this.hasRoomFor(text), 'lines fit their frame');
    this.length += this.bytes.write(text, this.length);
  }

  /**
   * The line of a file. The caller empties the buffer before it holds more than a frame should.
   * @param file every byte of its path is a character that JSON has as it is
   * @param blake3 hex
   */
  putFile(file: PlainFile, headerOffset: number, dataOffset: number, blake3: string): void {
    const { bytes: into } = this;
    let at = putBytes(into, this.length, PATH);
    at = putBytes(into, at, file.path);
    at = putBytes(into, at, this.#ownerOf(file));
    at = putDecimal(into, at, file.size);
    at = putBytes(into, at, MTIME);
    at = this.#putTime(at, file.mtimeNs);
    at = putBytes(into, at, CTIME);
    at = this.#putTime(at, file.ctimeNs);
    at = putBytes(into, at, INO);
    at = this.#putInode(at, file.ino);
    at = putBytes(into, at, this.#deviceOf(file.dev));
    at = putDecimal(into, at, headerOffset);
    at = putBytes(into, at, DATA_OFFSET);
    at = putDecimal(into, at, dataOffset);
    at = putBytes(into, at, BLAKE3);
    for (let i = 0; i < blake3.length; i++) into[at + i] = blake3.charCodeAt(i);
    this.length = putBytes(into, at + blake3.length, END);
    assert(this.length <= into.length, 'lines fit their frame');
  }

  #ownerOf({ mode, uid, gid }: PlainFile): Buffer {
    if (mode !== this.#mode || uid !== this.#uid || gid !== this.#gid) {
      this.#mode = mode;
      this.#uid = uid;
      this.#gid = gid;
      this.#owner = bytesOf(`","type":"file","mode":${mode},"uid":${uid},"gid":${gid},"size":`);
    }
    return this.#owner;
  }

  #deviceOf(dev: bigint): Buffer {
    if (dev !== this.#dev) {
      this.#dev = dev;
      this.#device = bytesOf(`","dev":"${dev}","headerOffset":`);
    }
    return this.#device;
  }

  #putTime(at: number, ns: bigint): number {
    const time = this.#time;
    if (!time.set(ns)) return putBytes(this.bytes, at, bytesOf(String(ns)));
    if (time.seconds === 0) return putDecimal(this.bytes, at, time.nanos);
    return putDigits(this.bytes, putDecimal(this.bytes, at, time.seconds), 9, time.nanos);
  }

  #putInode(at: number, ino: bigint): number {
    this.#word[0] = ino;
    const high = this.#halves[1] as number;
    if (high >= 2 ** 21) return putBytes(this.bytes, at, bytesOf(String(ino)));
    return putDecimal(this.bytes, at, high * 2 ** 32 + (this.#halves[0] as number));
  }
}
