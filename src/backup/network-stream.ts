/**
 * A mover's stream where the session goes over the network: pages of this thread's own memory, and
 * the kernel's socket below them.
 *
 * Every wait is native and ends after a slice, back in JavaScript, so that the thread can be stopped
 * (decision 0014). Worker threads only; it blocks.
 */
import { codeOfErrno, errnoOfCode, stpError } from '../errors.js';
import { WAIT_SLICE_MS } from '../limits.js';
import { native } from '../native.js';
import { NETWORK_PAGE_BYTES } from './limits.js';

const EAGAIN = -errnoOfCode('EAGAIN');
const SHUT_WRITE = 1;

export class NetworkStream {
  readonly #fd: number;
  readonly #out = Buffer.allocUnsafeSlow(NETWORK_PAGE_BYTES);
  readonly #in = Buffer.allocUnsafeSlow(NETWORK_PAGE_BYTES);
  /** What of `in` is readable. */
  #from = 0;
  #to = 0;
  #ended = false;
  #closed = false;
  bytesSent = 0;
  bytesReceived = 0;

  /** @param socket as the event loop dispatched it */
  constructor(socket: number) {
    this.#fd = native().tcpAdopt(socket);
  }

  reserve(): Uint8Array {
    return this.#out;
  }

  /** @throws EPIPE, ECONNRESET */
  commit(bytes: number): void {
    for (let at = 0; at < bytes; ) {
      const sent = native().tcpSend(this.#fd, this.#out, at, bytes - at, WAIT_SLICE_MS);
      if (sent < 0) throw broken(-sent, 'write');
      at += sent;
    }
    this.bytesSent += bytes;
  }

  /** @throws ECONNRESET */
  peek(): Uint8Array | null {
    while (this.#from === this.#to) {
      if (this.#ended) return null;
      const got = native().tcpReceive(this.#fd, this.#in, 0, this.#in.length, WAIT_SLICE_MS);
      if (got === EAGAIN) continue;
      if (got < 0) throw broken(-got, 'read');
      this.#ended = got === 0;
      this.#from = 0;
      this.#to = got;
    }
    return this.#in.subarray(this.#from, this.#to);
  }

  consume(bytes: number): void {
    this.#from += bytes;
    this.bytesReceived += bytes;
  }

  shutdown(): void {
    native().tcpShutdown(this.#fd, SHUT_WRITE);
  }

  close(): void {
    this.#let(false);
  }

  abort(): void {
    this.#let(true);
  }

  #let(reset: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    native().tcpClose(this.#fd, reset);
  }
}

const broken = (errno: number, syscall: string): Error =>
  stpError(codeOfErrno(errno), "the session's data connection broke", syscall);
