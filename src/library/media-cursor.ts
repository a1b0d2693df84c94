/**
 * Walks through the media of a set from front to back. Blocks; any thread.
 */
import { stpError } from '../errors.js';
import type { MediaReader } from './media.js';

const BUFFER_BYTES = 1 << 20;

export interface ByteSink {
  update(bytes: Uint8Array): unknown;
}

export class MediaCursor {
  readonly #media: MediaReader;
  readonly #all: ByteSink | null;
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** Of the first byte that is not taken yet. */
  offset = 0;
  /** True while bytes pass that `all` does not get. */
  protected isAside = false;
  /** Read from the disk so far. */
  bytesRead = 0;

  /**
   * @param media the caller closes it
   * @param all gets every byte once, in order, but for those aside: nothing is skipped
   *   then, but read
   */
  constructor(media: MediaReader, all: ByteSink | null) {
    this.#media = media;
    this.#all = all;
  }

  /** Exactly so many bytes; the view is good until the next call. @throws EINVAL at the end; EIO */
  take(bytes: number): Buffer {
    while (this.#end - this.#start < bytes) this.#fill(bytes);
    return this.#advance(bytes);
  }

  /** Passes bytes on in pieces. @throws EINVAL at the end; EIO */
  pass(bytes: number, to: ByteSink): void {
    for (let left = bytes; left > 0; ) {
      if (this.#end === this.#start) this.#fill(1);
      const piece = this.#advance(Math.min(left, this.#end - this.#start));
      to.update(piece);
      left -= piece.length;
    }
  }

  /** Leaves bytes out; without a sink for all they are not read. */
  skip(bytes: number): void {
    if (this.#all !== null) {
      this.pass(bytes, nowhere);
      return;
    }
    const there = Math.min(bytes, this.#end - this.#start);
    this.#start += there;
    this.offset += bytes;
  }

  #advance(bytes: number): Buffer {
    const view = this.#buffer.subarray(this.#start, this.#start + bytes);
    this.#start += bytes;
    this.offset += bytes;
    if (!this.isAside) this.#all?.update(view);
    return view;
  }

  /** Reads on until `wanted` bytes may be there. */
  #fill(wanted: number): void {
    const there = this.#end - this.#start;
    if (wanted > this.#buffer.length) {
      const longer = Buffer.allocUnsafeSlow(wanted);
      this.#buffer.copy(longer, 0, this.#start, this.#end);
      this.#buffer = longer;
    } else {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = there;
    const room = this.#buffer.length - there;
    const bytes = this.#media.read(this.#buffer, there, room, this.offset + there);
    if (bytes === 0) throw stpError('EINVAL', `${this.#media.name} ends at ${this.offset + there}`);
    this.#end += bytes;
    this.bytesRead += bytes;
  }
}

const nowhere: ByteSink = { update() {} };
