/**
 * The segment of this process: one reserved range, one SharedArrayBuffer over it.
 *
 * Invariant: the buffer is made once for each attach and posted to workers, never made again; no
 * part is ever unmapped while JavaScript may hold a view of it, only replaced by zero memory.
 * The thread that attached creates it; any thread may use it.
 */
import { native } from '../native.js';

/** What a worker needs to use the segment: structured-cloneable. */
export interface SegmentHandle {
  readonly number: number;
  readonly buffer: SharedArrayBuffer;
}

/** The upper half of a counter changes once in 4 GiB. */
const COUNTER_TRIES = 3;

export class Segment {
  /** Process-wide number, for native calls. */
  readonly number: number;
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;

  constructor(handle: SegmentHandle) {
    this.number = handle.number;
    this.buffer = handle.buffer;
    this.u8 = new Uint8Array(handle.buffer);
    this.u32 = new Uint32Array(handle.buffer);
  }

  /** @param bytes length of the range; address space, not memory. A multiple of 64 KiB */
  static reserve(bytes: number): Segment {
    const { segment, buffer } = native().reserve(bytes);
    return new Segment({ number: segment, buffer });
  }

  get handle(): SegmentHandle {
    return { number: this.number, buffer: this.buffer };
  }

  map(offset: number, fd: number, bytes: number, writable: boolean): void {
    native().map(this.number, offset, fd, bytes, writable);
  }

  /** Ends a right: what was there reads as zeros from now on. */
  revoke(offset: number, bytes: number): void {
    native().unmapToZero(this.number, offset, bytes);
  }

  /* Divided, not shifted: a shift would fold offsets of 4 GiB and more onto the first 4 GiB. */
  load(offset: number): number {
    return Atomics.load(this.u32, offset / 4);
  }

  store(offset: number, value: number): void {
    Atomics.store(this.u32, offset / 4, value);
  }

  /**
   * A 64-bit counter for display: exact up to 2^53. Its halves are of one moment unless the upper
   * one changes all the time, as only a hostile one does.
   */
  counter(offset: number): number {
    let high = this.load(offset + 4);
    for (let tried = 0; ; tried++) {
      const low = this.load(offset);
      const again = this.load(offset + 4);
      if (again === high || tried === COUNTER_TRIES) return low + high * 2 ** 32;
      high = again;
    }
  }

  storeCounter(offset: number, value: number): void {
    this.store(offset, value >>> 0);
    this.store(offset + 4, Math.floor(value / 2 ** 32));
  }
}
