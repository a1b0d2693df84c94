/** Where one party leaves what another waits for. Event loop only. */

/** A queue of values that a waiter takes one at a time. */
export class Mailbox<T> {
  readonly #values: T[] = [];
  readonly #waiters: ((value: T) => void)[] = [];

  put(value: T): void {
    const waiter = this.#waiters.shift();
    if (waiter) waiter(value);
    else this.#values.push(value);
  }

  /** Takes whatever nobody has asked for. */
  drain(): T[] {
    return this.#values.splice(0);
  }

  /** Takes the next value; gives the place in the queue up when the signal aborts. */
  async take(signal: AbortSignal): Promise<T> {
    const value = this.#values.shift();
    if (value !== undefined) return value;
    signal.throwIfAborted();
    return new Promise<T>((resolve, reject) => {
      const waiter = (v: T): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(v);
      };
      const onAbort = (): void => {
        const at = this.#waiters.indexOf(waiter);
        if (at >= 0) this.#waiters.splice(at, 1);
        reject(signal.reason);
      };
      this.#waiters.push(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
