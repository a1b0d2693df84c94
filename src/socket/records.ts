/**
 * Small records over a stream of bytes: a length of 32 bits, little-endian, then so many bytes.
 *
 * Valid if and only if each length is at most the bound that both sides agreed on; a longer one is
 * EBADMSG, and the stream is of no use any more. A record may lie anywhere: across chunks, across
 * pages. Many records are moved at once, so that one costs a copy and no call of its own.
 *
 * Over any mechanism: a BlockingStream in a worker, or any Duplex, StpSocket and net.Socket alike.
 * The thread of the stream.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import { stpError } from '../errors.js';
import {
  RECORD_BATCH_BYTES,
  RECORD_BYTES_DEFAULT_MAX,
  RECORD_BYTES_MAX,
  RECORD_HEADER_BYTES,
} from '../limits.js';
import type { BlockingStream } from './blocking-stream.js';

/** What both sides of a stream of records must agree on. */
export interface RecordOptions {
  /** Longest record, 0 to 2^30; 1 MiB where absent. The same on both sides. */
  readonly recordBytesMax?: number;
}

function boundOf({ recordBytesMax = RECORD_BYTES_DEFAULT_MAX }: RecordOptions): number {
  if (
    !Number.isInteger(recordBytesMax) ||
    recordBytesMax < 0 ||
    recordBytesMax > RECORD_BYTES_MAX
  ) {
    throw stpError('EINVAL', `recordBytesMax is 0 to ${RECORD_BYTES_MAX}: ${recordBytesMax}`);
  }
  return recordBytesMax;
}

function checkLength(bytes: number, bytesMax: number): void {
  if (!(bytes <= bytesMax)) {
    throw stpError('EMSGSIZE', `a record of ${bytes} bytes; at most ${bytesMax} are agreed`);
  }
}

function putLength(into: Uint8Array, at: number, bytes: number): void {
  into[at] = bytes;
  into[at + 1] = bytes >>> 8;
  into[at + 2] = bytes >>> 16;
  into[at + 3] = bytes >>> 24;
}

const lengthAt = (from: Uint8Array, at: number): number =>
  ((from[at] as number) |
    ((from[at + 1] as number) << 8) |
    ((from[at + 2] as number) << 16) |
    ((from[at + 3] as number) << 24)) >>>
  0;

/** Gathers records with their lengths into one buffer. */
export class RecordEncoder {
  /** Where the batch stands; changes when it grows and with `take`. */
  buffer: Uint8Array = new Uint8Array(RECORD_BATCH_BYTES);
  #used = 0;
  readonly #bytesMax: number;

  constructor(options: RecordOptions = {}) {
    this.#bytesMax = boundOf(options);
  }

  /** Bytes gathered, lengths included. */
  get bytes(): number {
    return this.#used;
  }

  /** The batch is worth sending. */
  get full(): boolean {
    return this.#used >= RECORD_BATCH_BYTES / 2;
  }

  /** @throws EMSGSIZE (longer than the bound) */
  add(record: Uint8Array): void {
    this.buffer.set(record, this.place(record.length));
  }

  /**
   * For records that are written where they are sent from: the caller fills
   * `buffer[offset, offset + bytes)`, each byte.
   * @returns offset
   * @throws EMSGSIZE (longer than the bound), EINVAL
   */
  place(bytes: number): number {
    if (!(bytes <= this.#bytesMax)) {
      throw stpError(
        'EMSGSIZE',
        `a record of ${bytes} bytes; at most ${this.#bytesMax} are agreed`,
      );
    }
    if (bytes >>> 0 !== bytes) throw stpError('EINVAL', `not a number of bytes: ${bytes}`);
    const at = this.#used + RECORD_HEADER_BYTES;
    if (at + bytes > this.buffer.length) this.#grow(at + bytes);
    putLength(this.buffer, this.#used, bytes);
    this.#used = at + bytes;
    return at;
  }

  /** The batch, for good: the next one gets a buffer of its own. */
  take(): Uint8Array {
    const batch = this.buffer.subarray(0, this.#used);
    this.buffer = new Uint8Array(RECORD_BATCH_BYTES);
    this.#used = 0;
    return batch;
  }

  /** The batch was sent: its buffer is used again. */
  clear(): void {
    this.#used = 0;
    if (this.buffer.length > RECORD_BATCH_BYTES) this.buffer = new Uint8Array(RECORD_BATCH_BYTES);
  }

  #grow(bytes: number): void {
    const larger = new Uint8Array(Math.max(bytes, 2 * this.buffer.length));
    larger.set(this.buffer.subarray(0, this.#used));
    this.buffer = larger;
  }
}

/** Finds records in chunks of any length. */
export class RecordDecoder {
  /** The record that `next` has found: `buffer[offset, offset + length)`, until the next `push`. */
  buffer: Uint8Array = new Uint8Array(0);
  offset = 0;
  length = 0;
  readonly #bytesMax: number;
  #chunk: Uint8Array = this.buffer;
  #at = 0;
  /** A record that began in an earlier chunk: what of it there is, its length first. */
  #part: Uint8Array = this.buffer;
  #partBytes = 0;

  constructor(options: RecordOptions = {}) {
    this.#bytesMax = boundOf(options);
  }

  /** Bytes of a record that is not whole yet. Not 0 at the end of the stream: it was cut off. */
  get pending(): number {
    return this.#partBytes + this.#chunk.length - this.#at;
  }

  /** The next bytes of the stream. Not copied, unless a record ends in a later chunk. */
  push(chunk: Uint8Array): void {
    if (this.#at !== this.#chunk.length) {
      throw stpError('EINVAL', 'there are records left: call next until it says false');
    }
    this.#chunk = chunk;
    this.#at = 0;
  }

  /**
   * @returns true if a whole record is there: see `buffer`; false: push more
   * @throws EBADMSG (a length beyond the bound). Every later call throws it again
   */
  next(): boolean {
    if (this.#partBytes > 0) return this.#finishPart();
    const at = this.#at + RECORD_HEADER_BYTES;
    if (at <= this.#chunk.length) {
      const bytes = this.#check(lengthAt(this.#chunk, this.#at));
      if (at + bytes <= this.#chunk.length) {
        this.buffer = this.#chunk;
        this.offset = at;
        this.length = bytes;
        this.#at = at + bytes;
        return true;
      }
    }
    this.#keep(this.#chunk.length - this.#at);
    return false;
  }

  /** The record that `next` has found. */
  get record(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }

  #check(bytes: number): number {
    if (bytes <= this.#bytesMax) return bytes;
    throw stpError(
      'EBADMSG',
      `a record says that it has ${bytes} bytes; at most ${this.#bytesMax} are agreed: reset the stream`,
      'read',
    );
  }

  #finishPart(): boolean {
    if (this.#partBytes < RECORD_HEADER_BYTES) {
      this.#keep(Math.min(RECORD_HEADER_BYTES - this.#partBytes, this.#chunk.length - this.#at));
      if (this.#partBytes < RECORD_HEADER_BYTES) return false;
    }
    const bytes = this.#check(lengthAt(this.#part, 0));
    const missing = RECORD_HEADER_BYTES + bytes - this.#partBytes;
    const left = this.#chunk.length - this.#at;
    if (missing > left) {
      this.#keep(left);
      return false;
    }
    this.#keep(missing);
    this.buffer = this.#part;
    this.offset = RECORD_HEADER_BYTES;
    this.length = bytes;
    this.#partBytes = 0;
    return true;
  }

  /** Moves so many bytes of the chunk to the record that is not whole. Memory follows what has
   * arrived, never what a length only says. */
  #keep(bytes: number): void {
    if (bytes === 0) return;
    const whole = this.#partBytes + bytes;
    /* A buffer that a record was found in is somebody's until the next push. */
    if (whole > this.#part.length || (this.#partBytes === 0 && this.buffer === this.#part)) {
      const larger = new Uint8Array(Math.max(whole, 2 * this.#partBytes, 256));
      larger.set(this.#part.subarray(0, this.#partBytes));
      this.#part = larger;
    }
    this.#part.set(this.#chunk.subarray(this.#at, this.#at + bytes), this.#partBytes);
    this.#partBytes = whole;
    this.#at += bytes;
  }
}

const cutOff = (bytes: number): Error =>
  stpError('EBADMSG', `the stream ended within a record, after ${bytes} bytes of it`, 'read');

// --- in worker threads -------------------------------------------------------------------------

/** Sends records over a blocking stream, many with one native call. */
export class RecordSender {
  readonly #stream: BlockingStream;
  readonly #encoder: RecordEncoder;
  readonly #bytesMax: number;

  constructor(stream: BlockingStream, options: RecordOptions = {}) {
    this.#stream = stream;
    this.#bytesMax = boundOf(options);
    this.#encoder = new RecordEncoder(options);
  }

  /**
   * The record is sent with others; `flush` sends what waits.
   * @throws EMSGSIZE, and as BlockingStream.send
   */
  send(record: Uint8Array): void {
    checkLength(record.length, this.#bytesMax);
    if (record.length > RECORD_BATCH_BYTES / 2) {
      this.flush();
      this.#stream.sendRecords([record]);
      return;
    }
    this.#encoder.add(record);
    if (this.#encoder.full) this.flush();
  }

  /** All of them, at once, with what waits before them. @throws as send; then nothing of it is sent */
  sendAll(records: readonly Uint8Array[]): void {
    for (const { length } of records) checkLength(length, this.#bytesMax);
    this.flush();
    this.#stream.sendRecords(records);
  }

  /**
   * As sendAll, without an object for each.
   * @param data where they lie
   * @param spans offset and length of each, in turn
   * @param count of records; as many as `spans` has where absent
   * @throws ERANGE (a span that is not within `data`), and as send
   */
  sendFlat(data: Uint8Array, spans: Uint32Array, count = spans.length >>> 1): void {
    for (let i = 0; i < count; i++) checkLength(spans[2 * i + 1] as number, this.#bytesMax);
    this.flush();
    this.#stream.sendRecordsFlat(data, spans, count);
  }

  /** What waits goes into the array; blocks while the window is full. @throws as BlockingStream.send */
  flush(): void {
    const { bytes, buffer } = this.#encoder;
    if (bytes === 0) return;
    this.#stream.send(buffer, 0, bytes);
    this.#encoder.clear();
  }
}

/** Receives records from a blocking stream, many with one native call. */
export class RecordReceiver {
  readonly #stream: BlockingStream;
  readonly #decoder: RecordDecoder;
  readonly #into = new Uint8Array(RECORD_BATCH_BYTES);

  constructor(stream: BlockingStream, options: RecordOptions = {}) {
    this.#stream = stream;
    this.#decoder = new RecordDecoder(options);
  }

  /**
   * Blocks for a record.
   * @returns true: it lies in `buffer[offset, offset + length)` until the next call; false: the end
   * @throws EBADMSG (a length beyond the bound, or an end within a record), and as receive
   */
  next(): boolean {
    while (!this.#decoder.next()) {
      const got = this.#stream.receive(this.#into);
      if (got === 0) {
        if (this.#decoder.pending > 0) throw cutOff(this.#decoder.pending);
        return false;
      }
      this.#decoder.push(got === this.#into.length ? this.#into : this.#into.subarray(0, got));
    }
    return true;
  }

  /** Where the record of `next` lies. */
  get buffer(): Uint8Array {
    return this.#decoder.buffer;
  }

  /** Of the record in `buffer`, bytes. */
  get offset(): number {
    return this.#decoder.offset;
  }

  /** Of the record, bytes. */
  get length(): number {
    return this.#decoder.length;
  }

  /**
   * Blocks for a record: a view that is valid until the next call, or null at the end.
   * @throws as next
   */
  receive(): Uint8Array | null {
    return this.next() ? this.#decoder.record : null;
  }
}

// --- on event loops ----------------------------------------------------------------------------

/** Writes records to a Node stream: those of one turn of the event loop with one `write`. */
export class RecordWriter {
  readonly #stream: Writable;
  readonly #encoder: RecordEncoder;
  #scheduled = false;

  constructor(stream: Writable, options: RecordOptions = {}) {
    this.#stream = stream;
    this.#encoder = new RecordEncoder(options);
  }

  /**
   * @returns as `write`: false where the stream has enough; go on after its 'drain'
   * @throws EMSGSIZE
   */
  send(record: Uint8Array): boolean {
    this.#encoder.add(record);
    if (this.#encoder.full) return this.flush();
    if (!this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(() => {
        this.#scheduled = false;
        this.flush();
      });
    }
    return !this.#stream.writableNeedDrain;
  }

  /** What waits is written now. Before `end()` of the stream. */
  flush(): boolean {
    if (this.#encoder.bytes === 0 || this.#stream.destroyed) return !this.#stream.writableNeedDrain;
    return this.#stream.write(this.#encoder.take());
  }

  /** Writes what waits and ends the stream. */
  end(): void {
    this.flush();
    this.#stream.end();
  }
}

/**
 * Calls `onRecord` for each record that a Node stream brings, within its 'data' events. A length
 * beyond the bound, or an end within a record, destroys the stream with EBADMSG.
 * @param onRecord the view is valid until it returns
 */
export function onRecords(
  stream: Readable | Duplex,
  onRecord: (record: Uint8Array) => void,
  options: RecordOptions = {},
): void {
  const decoder = new RecordDecoder(options);
  const next = (): boolean => {
    try {
      return !stream.destroyed && decoder.next();
    } catch (error) {
      stream.destroy(error as Error);
      return false;
    }
  };
  const drain = (): void => {
    let done = false;
    try {
      while (next()) onRecord(decoder.record);
      done = true;
    } finally {
      /* Of the application's callback: if the program goes on after it, so do the records. */
      if (!done) process.nextTick(drain);
    }
  };
  stream.on('data', (chunk: Uint8Array) => {
    if (stream.destroyed) return;
    decoder.push(chunk);
    drain();
  });
  stream.once('end', () => {
    if (decoder.pending > 0) stream.destroy(cutOff(decoder.pending));
  });
}

/**
 * The records of a Node stream, one after the other; back-pressure is the loop's.
 * @throws EBADMSG, and the stream's own errors
 */
export async function* recordsOf(
  stream: Readable | Duplex,
  options: RecordOptions = {},
): AsyncGenerator<Uint8Array, void> {
  const decoder = new RecordDecoder(options);
  for await (const chunk of stream) {
    decoder.push(chunk as Uint8Array);
    while (decoder.next()) yield decoder.record;
  }
  if (decoder.pending > 0) throw cutOff(decoder.pending);
}
