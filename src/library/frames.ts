/**
 * Frames: how a backup and a restore share one byte stream between file bytes and records.
 *
 *   offset  bytes
 *   0       4      type, an FRAME_ number, little-endian
 *   4       4      flags: 0 today; another value is refused
 *   8       8      length of what follows, little-endian
 *   16      length
 *
 *   type     payload                                                        direction
 *   MEDIA    bytes of tar members, whole blocks, appended to the media      backup
 *   ENTRY    manifest lines of entries, each with its newline               both; restore: one line
 *   DATA     the data of the file whose ENTRY came before, all of it        restore
 *   WARNING  one manifest line of a warning                                 backup
 *   END      one JSON object: totals. Nothing follows                       both
 *   MORE     one byte: the client asks for the next part of the list        backup, incremental
 *   LIST     bytes of the parent's list (tree-index.ts); answers MORE       to the client
 *   BLOCKS   block hashes (blocks.ts): of a file whose ENTRY is to come     backup
 *            or those that WANT asked for; one byte: they are not there     to the client
 *   WANT     56 bytes: the client asks for the block hashes of a file,      backup, incremental
 *            by their place (list-transfer.ts)
 *   PAD      zeros, so that much data begins at a page; passed over         both
 *   FILE     the data of one large file, then its BLAKE3: appended to the   backup
 *            media, with zeros behind it up to whole blocks
 *
 * Valid if and only if the order holds, too: see store.ts and restore.ts. An entry comes after the
 * MEDIA and FILE bytes it names, since it carries their digest. A MEDIA frame holds whole members: one,
 * or as many small ones as fit a page, and last perhaps the header of a FILE frame that follows.
 *
 * Both ends move pages, not messages: a writer fills what the stream reserves (file bytes by
 * read(2) straight into the page) and commits when a page is full; a reader works on what it peeks
 * (write(2) straight from the page). So a small file costs no call of the stream of its own.
 * Whatever the peer wrote is hostile: numbers are copied out once, then checked.
 *
 * Worker threads; the stream's calls block.
 */
import { readSync } from 'node:fs';
import { assert } from '../assert.js';
import { isCoded, stpError } from '../errors.js';
import { native } from '../native.js';
import { BLOCK_LIST_BYTES_MAX } from './blocks.js';
import { paddedBytes, TAR_BLOCK_BYTES } from './pax.js';
import { writeAll } from './write-all.js';

export const FRAME_HEADER_BYTES = 16;

export const FRAME_MEDIA = 1;
export const FRAME_ENTRY = 2;
export const FRAME_WARNING = 3;
export const FRAME_END = 4;
export const FRAME_DATA = 5;
export const FRAME_MORE = 6;
export const FRAME_LIST = 7;
export const FRAME_BLOCKS = 8;
export const FRAME_WANT = 9;
export const FRAME_PAD = 10;
export const FRAME_FILE = 11;
/** A raw BLAKE3, behind the data of a FILE frame. */
export const FILE_DIGEST_BYTES = 32;

/**
 * One manifest line, newline included: two paths with every byte escaped, 128 KiB of attributes in
 * base64, and the numbers.
 */
export const LINE_BYTES_MAX = 512 * 1024;
/** One answer to MORE: some thousand entries, and little beside the window of a stream. */
export const LIST_BYTES_MAX = 1 << 20;
/** Set and medium (u16, u16, zeros up to 8), offset, bytes (f64), BLAKE3 of a block list. */
export const WANT_BYTES = 56;
/** Lines gathered into one ENTRY frame; more than this of them are sent before the next. */
export const LINES_BYTES_TARGET = 16 * 1024;

/**
 * So much data of a file goes in a FILE frame, and begins at a page. BLAKE3 is a tree over pieces of
 * 2^n KiB: pages that begin elsewhere in the file cost it a third more time. What is passed over is
 * less than a hundredth of the data.
 */
export const LARGE_DATA_BYTES = 4 << 20;
/** Data behind more than this begins where it begins. */
const HEAD_BYTES_MAX = 16 << 10;
/** To the end of this page, or of the next, or across its last bytes first. */
const PADDINGS_MAX = 3;
/** More than a page of either mechanism. */
const PAD_BYTES_MAX = 1 << 20;

/** Longest payload by type: records are held in memory, file bytes are not. */
const lengthMax: readonly number[] = [
  -1,
  Number.MAX_SAFE_INTEGER,
  LINE_BYTES_MAX + LINES_BYTES_TARGET,
  LINE_BYTES_MAX,
  LINE_BYTES_MAX,
  Number.MAX_SAFE_INTEGER,
  1,
  LIST_BYTES_MAX,
  BLOCK_LIST_BYTES_MAX,
  WANT_BYTES,
  PAD_BYTES_MAX,
  Number.MAX_SAFE_INTEGER,
];
const names = [
  '',
  'MEDIA',
  'ENTRY',
  'WARNING',
  'END',
  'DATA',
  'MORE',
  'LIST',
  'BLOCKS',
  'WANT',
  'PAD',
  'FILE',
] as const;

export const frameName = (type: number): string => names[type] || `frame type ${type}`;

/** The sending half of a blocking stream. */
export interface PageSink {
  /** Blocks for room; 1 byte to a page of shared memory. The same room again until committed. */
  reserve(): Uint8Array;
  commit(bytes: number): void;
}

/** The receiving half of a blocking stream. */
export interface PageSource {
  /** Blocks; the readable bytes up to the end of a page, null at the orderly end. */
  peek(): Uint8Array | null;
  consume(bytes: number): void;
}

/** What a digest over bytes on their way offers. */
export interface Digest {
  update(bytes: Uint8Array): unknown;
}

/** Bytes by position; 0 at the end. */
export interface ByteReader {
  read(into: Uint8Array, at: number, bytes: number, offset: number): number;
}

/** Why a header is not one; null if it is. `length` was read as two 32-bit halves. */
export function frameProblem(
  type: number,
  flags: number,
  low: number,
  high: number,
): string | null {
  const max = lengthMax[type];
  if (max === undefined || max < 0) return `frame type ${type} is unknown`;
  if (flags !== 0) return `flags ${flags} of a ${frameName(type)} frame are unknown`;
  const length = high * 2 ** 32 + low;
  if (length > max) return `a ${frameName(type)} frame of ${length} bytes is longer than ${max}`;
  if (length === 0) return `a ${frameName(type)} frame is empty`;
  if (type === FRAME_MEDIA && length % TAR_BLOCK_BYTES !== 0) {
    return `a MEDIA frame of ${length} bytes is not made of whole blocks`;
  }
  if (type === FRAME_FILE && length < LARGE_DATA_BYTES + FILE_DIGEST_BYTES) {
    return `a FILE frame of ${length} bytes is none of a large file`;
  }
  return null;
}

export const protocolError = (problem: string): Error =>
  stpError('EPROTO', `the peer broke the stream's rules: ${problem}`);

/** What an END frame says, for the receiver to compare with what it counted itself. */
export interface Totals {
  readonly entries: number;
  /** Of file data. */
  readonly bytes: number;
  readonly warnings: number;
}

export const encodeTotals = ({ entries, bytes, warnings }: Totals): Buffer =>
  Buffer.from(JSON.stringify({ entries, bytes, warnings }));

/** @throws EPROTO if the payload of an END frame does not say just what was counted */
export function assertTotals(payload: Buffer, counted: Totals): void {
  const said = payload.toString();
  const expected = encodeTotals(counted).toString();
  if (said === expected) return;
  throw protocolError(`its END frame says ${said.slice(0, 200)}, received was ${expected}`);
}

export class FrameWriter {
  readonly #sink: PageSink;
  #view: Uint8Array = new Uint8Array(0);
  #filled = 0;
  /** Where in the view the header of the open MEDIA frame stands; -1 if none is open. */
  #openAt = -1;
  /** Payload bytes that the last header promised and that are still to come. */
  #owed = 0;
  /** What comes behind the data of the member that was begun: padding, or a digest. */
  #tailBytes = 0;
  #isFile = false;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);

  constructor(sink: PageSink) {
    this.#sink = sink;
  }

  /**
   * Announces `bytes` more of media, which must follow through `put`, `putFile` and `putZeros`.
   * Members that fit the page share a frame, whose length is written when the page goes.
   */
  beginMedia(bytes: number): void {
    assert(bytes > 0 && bytes % TAR_BLOCK_BYTES === 0, 'media consists of whole blocks');
    assert(this.#owed === 0, 'the frame before is complete');
    const room = this.#room();
    if (this.#openAt >= 0 && bytes <= room) {
      this.#owed = bytes;
      return;
    }
    this.#closeMedia();
    if (bytes + FRAME_HEADER_BYTES <= room) {
      this.#openAt = this.#filled;
      this.#filled += FRAME_HEADER_BYTES;
      this.#owed = bytes;
      return;
    }
    this.begin(FRAME_MEDIA, bytes);
  }

  /** True if so much of a member fits what is left of the page. */
  hasRoomFor(memberBytes: number): boolean {
    const frameHeader = this.#openAt >= 0 ? 0 : FRAME_HEADER_BYTES;
    return this.#room() >= frameHeader + memberBytes;
  }

  /** A member that is at hand. */
  putWhole(member: Uint8Array): void {
    this.beginMedia(member.length);
    this.put(member, 0, member.length);
  }

  /**
   * A member that fits what is left of the page (`hasRoomFor`), as part of the open MEDIA frame or of
   * a new one.
   * @param make puts it at a place of the page; where it says no, nothing is sent
   * @returns the member as it lies there, until more is put; null if nothing was sent
   */
  putMember(bytes: number, make: (view: Uint8Array, at: number) => boolean): Uint8Array | null {
    assert(this.#owed === 0, 'the frame before is complete');
    assert(this.hasRoomFor(bytes), 'the member fits the page');
    const start = this.#filled + (this.#openAt >= 0 ? 0 : FRAME_HEADER_BYTES);
    if (!make(this.#view, start)) return null;
    if (this.#openAt < 0) this.#openAt = this.#filled;
    this.#filled = start + bytes;
    return this.#view.subarray(start, this.#filled);
  }

  /** Starts a frame of known length; its payload must follow. */
  begin(type: number, bytes: number): void {
    assert(this.#owed === 0, 'the frame before is complete');
    this.#closeMedia();
    putHeader(this.#header, 0, type, bytes);
    this.#owed = FRAME_HEADER_BYTES + bytes;
    this.put(this.#header, 0, FRAME_HEADER_BYTES);
  }

  /**
   * Comes before a frame with `bytes` of data behind `head` bytes of its payload: where it is much data,
   * it will begin at a page.
   */
  align(bytes: number, head = 0): void {
    if (bytes < LARGE_DATA_BYTES) return;
    const behind = FRAME_HEADER_BYTES + head;
    if (behind > HEAD_BYTES_MAX) return;
    this.#closeMedia();
    // What is left of this page may have no room for both headers, and that of the next then has.
    for (let paddings = 0; paddings < PADDINGS_MAX && this.#room() !== behind; paddings++) {
      const spare = this.#room() - FRAME_HEADER_BYTES;
      this.#pad(spare > behind ? spare - behind : Math.max(spare, 1));
    }
  }

  #pad(bytes: number): void {
    this.begin(FRAME_PAD, bytes);
    this.putZeros(bytes);
  }

  /**
   * The header of a member, and the frame of its data, which follows through `put`, `putFile` and
   * `putZeros`; then `endMember`.
   * @param isLarge its data goes in a FILE frame
   */
  beginMember(header: Uint8Array, headerBytes: number, bytes: number, isLarge: boolean): void {
    this.#isFile = isLarge;
    if (!isLarge) {
      this.#tailBytes = paddedBytes(bytes) - bytes;
      this.beginMedia(headerBytes + bytes + this.#tailBytes);
      this.put(header, 0, headerBytes);
      return;
    }
    this.#tailBytes = FILE_DIGEST_BYTES;
    this.align(bytes, headerBytes + FRAME_HEADER_BYTES);
    this.beginMedia(headerBytes);
    this.put(header, 0, headerBytes);
    this.begin(FRAME_FILE, bytes + FILE_DIGEST_BYTES);
  }

  /** Bytes of the member's data that are still to come. */
  get owedData(): number {
    return this.#owed - this.#tailBytes;
  }

  /** @param blake3 of the data, in hex; null without data */
  endMember(blake3: string | null): void {
    assert(this.owedData === 0, 'all data of the member was sent');
    if (!this.#isFile) this.putZeros(this.#tailBytes);
    else this.put(Buffer.from(blake3 ?? '', 'hex'), 0, FILE_DIGEST_BYTES);
    this.#tailBytes = 0;
  }

  /** A frame whose payload is at hand. */
  frame(type: number, payload: Uint8Array, bytes = payload.length): void {
    this.begin(type, bytes);
    this.put(payload, 0, bytes);
  }

  put(data: Uint8Array, start: number, end: number): void {
    this.#pay(end - start);
    for (let at = start; at < end; ) {
      const bytes = Math.min(end - at, this.#room());
      native().copyBytes(data, at, at + bytes, this.#view, this.#filled);
      this.#filled += bytes;
      at += bytes;
    }
  }

  /** Zeros, past `digest` where they stand for data. */
  putZeros(count: number, digest: Digest | null = null): void {
    this.#pay(count);
    for (let left = count; left > 0; ) {
      const bytes = Math.min(left, this.#room());
      const end = this.#filled + bytes;
      this.#view.fill(0, this.#filled, end);
      digest?.update(this.#view.subarray(this.#filled, end));
      this.#filled = end;
      left -= bytes;
    }
  }

  /**
   * Moves `bytes` of a file from `position` on, by read(2) straight into the page, past `digest`.
   * @returns the bytes moved: fewer than asked for only at the end of the file; the caller then
   *   owes the rest
   * @throws FileReadError if the file fails: the frame stays consistent, the caller owes the rest
   */
  putFile(fd: number, position: number, bytes: number, digest: Digest | null): number {
    this.#file.fd = fd;
    return this.putFrom(this.#file, position, bytes, digest);
  }
  readonly #file = new FileBytes();

  /** The same from anything that is read by position; what it throws passes. */
  putFrom(from: ByteReader, position: number, bytes: number, digest: Digest | null): number {
    let moved = 0;
    while (moved < bytes) {
      const room = Math.min(bytes - moved, this.#room());
      const read = from.read(this.#view, this.#filled, room, position + moved);
      if (read === 0) break;
      digest?.update(this.#view.subarray(this.#filled, this.#filled + read));
      this.#pay(read);
      this.#filled += read;
      moved += read;
    }
    return moved;
  }

  /** Payload bytes announced and still to come. */
  get owed(): number {
    return this.#owed;
  }

  /** Hands over what is filled so far. */
  flush(): void {
    assert(this.#owed === 0, 'the frame before is complete');
    this.#closeMedia();
    this.#commit();
  }

  #pay(bytes: number): void {
    assert(bytes <= this.#owed, 'no more payload than announced');
    this.#owed -= bytes;
  }

  #room(): number {
    if (this.#filled < this.#view.length) return this.#view.length - this.#filled;
    this.#closeMedia();
    this.#commit();
    this.#view = this.#sink.reserve();
    assert(this.#view.length > 0, 'a reservation has room');
    return this.#view.length;
  }

  #commit(): void {
    if (this.#filled > 0) this.#sink.commit(this.#filled);
    this.#view = new Uint8Array(0);
    this.#filled = 0;
  }

  #closeMedia(): void {
    if (this.#openAt < 0) return;
    const bytes = this.#filled - this.#openAt - FRAME_HEADER_BYTES;
    putHeader(this.#view, this.#openAt, FRAME_MEDIA, bytes);
    this.#openAt = -1;
  }
}

/** A file that could not be read, as opposed to a stream that could not be written. */
export class FileReadError extends Error {
  override readonly name = 'FileReadError';
  constructor(readonly code: string) {
    super(`${code}: a file could not be read`);
  }
}

class FileBytes implements ByteReader {
  fd = -1;
  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    try {
      return readSync(this.fd, into, at, bytes, offset);
    } catch (e) {
      throw isCoded(e) ? new FileReadError(e.code) : e;
    }
  }
}

function putHeader(into: Uint8Array, at: number, type: number, length: number): void {
  const high = Math.floor(length / 2 ** 32);
  for (let i = 0; i < 4; i++) {
    into[at + i] = type >>> (8 * i);
    into[at + 4 + i] = 0;
    into[at + 8 + i] = length >>> (8 * i);
    into[at + 12 + i] = high >>> (8 * i);
  }
}

export class FrameReader {
  readonly #source: PageSource;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #payload = Buffer.allocUnsafeSlow(LINES_BYTES_TARGET * 2);
  #owed = 0;
  /** Of the frame that `next` found. */
  type = 0;
  length = 0;

  constructor(source: PageSource) {
    this.#source = source;
  }

  /**
   * Reads the next header, past padding; the payload of the frame before must have been taken.
   * @returns false at the orderly end of the stream
   * @throws EPROTO if the header is not one, or the stream ends in it
   */
  next(): boolean {
    assert(this.#owed === 0, 'the frame before was taken');
    while (this.#nextOfAny()) {
      if (this.type !== FRAME_PAD) return true;
      this.toFile(-1, null);
    }
    return false;
  }

  #nextOfAny(): boolean {
    this.type = 0;
    if (!this.#copy(this.#header, FRAME_HEADER_BYTES)) return false;
    const type = this.#header.readUInt32LE(0);
    const flags = this.#header.readUInt32LE(4);
    const low = this.#header.readUInt32LE(8);
    const high = this.#header.readUInt32LE(12);
    const problem = frameProblem(type, flags, low, high);
    if (problem !== null) throw protocolError(problem);
    this.type = type;
    this.length = high * 2 ** 32 + low;
    this.#owed = this.length;
    return true;
  }

  /**
   * The payload of a record frame, copied out of shared memory; valid until the next call.
   * @throws EPROTO if the stream ends in it
   */
  payload(): Buffer {
    const isData = [FRAME_MEDIA, FRAME_FILE, FRAME_DATA].includes(this.type);
    assert(!isData, 'file bytes are not held');
    const bytes = this.#owed;
    if (this.#payload.length < bytes) this.#payload = Buffer.allocUnsafeSlow(bytes);
    const into = this.#payload.subarray(0, bytes);
    if (!this.#copy(into, bytes)) throw this.#ended();
    this.#owed = 0;
    return into;
  }

  /**
   * Appends the payload at the file's position by write(2) straight from the page, past `digest`.
   * With fd -1 it is read and dropped.
   */
  toFile(fd: number, digest: Digest | null): void {
    this.partToFile(fd, digest, this.#owed, null);
  }

  /** As `toFile`, for the next `count` bytes of the payload, from `position` of the file on. */
  partToFile(fd: number, digest: Digest | null, count: number, position: number | null): void {
    let at = position;
    this.pass(count, (page) => {
      if (fd < 0) return;
      digest?.update(page);
      writeAll(fd, page, page.length, at);
      if (at !== null) at += page.length;
    });
  }

  /**
   * Passes the next `count` bytes of the payload on, from where they are: a view is good during its
   * call only, and whoever sends may still change what it shows.
   */
  pass(count: number, to: (page: Uint8Array) => void): void {
    assert(count <= this.#owed, 'a part is within its frame');
    for (let left = count; left > 0; ) {
      const page = this.#source.peek();
      if (page === null) throw this.#ended();
      const bytes = Math.min(page.length, left);
      to(bytes === page.length ? page : page.subarray(0, bytes));
      this.#source.consume(bytes);
      this.#owed -= bytes;
      left -= bytes;
    }
  }

  /** Copies the next bytes of the payload out, as many as `into` has. */
  take(into: Buffer): void {
    assert(into.length <= this.#owed, 'a part is within its frame');
    if (!this.#copy(into, into.length)) throw this.#ended();
    this.#owed -= into.length;
  }

  /** Bytes of the payload that nobody has taken yet. */
  get owed(): number {
    return this.#owed;
  }

  /** False if the stream ended before the first byte. */
  #copy(into: Buffer, bytes: number): boolean {
    for (let at = 0; at < bytes; ) {
      const page = this.#source.peek();
      if (page === null) {
        if (at === 0) return false;
        throw this.#ended();
      }
      const taken = Math.min(page.length, bytes - at);
      into.set(page.length === taken ? page : page.subarray(0, taken), at);
      this.#source.consume(taken);
      at += taken;
    }
    return true;
  }

  #ended(): Error {
    const where = this.type === 0 ? 'header' : frameName(this.type);
    return protocolError(`the stream ended inside a frame (${where})`);
  }
}
