/**
 * A stream for a worker thread: calls that block, and pages in place.
 *
 * Waiting is native, in slices of 50 ms that return to JavaScript, so that `process.exit`,
 * uncaught exceptions and `worker.terminate()` work while a call blocks. The thread that owns the
 * socket need not run meanwhile: the peer's bells and its death are seen here.
 *
 * One thread at a time for each direction. The views of `reserve` and `peek` lie in shared memory
 * and are valid until `commit` or `consume`.
 */
import { writeSync } from 'node:fs';
import { stpError } from '../errors.js';
import { WAIT_SLICE_MS } from '../limits.js';
import {
  openRing,
  RING_END,
  RING_NO_PAGE,
  ringError,
  viewBytes,
  viewOffset,
} from '../memory/page-ring.js';
import { Segment } from '../memory/segment.js';
import { native } from '../native.js';
import type { StreamHandle } from './stp-socket.js';
import type { Peer } from './stream-end.js';

/** A full pool is tried again after this. */
const NO_PAGE_RETRY_MS = 2;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));

export class BlockingStream {
  readonly localPort: number;
  readonly remotePort: number;
  readonly peer: Peer;
  readonly segment: Segment;
  bytesSent = 0;
  bytesReceived = 0;
  readonly #tx: number;
  readonly #rx: number;
  readonly #port: StreamHandle['port'];
  #leading: Uint8Array;
  #leadingPeeked = false;
  #closed = false;
  #finished = false;

  constructor(handle: StreamHandle) {
    this.segment = new Segment(handle.segment);
    this.localPort = handle.localPort;
    this.remotePort = handle.remotePort;
    this.peer = handle.peer;
    this.#tx = openRing(handle.ring, true, handle.txCursor);
    this.#rx = openRing(handle.ring, false, handle.rxCursor);
    this.#leading = handle.leading;
    this.#port = handle.port;
  }

  /**
   * How long a call looks before it sleeps, microseconds; 50 by default, 0 on one core. A thread
   * that waits for short answers may spin longer: it owns its core meanwhile.
   */
  setSpin(microseconds: number): void {
    native().ringSetSpin(this.#tx, microseconds);
    native().ringSetSpin(this.#rx, microseconds);
  }

  /** Most bytes in flight from here, 64 KiB to 4 MiB. */
  setWindow(bytes: number): void {
    native().ringSetLimit(this.#tx, bytes);
  }

  /**
   * Puts all bytes into the array; blocks while the window is full.
   * @throws ECONNRESET, EPIPE (the peer reads no more, or shutdown was called)
   */
  send(data: Uint8Array, offset = 0, bytes = data.length - offset): void {
    this.#writable();
    let at = offset;
    const end = offset + bytes;
    while (at < end) {
      const sent = native().ringWrite(this.#tx, data, at, end - at, WAIT_SLICE_MS);
      if (sent > 0) at += sent;
      else if (sent < 0) this.#again(sent, 'write');
    }
    this.bytesSent += bytes;
  }

  /**
   * Blocks until bytes are there.
   * @returns 1 to `into.length` bytes, or 0 at the orderly end
   * @throws ECONNRESET
   */
  receive(into: Uint8Array): number {
    this.#open();
    if (this.#leading.length > 0) return this.#receiveLeading(into);
    if (into.length === 0) return 0;
    for (;;) {
      const got = native().ringRead(this.#rx, into, 0, into.length, WAIT_SLICE_MS);
      if (got > 0) {
        this.bytesReceived += got;
        return got;
      }
      if (got === RING_END) return 0;
      if (got < 0) this.#again(got, 'read');
      else native().ringReleaseIdle(this.#tx); /* a slice went by: what we sent may be read */
    }
  }

  #receiveLeading(into: Uint8Array): number {
    const bytes = Math.min(into.length, this.#leading.length);
    into.set(this.#leading.subarray(0, bytes));
    this.#leading = this.#leading.subarray(bytes);
    this.bytesReceived += bytes;
    return bytes;
  }

  /** Blocks for room; a view of 1 to 65536 bytes of one page. Each byte must be written. */
  reserve(): Uint8Array {
    this.#writable();
    for (;;) {
      const packed = native().ringReserve(this.#tx, WAIT_SLICE_MS);
      if (packed > 0) return this.#view(packed);
      if (packed < 0) this.#again(packed, 'write');
    }
  }

  /** Publishes the first `bytes` of the reserved view. EINVAL beyond what was reserved. */
  commit(bytes: number): void {
    this.#open();
    const done = native().ringCommit(this.#tx, bytes);
    if (done < 0) throw ringError(done, 'write');
    this.bytesSent += bytes;
  }

  /** Blocks for bytes; a view up to the end of their page, or null at the orderly end. */
  peek(): Uint8Array | null {
    this.#open();
    if (this.#leading.length > 0) {
      this.#leadingPeeked = true;
      return this.#leading;
    }
    for (;;) {
      const packed = native().ringPeek(this.#rx, WAIT_SLICE_MS);
      if (packed > 0) return this.#view(packed);
      if (packed === RING_END) return null;
      if (packed < 0) this.#again(packed, 'read');
      else native().ringReleaseIdle(this.#tx);
    }
  }

  /** Gives the first `bytes` of the peeked view back. EINVAL beyond what was peeked. */
  consume(bytes: number): void {
    this.#open();
    if (this.#leadingPeeked) {
      this.#leadingPeeked = false;
      if (bytes > this.#leading.length) throw stpError('EINVAL', 'more than was peeked', 'read');
      this.#leading = this.#leading.subarray(bytes);
    } else {
      const done = native().ringConsume(this.#rx, bytes);
      if (done < 0) throw ringError(done, 'read');
    }
    this.bytesReceived += bytes;
  }

  /**
   * read(2) from the file straight into pages.
   * @param position where in the file; -1: where it stands
   * @returns bytes moved; less than `bytes` only at the end of the file
   */
  sendFile(fd: number, position: number, bytes: number): number {
    this.#writable();
    let moved = 0;
    while (moved < bytes) {
      const at = position < 0 ? -1 : position + moved;
      const got = native().ringFillFromFile(this.#tx, fd, at, bytes - moved, WAIT_SLICE_MS);
      if (got > 0) moved += got;
      else if (got === RING_END) break;
      else if (got < 0) this.#again(got, 'read');
    }
    this.bytesSent += moved;
    return moved;
  }

  /**
   * write(2) from pages straight into the file.
   * @param position where in the file; -1: where it stands
   * @returns bytes moved; less than `bytes` only at the orderly end
   * @throws the file's errors (ENOSPC, EIO, ...) as well as ECONNRESET
   */
  receiveToFile(fd: number, position: number, bytes: number): number {
    this.#open();
    let moved = this.#leading.length > 0 ? this.#leadingToFile(fd, position, bytes) : 0;
    while (moved < bytes) {
      const at = position < 0 ? -1 : position + moved;
      const got = native().ringDrainToFile(this.#rx, fd, at, bytes - moved, WAIT_SLICE_MS);
      if (got > 0) {
        moved += got;
        this.bytesReceived += got;
      } else if (got === RING_END) break;
      else if (got < 0) this.#again(got, 'write');
    }
    return moved;
  }

  #leadingToFile(fd: number, position: number, bytes: number): number {
    let moved = 0;
    while (moved < bytes && this.#leading.length > 0) {
      const part = this.#leading.subarray(0, bytes - moved);
      const written = writeSync(fd, part, 0, part.length, position < 0 ? null : position + moved);
      this.#leading = this.#leading.subarray(written);
      moved += written;
      this.bytesReceived += written;
    }
    return moved;
  }

  /** No more bytes from here; the peer reads the rest and then the end. */
  shutdown(): void {
    this.#open();
    if (this.#finished) return;
    this.#finished = true;
    native().ringFinish(this.#tx);
  }

  /** Lets go: an orderly end, or a reset where bytes were left unread. Twice does nothing. */
  close(): void {
    this.#release(false);
  }

  /** Lets go with a reset: the peer gets ECONNRESET. */
  abort(): void {
    this.#release(true);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #release(reset: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    const unread = native().ringState(this.#rx) > 0 || this.#leading.length > 0;
    if (reset || unread) native().ringAbort(this.#tx);
    else native().ringFinish(this.#tx);
    native().ringCloseReading(this.#rx, reset || unread ? 1 : 0);
    native().ringClose(this.#tx);
    native().ringClose(this.#rx);
    this.#port.close();
  }

  #open(): void {
    if (this.#closed) throw stpError('EBADF', 'the stream is closed');
  }

  #writable(): void {
    this.#open();
    if (this.#finished) throw stpError('EPIPE', 'shutdown was called', 'write');
  }

  #view(packed: number): Uint8Array {
    const at = viewOffset(packed);
    return this.segment.u8.subarray(at, at + viewBytes(packed));
  }

  /** A full pool is waited for; everything else negative is an error. */
  #again(result: number, syscall: string): void {
    if (result !== RING_NO_PAGE) throw ringError(result, syscall);
    Atomics.wait(sleepWord, 0, 0, NO_PAGE_RETRY_MS);
  }
}
