/**
 * The streams of a host that wait for a page of the STG: first come, first served.
 *
 * Invariant: who waits here holds no page; a stream that has one goes on with it, or waits for its
 * peer. Hosts look again each in its own time, so pages that one gives back come to others too. Event
 * loop's thread.
 */
import { monotonicMs } from '../clock.js';
import { PAGE_PAUSE_MS_MAX, PAGE_RETRY_MS } from '../limits.js';

export interface PageWaiter {
  /** False: no page was to be had. True: it has had its turn, or wants none any more. */
  tryAgain(): boolean;
  /** Nobody here has got a page for so long, and it has waited for longer. */
  onNoPage(waitedMs: number): void;
}

interface Entry {
  readonly waiter: PageWaiter;
  readonly sinceMs: number;
}

/** A pause before the pool is looked at again, milliseconds: at random, so that hosts fall out of step. */
export const pagePauseMs = (): number => 1 + Math.random() * 2 * (PAGE_RETRY_MS - 1);

export class PageQueue {
  readonly #entries: Entry[] = [];
  readonly #timeoutMs: number;
  #servedMs = 0;
  #lookedMs = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param timeoutMs after which waiters are told; 0: never */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Behind those that wait already. Who has no wish any more says so when it is asked. */
  add(waiter: PageWaiter): void {
    this.#entries.push({ waiter, sinceMs: monotonicMs() });
    if (this.#timer === undefined) {
      this.#lookedMs = monotonicMs();
      this.#timer = this.#plan();
    }
  }

  #plan(): NodeJS.Timeout {
    return setTimeout(() => this.#look(), pagePauseMs()).unref();
  }

  #look(): void {
    let served = 0;
    /* Who comes back for more stands behind those that were there. */
    const waiting = this.#entries.length;
    while (served < waiting && (this.#entries[served] as Entry).waiter.tryAgain()) served++;
    this.#entries.splice(0, served);
    const now = monotonicMs();
    const pausedMs = now - this.#lookedMs;
    this.#lookedMs = now;
    if (served > 0 || pausedMs > PAGE_PAUSE_MS_MAX) this.#servedMs = now;
    else if (this.#timeoutMs > 0) this.#dismiss(now);
    this.#timer = this.#entries.length > 0 ? this.#plan() : undefined;
  }

  #dismiss(now: number): void {
    if (now - this.#servedMs < this.#timeoutMs) return;
    const late = this.#entries.findIndex(({ sinceMs }) => now - sinceMs < this.#timeoutMs);
    const told = this.#entries.splice(0, late < 0 ? this.#entries.length : late);
    for (const { waiter, sinceMs } of told) waiter.onNoPage(now - sinceMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#entries.length = 0;
  }
}
