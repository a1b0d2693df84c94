/**
 * `setTimeout` of a socket: says when nothing has moved for a while. The timer never keeps the
 * process alive. Event loop's thread.
 */

/** Longest that a timer of Node can be. */
const MS_MAX = 0x7fffffff;

export class IdleTimer {
  readonly #onIdle: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  /** @param ms 0 for never */
  set(ms: number): void {
    this.stop();
    if (ms > 0) this.#timer = setTimeout(this.#onIdle, Math.min(ms, MS_MAX)).unref();
  }

  /** Something has moved; one that has fired already starts again. */
  touch(): void {
    this.#timer?.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
