/**
 * A whole page that a stream has taken out of the array, or claimed to be filled: 64 KiB of shared
 * memory with one owner.
 *
 * Invariant: a page is held by one stream from when it is taken or claimed until it is given,
 * released, or that stream lets go; from then on the handle refuses with EBADF. Native code keeps
 * the same ledger (native/page_exchange.cc), so that a thread that ends takes its pages along. The
 * thread of the stream.
 */
import { stpError } from '../errors.js';

/** Who holds pages: one end of a stream, as its thread has it. */
export interface PageHolder {
  /** Number of the STG's native view: differs for each attach. */
  readonly stg: number;
  readonly ring: number;
  giveBack(page: Page): void;
  /** It may have got an empty page in exchange for one that was given. */
  watch(): void;
}

/** What takePage and claimPage of a BlockingStream give. The thread of the stream. */
export class Page {
  /** Bytes of the stream in it, from its start; 0 in a page that was claimed. */
  readonly bytes: number;
  /** True if it came by exchange, without a copy. */
  readonly exchanged: boolean;
  readonly #number: number;
  readonly #data: Uint8Array;
  #holder: PageHolder | undefined;

  constructor(
    holder: PageHolder,
    page: { number: number; data: Uint8Array; bytes: number; exchanged: boolean },
  ) {
    this.#holder = holder;
    this.#number = page.number;
    this.#data = page.data;
    this.bytes = page.bytes;
    this.exchanged = page.exchanged;
  }

  /**
   * The whole page, 65536 bytes; what stands behind `bytes` is old. Do not use it after the page is
   * given or released: then it is somebody else's.
   * @throws EBADF
   */
  get data(): Uint8Array {
    this.holder('read');
    return this.#data;
  }

  /** Still this stream's. */
  get held(): boolean {
    return this.#holder !== undefined;
  }

  /** Back to the pool of the STG. Twice does nothing. */
  release(): void {
    this.#holder?.giveBack(this);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  // --- for streams ------------------------------------------------------------------------------

  get number(): number {
    return this.#number;
  }

  /** Who holds it. @throws EBADF */
  holder(syscall: string): PageHolder {
    if (this.#holder === undefined) {
      throw stpError('EBADF', 'the page was given, released, or its stream is closed', syscall);
    }
    return this.#holder;
  }

  /** The handle is over. */
  forget(): void {
    this.#holder = undefined;
  }
}
