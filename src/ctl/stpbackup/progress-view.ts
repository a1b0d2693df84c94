/**
 * How far something is, as people see it: one line on a terminal that is drawn again and again, on
 * stderr. Nobody watches anything else, so there nothing is said. Main thread.
 */
import { monotonicMs } from '../../clock.js';
import { humanDuration, humanSize } from '../output.js';

/** What is done so far; `total` and `totalEntries` are what it is likely to become, where known. */
export interface Done {
  readonly entries: number;
  /** Of data. */
  readonly bytes: number;
  /** Of which the rate is told. */
  readonly moved: number;
  readonly total?: number | undefined;
  readonly totalEntries?: number | undefined;
}

/** As often as eyes follow. */
const PERIOD_MS = 100;
const CLEAR = '\r\x1b[K';

/** What has just begun has no rate to go by. */
const ETA_AFTER_MS = 1000;
/** Estimates may be too low, and what is not over is not all. */
const SHARE_MAX = 0.99;

/** Share of the work, 0 to 1, by entries and bytes alike; null where nobody knows the total. */
export function shareDone({ entries, bytes, total, totalEntries }: Done): number | null {
  const parts = [
    ...(total ? [bytes / total] : []),
    ...(totalEntries ? [entries / totalEntries] : []),
  ];
  if (parts.length === 0) return null;
  const mean = parts.reduce((sum, part) => sum + Math.min(1, part), 0) / parts.length;
  return Math.min(SHARE_MAX, mean);
}

/** What is left at the speed so far; null while that cannot be said. */
export function secondsLeft(done: Done, elapsedMs: number): number | null {
  const share = shareDone(done);
  if (share === null || share === 0 || elapsedMs < ETA_AFTER_MS) return null;
  return ((1 - share) / share) * (elapsedMs / 1000);
}

/** `120 entries, 3.1 MiB of 9.0 MiB (34 %), 1.2 MiB/s, 5 s left`. */
export function progressText(done: Done, elapsedMs: number): string {
  const { entries, bytes, moved, total, totalEntries } = done;
  const rate = `${humanSize(Math.round((1000 * moved) / Math.max(1, elapsedMs)))}/s`;
  const share = shareDone(done);
  const percent = share === null ? '' : ` (${Math.floor(100 * share)} %)`;
  const left = secondsLeft(done, elapsedMs);
  const eta = left === null ? '' : `, ${humanDuration(Math.ceil(left))} left`;
  const of = (amount: number | undefined, form: (n: number) => string): string =>
    amount ? ` of ${form(amount)}` : '';
  const counted = totalEntries ? `${entries}${of(totalEntries, String)}` : `${entries}`;
  const data = `${humanSize(bytes)}${of(total && Math.max(total, bytes), humanSize)}`;
  return `${counted} entries, ${data}${percent}, ${rate}${eta}`;
}

export class ProgressView {
  readonly #startMs = monotonicMs();
  readonly #isShown: boolean;
  #shownMs = 0;
  #isDrawn = false;

  /** @param quiet shows nothing, on a terminal, too */
  constructor(quiet = false) {
    this.#isShown = process.stderr.isTTY === true && !quiet;
  }

  get elapsedMs(): number {
    return monotonicMs() - this.#startMs;
  }

  /** Call as often as you like. */
  show(done: Done): void {
    this.draw(() => progressText(done, this.elapsedMs));
  }

  /** Draws the line anew, if the one before has stood for a while. */
  draw(text: () => string): void {
    if (!this.#isShown) return;
    const { elapsedMs } = this;
    if (elapsedMs < this.#shownMs + PERIOD_MS) return;
    this.#shownMs = elapsedMs;
    this.#isDrawn = true;
    const room = (process.stderr.columns ?? Number.POSITIVE_INFINITY) - 1;
    const line = `${text()}  ${humanDuration(elapsedMs / 1000)}`;
    process.stderr.write(`${CLEAR}${line.slice(0, room)}`);
  }

  /** A line of its own; the progress is drawn again below it. */
  say(line: string): void {
    this.end();
    process.stderr.write(`${line}\n`);
  }

  /** Leaves the terminal as it was. Again is no error. */
  end(): void {
    if (this.#isDrawn) process.stderr.write(CLEAR);
    this.#isDrawn = false;
  }
}
