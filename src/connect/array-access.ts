/**
 * The array as STPConnect reaches it: the host it was given, or one that it attaches when it is
 * first needed, and again when stpd was gone and is back.
 *
 * Invariant: what cannot be had is an error with a reason (`reasonOf`), so that whoever would
 * rather use the array can say why it does not. Runs on the thread of its STPConnect.
 */
import { stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { type AttachOptions, attach, type Host } from '../socket/host.js';
import { lacking } from '../socket/reason.js';

export class ArrayAccess {
  readonly #given: Host | undefined;
  readonly #options: AttachOptions | undefined;
  #own: Host | undefined;
  #attaching: Promise<Host> | undefined;
  #closed = false;

  /** @param given belongs to whoever attached it; `options`: attach one of our own */
  constructor(given: Host | undefined, options: AttachOptions | undefined) {
    this.#given = given;
    this.#options = options;
  }

  /** The host that is attached now, if one is. */
  get current(): Host | undefined {
    return this.#given ?? this.#own;
  }

  /**
   * @param timeoutMs for an attach, if one is needed
   * @throws what attach throws, and ENETDOWN, each with its reason
   */
  async host(timeoutMs: number): Promise<Host> {
    if (this.#given !== undefined) {
      if (this.#given.detached !== undefined) throw this.#given.detached;
      return this.#given;
    }
    if (this.#own !== undefined && this.#own.detached === undefined) return this.#own;
    if (this.#options === undefined) {
      throw lacking(
        NUMBERS.REASON_NOT_HERE,
        stpError('EAFNOSUPPORT', 'no array is attached, and no STG named to attach to', 'attach'),
      );
    }
    this.#attaching ??= this.#attach({ ...this.#options, timeoutMs }).finally(() => {
      this.#attaching = undefined;
    });
    return this.#attaching;
  }

  async #attach(options: AttachOptions): Promise<Host> {
    const host = await attach(options);
    if (this.#closed) {
      await host.close();
      throw stpError('ECANCELED', 'closed while it attached', 'attach');
    }
    // Streams of one whose stpd is gone go on: it stays open until the last of them has ended.
    this.#own = host;
    return host;
  }

  /** Leaves the array, if it was joined here. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#own?.close();
    this.#own = undefined;
  }
}
