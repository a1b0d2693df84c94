/**
 * How far a session is, as people see it: a bar on a terminal, a line now and then elsewhere. All of
 * it on stderr. Main thread.
 */
import cliProgress from 'cli-progress';
import type { Progress } from '../../backup/protocol.js';
import { monotonicMs } from '../../clock.js';
import { humanDuration, humanSize } from '../output.js';

/** Where nobody watches a bar, a line now and then shows that it lives. */
const LINE_PERIOD_MS = 5000;
/** What has just begun has no rate to go by. */
const ETA_AFTER_MS = 1000;

/** What is left of a known total, at the rate so far; null while that cannot be said. */
export function secondsLeft(progress: Progress, elapsedMs: number): number | null {
  const { bytes, total } = progress;
  if (total === undefined || bytes === 0 || elapsedMs < ETA_AFTER_MS) return null;
  return (Math.max(0, total - bytes) / bytes) * (elapsedMs / 1000);
}

/** `120 entries, 3.1 MiB of 9.0 MiB (34 %), 1.2 MiB/s, 5 s left`. */
export function progressText(progress: Progress, elapsedMs: number): string {
  const { entries, bytes, moved, total } = progress;
  const rate = `${humanSize(Math.round((1000 * moved) / Math.max(1, elapsedMs)))}/s`;
  if (total === undefined) return `${entries} entries, ${humanSize(bytes)}, ${rate}`;
  const share = Math.floor((100 * bytes) / Math.max(1, total));
  const left = secondsLeft(progress, elapsedMs);
  const eta = left === null ? '' : `, ${humanDuration(Math.ceil(left))} left`;
  const done = `${humanSize(bytes)} of ${humanSize(total)} (${share} %)`;
  return `${entries} entries, ${done}, ${rate}${eta}`;
}

export class ProgressView {
  readonly #startMs = monotonicMs();
  #bar: cliProgress.SingleBar | undefined;
  #lineMs = this.#startMs;

  /** Call as often as you like. */
  show(progress: Progress): void {
    const nowMs = monotonicMs();
    const text = progressText(progress, nowMs - this.#startMs);
    if (process.stderr.isTTY) {
      this.#bar ??= startBar();
      this.#bar.update(progress.entries, { text });
      return;
    }
    if (nowMs - this.#lineMs < LINE_PERIOD_MS) return;
    this.#lineMs = nowMs;
    this.say(text);
  }

  /** A line of its own; the bar is drawn again below it. */
  say(line: string): void {
    if (this.#bar) process.stderr.write('\r\x1b[K');
    process.stderr.write(`${line}\n`);
  }

  /** Leaves the terminal as it was. Again is no error. */
  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

function startBar(): cliProgress.SingleBar {
  // The text says it all: what there will be is not always known, and then there is no bar to draw.
  const bar = new cliProgress.SingleBar({
    format: '{text}  {duration_formatted}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    etaBuffer: 1,
    fps: 10,
  });
  bar.start(Number.MAX_SAFE_INTEGER, 0, { text: '' });
  return bar;
}
