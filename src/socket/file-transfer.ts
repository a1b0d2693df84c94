/**
 * Bytes between a file and the pages of a stream, for a socket on an event loop: sendFile and
 * receiveToFile.
 *
 * The ring is used on the loop's thread only: it says which pages come next, and later how much of
 * them was used. In between a thread of libuv's pool moves the bytes with one readv(2) or writev(2),
 * straight between the file and those pages; the loop goes on meanwhile.
 *
 * Invariants
 *   - As long as the pool works on pages, their end is held: it is let go of only afterwards
 *     (`StreamEnd.hold`), so no page becomes another stream's under it.
 *   - The promise settles when nothing more is done with the file: its descriptor may be closed then.
 */
import { fstat, readv, write, writev } from 'node:fs';
import { stpError } from '../errors.js';
import { FILE_PAGES } from '../limits.js';
import { RING_END, RING_NO_PAGE, ringError, viewBytes, viewOffset } from '../memory/page-ring.js';
import { native } from '../native.js';
import type { StreamEnd } from './stream-end.js';

export interface FileTransferOptions {
  /** Ends it: what was moved before stays moved. */
  readonly signal?: AbortSignal | undefined;
}

export interface FileRange extends FileTransferOptions {
  readonly fd: number;
  /** -1: where the file stands. */
  readonly position: number;
  readonly bytes: number;
}

/** What the socket does meanwhile and afterwards. */
export interface FileTransferOwner {
  /** So many bytes have gone through the stream. */
  moved(bytes: number): void;
  /**
   * The stream goes on without the transfer. The promise may settle later.
   * @param state of the ring: its end, or why it is broken; 0: nothing is wrong with it
   * @param rest what was to go in front, and did not
   */
  over(state: number, rest: Buffer): void;
}

/** A full pool is tried again after this. */
const NO_PAGE_RETRY_MS = 2;
const NO_BYTES = Buffer.alloc(0);
/** Where native code puts the pages that come next; taken out at once. */
const packedViews = new Float64Array(FILE_PAGES);

/**
 * @returns `bytes`, as native code can have it
 * @throws EBADF, EINVAL
 */
export function checkFileRange(
  fd: number,
  position: number,
  bytes: number,
  syscall: 'read' | 'write',
): number {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw stpError('EBADF', `not a file descriptor: ${fd}`, syscall);
  }
  if (!Number.isSafeInteger(position) || position < -1) {
    throw stpError('EINVAL', `a position is a whole number from 0, or -1: ${position}`, syscall);
  }
  if (!(bytes >= 0) || (bytes !== Number.POSITIVE_INFINITY && !Number.isSafeInteger(bytes))) {
    throw stpError('EINVAL', `not a number of bytes: ${bytes}`, syscall);
  }
  return Math.min(bytes, Number.MAX_SAFE_INTEGER);
}

function abortError(cause: unknown, syscall: string): Error {
  const error = stpError('ABORT_ERR', `the ${syscall} was aborted`, syscall);
  error.name = 'AbortError';
  error.cause = cause;
  return error;
}

export class FileTransfer {
  /** Bytes moved, once it is over. */
  readonly done: Promise<number>;
  readonly #range: FileRange;
  readonly #owner: FileTransferOwner;
  readonly #sends: boolean;
  #end: StreamEnd | undefined;
  #head: Buffer;
  #moved = 0;
  /** The pool has the file. */
  #busy = false;
  #armed = false;
  #over = false;
  #state = 0;
  #error: Error | undefined;
  #retry: NodeJS.Timeout | undefined;
  #resolve: (moved: number) => void = () => {};
  #reject: (error: Error) => void = () => {};
  readonly #onAbort: () => void;

  /** @param head bytes that go into the file before those of the ring */
  constructor(sends: boolean, range: FileRange, owner: FileTransferOwner, head: Buffer = NO_BYTES) {
    this.#sends = sends;
    this.#range = range;
    this.#owner = owner;
    this.#head = head;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#onAbort = () => this.cancel(abortError(range.signal?.reason, this.#syscall));
  }

  /** From here on the signal counts; it may have come already. */
  listen(): void {
    const { signal } = this.#range;
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** As the errors of the stream name what it does. */
  get #syscall(): 'read' | 'write' {
    return this.#sends ? 'write' : 'read';
  }

  /** A ready bit is due. */
  get armed(): boolean {
    return this.#armed;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** The stream is there, and everything before is done. */
  start(end: StreamEnd): void {
    this.#end = end;
    if (this.#over) return;
    this.#busy = true;
    fstat(this.#range.fd, (error, about) => {
      this.#busy = false;
      if (error !== null) this.#finish(error);
      else if (about.isFile() || about.isBlockDevice()) this.#step();
      else if (about.isDirectory()) this.#finish(stpError('EISDIR', 'it is a directory', 'read'));
      else this.#finish(stpError('EINVAL', 'not a file: use a stream and pipe', 'fstat'));
    });
  }

  /** A ready bit has come: there may be bytes, or room. */
  ready(): void {
    this.#armed = false;
    if (!this.#busy && !this.#over && this.#retry === undefined && this.#end !== undefined) {
      this.#step();
    }
  }

  /** Ends it before its time; the pool may still be at it. Twice does nothing. */
  cancel(error: Error): void {
    if (!this.#over) this.#finish(error);
  }

  /** Moves on until the pool has something to do, or there is nothing to move. */
  #step(): void {
    const end = this.#end as StreamEnd;
    for (;;) {
      if (this.#over) return this.#settle();
      const left = this.#range.bytes - this.#moved;
      if (left <= 0) return this.#finish();
      if (this.#head.length > 0) return this.#moveHead();
      const ring = this.#sends ? end.tx : end.rx;
      const count = this.#sends
        ? native().ringReservePages(ring, packedViews, FILE_PAGES, 0)
        : native().ringPeekPages(ring, packedViews, FILE_PAGES, 0);
      if (count > 0) return this.#move(end, count, left);
      if (count === RING_NO_PAGE) {
        this.#retry = setTimeout(() => {
          this.#retry = undefined;
          this.#step();
        }, NO_PAGE_RETRY_MS);
        return;
      }
      const state = count < 0 ? count : native().ringArm(ring);
      this.#armed = state === 0;
      if (this.#armed) return;
      if (state < 0) return this.#broken(state);
    }
  }

  #broken(state: number): void {
    this.#state = state;
    this.#finish(state === RING_END ? undefined : ringError(state, this.#syscall));
  }

  get #at(): number | null {
    const { position } = this.#range;
    return position < 0 ? null : position + this.#moved;
  }

  #moveHead(): void {
    this.#busy = true;
    write(this.#range.fd, this.#head, 0, this.#head.length, this.#at, (error, bytes) => {
      this.#busy = false;
      if (error !== null) return this.#finish(error);
      this.#head = this.#head.subarray(bytes);
      this.#moved += bytes;
      this.#step();
    });
  }

  #move(end: StreamEnd, count: number, left: number): void {
    const { fd } = this.#range;
    const views: Uint8Array[] = [];
    for (let i = 0, room = left; i < count && room > 0; i++) {
      const packed = packedViews[i] as number;
      const bytes = Math.min(viewBytes(packed), room);
      const offset = viewOffset(packed);
      views.push(end.host.segment.u8.subarray(offset, offset + bytes));
      room -= bytes;
    }
    this.#busy = true;
    end.hold();
    const done = (error: NodeJS.ErrnoException | null, bytes: number): void => {
      this.#busy = false;
      this.#used(end, error === null ? bytes : 0);
      end.unhold();
      if (error !== null) this.#finish(error);
      else if (bytes > 0) this.#step();
      else if (this.#sends) this.#finish(); /* the end of the file */
      else this.#finish(stpError('EIO', 'the file takes no more bytes', 'write'));
    };
    if (this.#sends) readv(fd, views, this.#at, done);
    else writev(fd, views, this.#at, done);
  }

  /** Nothing counts that comes after the socket let go of the stream. */
  #used(end: StreamEnd, done: number): void {
    const bytes = end.open ? done : 0;
    if (this.#sends) native().ringCommit(end.tx, bytes);
    else native().ringConsume(end.rx, bytes);
    this.#moved += bytes;
    if (bytes === 0) return;
    if (this.#sends) end.sent();
    this.#owner.moved(bytes);
  }

  #finish(error?: Error): void {
    if (!this.#over) {
      this.#over = true;
      this.#error = error;
      clearTimeout(this.#retry);
      this.#range.signal?.removeEventListener('abort', this.#onAbort);
    }
    this.#settle();
  }

  #settle(): void {
    if (this.#busy) return;
    if (this.#error === undefined) this.#resolve(this.#moved);
    else this.#reject(this.#error);
    this.#owner.over(this.#state, this.#head);
  }
}
