/**
 * Whether a socket or server keeps the process alive: `ref` and `unref` of `node:net`.
 *
 * Invariant: while it does, exactly one reference on the host is held. Event loop's thread.
 */
import type { Host } from './host.js';

export class Liveness {
  readonly #host: Host;
  #wanted = true;
  #open = false;
  #held = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** The socket connects, or the server listens: from now on it keeps the process alive. */
  open(): void {
    this.#open = true;
    this.#settle();
  }

  close(): void {
    this.#open = false;
    this.#settle();
  }

  /** What the program wants: true for `ref`, false for `unref`. */
  want(wanted: boolean): void {
    this.#wanted = wanted;
    this.#settle();
  }

  #settle(): void {
    const hold = this.#open && this.#wanted;
    if (hold === this.#held) return;
    this.#held = hold;
    if (hold) this.#host.ref();
    else this.#host.unref();
  }
}
