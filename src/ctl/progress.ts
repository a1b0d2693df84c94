/** A line on stderr while something takes its time. Only on a terminal. Main thread. */
import { monotonicMs } from '../clock.js';

/** What is over before this shows nothing. */
const FIRST_MS = 300;
const PERIOD_MS = 200;

export async function withProgress<T>(text: string, work: Promise<T>): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return work;
  const start = monotonicMs();
  let drawn = false;
  const timer = setInterval(() => {
    const waited = monotonicMs() - start;
    if (waited < FIRST_MS) return;
    drawn = true;
    stderr.write(`\r${text} ... ${Math.floor(waited / 1000)} s`);
  }, PERIOD_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (drawn) stderr.write('\r\x1b[K');
  }
}
