/**
 * Two ends joined: what comes from one goes to the other, and so do its end and its reset.
 *
 * Invariants
 *   - Of each direction at most FORWARD_BUFFER_BYTES (or the output's own mark, if higher) and one
 *     read wait here; then its source is not read until they are gone.
 *   - An end is passed on behind the last byte, and leaves the other direction alone.
 *   - Any error, or a close without an end, resets both: nothing truncated looks complete.
 * Main thread.
 */
import type { Readable, Writable } from 'node:stream';
import { monotonicMs } from '../../clock.js';
import { stpError } from '../../errors.js';
import {
  FORWARD_BUFFER_BYTES,
  FORWARD_READ_BYTES_MAX,
  FORWARD_READ_BYTES_MIN,
} from '../../limits.js';

/** Of a connection that reads so often as much as there is room for, more comes. */
const FULL_READS_TO_GROW = 8;

/**
 * What a `net.Socket` reads into, as its option `onread`: fresh memory for each read would cost a
 * page fault every 4 KiB, and V8 a collection now and then. It grows when reads keep filling it.
 */
export class ReadBuffer {
  /** Takes what was read; it is gone when this returns true. False: nothing more until `resume`. */
  take: (chunk: Buffer) => boolean = () => {
    throw new Error('bytes were read before anybody could take them');
  };
  readonly onread = {
    buffer: (): Buffer => this.#buffer,
    callback: (bytes: number): boolean => this.#take(bytes),
  };
  #buffer = Buffer.allocUnsafeSlow(FORWARD_READ_BYTES_MIN);
  #fullReads = 0;

  #take(bytes: number): boolean {
    const buffer = this.#buffer;
    if (bytes < buffer.length) this.#fullReads = 0;
    else if (++this.#fullReads === FULL_READS_TO_GROW && bytes < FORWARD_READ_BYTES_MAX) {
      this.#buffer = Buffer.allocUnsafeSlow(FORWARD_READ_BYTES_MAX);
    }
    return this.take(bytes === buffer.length ? buffer : buffer.subarray(0, bytes));
  }
}

/** One end of a forwarded connection. Input and output of a socket are the same object. */
export interface Side {
  readonly input: Readable;
  /** Where the input's bytes come from, if it emits no 'data'. */
  readonly reads?: ReadBuffer | undefined;
  readonly output: Writable;
  /** Who it is, for messages. */
  readonly name: string;
  /** Closes it so that its peer sees a reset, where its kind has such a thing. */
  reset(): void;
}

export interface RelayEnd {
  readonly ms: number;
  /** From the accepted side to the target. */
  readonly bytesOut: number;
  /** From the target to the accepted side. */
  readonly bytesBack: number;
  /** Whose error ended it; absent where both directions came to their end. */
  readonly failed?: { readonly side: Side; readonly error: Error };
}

const early = (): Error => stpError('ECONNRESET', 'closed before its end');

interface Way {
  bytes: number;
  complete: boolean;
}

export class Relay {
  readonly done: Promise<RelayEnd>;
  readonly #accepted: Side;
  readonly #target: Side;
  readonly #out: Way = { bytes: 0, complete: false };
  readonly #back: Way = { bytes: 0, complete: false };
  readonly #startMs = monotonicMs();
  #over = false;
  #resolve: (end: RelayEnd) => void = () => {};

  constructor(accepted: Side, target: Side) {
    this.#accepted = accepted;
    this.#target = target;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#join(accepted, target, this.#out);
    this.#join(target, accepted, this.#back);
    /* Gone while the other was still on its way: its events have been. */
    for (const side of [accepted, target]) {
      if (side.input.destroyed || side.output.destroyed) this.#fail(side, early());
    }
  }

  /** Resets both sides. */
  abort(why: string): void {
    this.#fail(this.#accepted, stpError('ECONNABORTED', why));
  }

  #join(from: Side, to: Side, way: Way): void {
    const { input } = from;
    const { output } = to;
    let waits = false;
    const { reads } = from;
    if (reads === undefined) {
      input.on('data', (chunk: Buffer) => {
        way.bytes += chunk.length;
        if (output.write(chunk) || output.writableLength < FORWARD_BUFFER_BYTES) return;
        waits = true;
        input.pause();
      });
    } else {
      reads.take = (chunk) => {
        way.bytes += chunk.length;
        /* From this size on an output that keeps it says 'drain' when it has let go of it. */
        const own = chunk.length < output.writableHighWaterMark;
        if (own) output.write(Buffer.from(chunk));
        else output.write(chunk);
        waits = output.writableLength >= (own ? FORWARD_BUFFER_BYTES : 1);
        return !waits;
      };
    }
    output.on('drain', () => {
      if (!waits) return;
      waits = false;
      input.resume();
    });
    input.once('end', () => output.end());
    output.once('finish', () => {
      way.complete = true;
      if (this.#out.complete && this.#back.complete) this.#end();
    });
    input.on('error', (error) => this.#fail(from, error));
    output.on('error', (error) => this.#fail(to, error));
    input.once('close', () => {
      if (!input.readableEnded) this.#fail(from, early());
    });
    output.once('close', () => {
      if (!output.writableFinished) this.#fail(to, early());
    });
    input.resume();
  }

  #fail(side: Side, error: Error): void {
    if (this.#over) return;
    this.#end({ side, error });
    this.#target.reset();
    this.#accepted.reset();
  }

  #end(failed?: { side: Side; error: Error }): void {
    if (this.#over) return;
    this.#over = true;
    this.#resolve({
      ms: monotonicMs() - this.#startMs,
      bytesOut: this.#out.bytes,
      bytesBack: this.#back.bytes,
      ...(failed === undefined ? {} : { failed }),
    });
  }
}
