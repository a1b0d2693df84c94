/**
 * The ports of one STG: who holds which, and for what.
 * Invariant: a port has one holder. Director's thread only.
 */
import { PORT_DYNAMIC_MIN, PORT_MAX } from '../limits.js';

export interface PortHolder<M> {
  readonly port: number;
  readonly member: M;
  kind: 'bound' | 'listening' | 'connection';
}

export class PortTable<M, H extends PortHolder<M> = PortHolder<M>> {
  readonly #holders = new Map<number, H>();
  #next = PORT_DYNAMIC_MIN;
  /** Listeners and explicit binds: what an STG's `ports` limits. */
  counted = 0;

  get(port: number): H | undefined {
    return this.#holders.get(port);
  }

  values(): IterableIterator<H> {
    return this.#holders.values();
  }

  add(holder: H): void {
    this.#holders.set(holder.port, holder);
    if (holder.kind !== 'connection') this.counted++;
  }

  remove(port: number): void {
    const holder = this.#holders.get(port);
    if (holder === undefined) return;
    this.#holders.delete(port);
    if (holder.kind !== 'connection') this.counted--;
  }

  /** A free dynamic port, or 0: rotating, so that a number is not used again at once. */
  dynamic(): number {
    for (let tried = PORT_DYNAMIC_MIN; tried <= PORT_MAX; tried++) {
      const port = this.#next;
      this.#next = port === PORT_MAX ? PORT_DYNAMIC_MIN : port + 1;
      if (!this.#holders.has(port)) return port;
    }
    return 0;
  }
}
