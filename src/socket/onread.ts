/**
 * The option `onread` of a socket: bytes go into a buffer of the caller, and no 'data' is emitted.
 * Event loop's thread.
 */

/** As `net`'s option of that name: one buffer for all reads, and no 'data' events. */
export interface OnReadOptions {
  /** Where to read to, or what gives a buffer for each read. */
  readonly buffer: Uint8Array | (() => Uint8Array);
  /** The bytes lie in `buffer[0, bytes)` until it returns; false: no more until `resume()`. */
  readonly callback: (bytes: number, buffer: Uint8Array) => boolean;
}

export class OnRead {
  buffer: Uint8Array;
  readonly #next: (() => Uint8Array) | undefined;
  readonly #callback: OnReadOptions['callback'];

  private constructor({ buffer, callback }: OnReadOptions) {
    this.#next = typeof buffer === 'function' ? buffer : undefined;
    this.buffer = typeof buffer === 'function' ? buffer() : buffer;
    this.#callback = callback;
  }

  /** undefined for what is none, which net ignores too. */
  static of(options: OnReadOptions | null | undefined): OnRead | undefined {
    if (typeof options !== 'object' || options === null) return undefined;
    const { buffer, callback } = options;
    const fits = buffer instanceof Uint8Array || typeof buffer === 'function';
    return fits && typeof callback === 'function' ? new OnRead(options) : undefined;
  }

  deliver(bytes: number): boolean {
    const more = this.#callback(bytes, this.buffer);
    if (this.#next !== undefined) this.buffer = this.#next();
    return more !== false;
  }
}
