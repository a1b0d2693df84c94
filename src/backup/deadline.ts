/**
 * Waits that end: by time, or because the session did. Event loop only.
 *
 * A process that stood still (stopped, suspended with its machine) has not waited meanwhile: its
 * partner may have stood still with it, and what that said lies unread in a socket.
 */
import { monotonicMs } from '../clock.js';

/** How often a wait looks at the clock, of its length; and at least this often. */
const LOOKS = 10;
const LOOK_MS_MAX = 500;

/** Calls `late` once it was waited for `ms`, or a tenth more. @returns ends the wait */
export function afterWaiting(ms: number, late: () => void): () => void {
  const lookMs = Math.min(Math.ceil(ms / LOOKS), LOOK_MS_MAX);
  let waitedMs = 0;
  let lastMs = monotonicMs();
  const timer = setInterval(() => {
    const nowMs = monotonicMs();
    waitedMs += Math.min(nowMs - lastMs, 2 * lookMs);
    lastMs = nowMs;
    if (waitedMs < ms) return;
    clearInterval(timer);
    late();
  }, lookMs);
  return () => clearInterval(timer);
}

/**
 * Waits for `work` at most `ms`; then throws what `late` makes. The work itself goes on: whoever
 * gives up closes what it works on.
 */
export async function within<T>(ms: number, work: Promise<T>, late: () => Error): Promise<T> {
  let end = (): void => {};
  try {
    const limit = new Promise<never>((_resolve, reject) => {
      end = afterWaiting(ms, () => reject(late()));
    });
    return await Promise.race([work, limit]);
  } finally {
    end();
  }
}

/** Waits for `work`, or throws the signal's reason. */
export async function orAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let onAbort: (() => void) | undefined;
  try {
    const aborted = new Promise<never>((_resolve, reject) => {
      onAbort = () => reject(signal.reason);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}
