/**
 * What the two mechanisms offer to the calls that block, and how long a call may take.
 *
 * Every wait is native and ends after a slice of 50 ms, back in JavaScript, so that process.exit,
 * uncaught exceptions and worker.terminate() work while a call blocks (decision 0014).
 */
import { stpError } from '../errors.js';
import { WAIT_SLICE_MS } from '../limits.js';
import { native } from '../native.js';
import type { Address, Peer, Target } from './endpoint.js';
import type { SocketOptions } from './options.js';

export interface BlockingOptions {
  /** Whole call, milliseconds; 0 or absent: no limit. ETIMEDOUT when it ends. */
  timeoutMs?: number;
}

/** The end of a stream, where a count of bytes is expected. */
export const END = -1;

/** How long a blocking call looks before it sleeps, unless an option says otherwise. */
let spinDefault: number | undefined;
export function spinOf(options: Readonly<SocketOptions>): number {
  spinDefault ??= native().usableCores() < 2 ? 0 : 50;
  return options.spinMicroseconds ?? spinDefault;
}

/** One call that may block: it tries, and asks here how long it may wait before the next try. */
export class Wait {
  readonly call: string;
  readonly #fd: number;
  readonly #stop: Int32Array | undefined;
  readonly #timeoutMs: number;
  readonly #until: number;
  readonly #softUntil: number;
  readonly #limited: boolean;
  #first = true;

  /**
   * @param softMs when the call ends with what it has, or EAGAIN: 0 at once; undefined never
   * @param stop another thread ends the call by making it anything but 0: ECANCELED
   */
  constructor(
    call: string,
    fd: number,
    timeoutMs: number,
    softMs: number | undefined,
    stop: Int32Array | undefined,
  ) {
    this.call = call;
    this.#fd = fd;
    this.#stop = stop;
    this.#timeoutMs = timeoutMs;
    this.#limited = timeoutMs > 0 || softMs !== undefined || stop !== undefined;
    const now = this.#limited ? performance.now() : 0;
    this.#until = timeoutMs > 0 ? now + timeoutMs : Number.POSITIVE_INFINITY;
    this.#softUntil = softMs === undefined ? Number.POSITIVE_INFINITY : now + softMs;
  }

  /**
   * Milliseconds that the next try may wait, 0 to 50. The first try is always granted.
   * @throws ETIMEDOUT, ECANCELED, and EAGAIN for the soft end
   */
  next(): number {
    if (!this.#limited) return WAIT_SLICE_MS;
    const { call } = this;
    const first = this.#first;
    this.#first = false;
    if (this.#stop !== undefined && Atomics.load(this.#stop, 0) !== 0) {
      throw stpError('ECANCELED', `${call} on descriptor ${this.#fd} was stopped`, call);
    }
    const now = performance.now();
    const left = Math.min(this.#until, this.#softUntil) - now;
    if (left > 0) return Math.min(WAIT_SLICE_MS, Math.ceil(left));
    if (first) return 0;
    if (now >= this.#until) {
      throw stpError('ETIMEDOUT', `${call} took longer than ${this.#timeoutMs} ms`, call);
    }
    throw stpError('EAGAIN', `${call} on descriptor ${this.#fd} would wait`, call);
  }
}

/** An established stream, used by one thread. */
export interface BlockingLink {
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  /** Bytes taken, 0 if none within the slice. @throws the stream's failure */
  send(data: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  /** Bytes, 0 if none within the slice, END. @throws the stream's failure */
  receive(into: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  /** The peer sees the end behind what was sent. */
  finish(): void;
  /** Orderly, or with a reset. Nothing is called afterwards. */
  close(reset: boolean): void;
  apply(options: Readonly<SocketOptions>): void;
  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null;
  /** Looks; where there is a descriptor to poll, `revents` is what poll(2) said of it. */
  readiness(events: number, revents: number): number;
  /** Makes sure that a turn of the host ends when one of `events` may be true. */
  arm(events: number): Armed;
}

/** How a wait hears of a change. */
export type Armed =
  /** poll(2) on this descriptor. */
  | { readonly fd: number; readonly events: number }
  /** The host's turn ends. */
  | 'host'
  /** By looking again: the stream's bells ring in another thread. */
  | 'look'
  /** It may be true already. */
  | 'ready';

/** One socket until it is connected. */
export interface BlockingEndpoint {
  bind(at: Target, wait: Wait): void;
  listen(backlog: number, wait: Wait): void;
  /** undefined: nothing has arrived. */
  accept(): BlockingLink | undefined;
  /** True if accept() would give one; without a descriptor of its own. */
  readonly arrived: boolean;
  startConnect(to: Target, wait: Wait): void;
  /** undefined: not yet. @throws why it failed */
  connected(): BlockingLink | undefined;
  /** What to wait on, for a connection to arrive or to be made. */
  readonly armed: Armed;
  name(): Address;
  release(): void;
}

/** Waits for a descriptor, for the host's turn, or both. */
export type Sleep = (sliceMs: number, watched: readonly number[], spinUs: number) => number[];
