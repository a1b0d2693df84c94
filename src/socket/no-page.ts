/**
 * What is told, and when, if an STG has had no page for a stream: the numbers, and what to do. Any
 * thread.
 */
import { monotonicMs } from '../clock.js';
import { type StpError, stpError } from '../errors.js';
import { PAGE_PAUSE_MS_MAX } from '../limits.js';
import { native } from '../native.js';
import { pagePauseMs } from './page-queue.js';

/** Where a stream looks for pages, and how long. */
export interface PagePlace {
  /** Name of the STG. */
  readonly stg: string;
  /** Number that `stgOpen` gave. */
  readonly view: number;
  /** After which a wait for a page fails; 0: never. */
  readonly pageTimeoutMs: number;
}

export function noPageError({ stg, view }: PagePlace, waitedMs: number): StpError {
  const { pages, used, boards } = native().stgPages(view);
  return stpError(
    'ENOBUFS',
    `STG '${stg}' has had no page for this stream for ${(waitedMs / 1000).toFixed(1)} s: ${used} of ` +
      `the ${pages} pages on its ${boards} boards are in use ('stpctl stg show ${stg}' shows by ` +
      'whom); let what lies there be read, or close it, or add boards: ' +
      `stpctl stg grow ${stg} --boards N`,
    'write',
  );
}

const sleepWord = new Int32Array(new SharedArrayBuffer(4));

/** The patience of a thread that blocks until there is a page. */
export class PagePatience {
  #moved = -1;
  #sinceMs = 0;
  #lastMs = 0;

  /**
   * Sleeps for a moment, no longer than `mostMs`.
   * @param moved what the stream has done so far: a new number begins a new wait
   * @throws ENOBUFS after the place's time of one wait
   */
  pause(place: PagePlace, moved: number, mostMs = 50): void {
    const now = monotonicMs();
    if (moved !== this.#moved) {
      this.#moved = moved;
      this.#sinceMs = now;
    } else if (now - this.#lastMs > PAGE_PAUSE_MS_MAX) {
      this.#sinceMs += now - this.#lastMs;
    } else if (place.pageTimeoutMs > 0 && now - this.#sinceMs >= place.pageTimeoutMs) {
      this.#moved = -1;
      throw noPageError(place, now - this.#sinceMs);
    }
    this.#lastMs = now;
    Atomics.wait(sleepWord, 0, 0, Math.min(pagePauseMs(), mostMs));
  }
}
