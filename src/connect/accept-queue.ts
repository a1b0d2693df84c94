/**
 * Connections that are established and wait for accept(): bounded, first come, first served.
 *
 * One more than fit is reset: its peer learns at once instead of waiting for nobody. Calls that
 * already wait count as room, because they take theirs in a later microtask.
 */
import { Channel } from './channel.js';
import type { Link } from './endpoint.js';
import { type Limit, Turns, WaitList } from './limit.js';

export class AcceptQueue {
  readonly changes = new WaitList();
  readonly #backlogMax: number;
  readonly #waiting: Channel[] = [];
  readonly #turns = new Turns();
  #overflows = 0;
  #closed = false;

  constructor(backlogMax: number) {
    this.#backlogMax = backlogMax;
  }

  get count(): number {
    return this.#waiting.length;
  }

  /** Connections that were reset because the queue was full. */
  get overflows(): number {
    return this.#overflows;
  }

  push(link: Link): void {
    // The channel listens from now on: an error while it waits must find a listener.
    const channel = new Channel(link);
    if (this.#closed || this.#waiting.length >= this.#backlogMax + this.#turns.count) {
      if (!this.#closed) this.#overflows++;
      channel.abort();
      return;
    }
    this.#waiting.push(channel);
    this.changes.wakeAll();
  }

  async take(limit: Limit): Promise<Channel> {
    const turn = this.#turns.enter();
    try {
      for (;;) {
        limit.check();
        const channel = this.#turns.mine(turn) ? this.#waiting.shift() : undefined;
        if (channel !== undefined) return channel;
        await this.changes.wait(limit);
      }
    } finally {
      this.#turns.leave(turn);
      this.changes.wakeAll();
    }
  }

  close(): void {
    this.#closed = true;
    for (const channel of this.#waiting.splice(0)) channel.abort();
    this.changes.wakeAll();
  }
}
