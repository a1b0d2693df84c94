/**
 * `--json` of a session, and `--events` of what works on the library: one object a line on stdout, as
 * it happens. The last one is `summary`, `document` or `error`. docs/events.schema.json says what may stand in them; names stay. Main thread.
 */
import type { Complaint } from '../../backup/protocol-words.js';
import { isCoded } from '../../errors.js';
import { exitCodeOf, plainMessage } from '../command-line.js';
import { type Done, secondsLeft, shareDone } from './progress-view.js';

/** Scripts want to know that it goes on, and have no use for more. */
const PERIOD_MS = 1000;

const put = (event: object): void => void process.stdout.write(`${JSON.stringify(event)}\n`);

const rounded = (n: number | null): number | null =>
  n === null ? null : Math.round(n * 1000) / 1000;

export class EventOutput {
  #nextMs = PERIOD_MS;

  /** @param elapsedMs since the session began; progress is told once a second */
  progress(done: Done, elapsedMs: number): void {
    if (elapsedMs < this.#nextMs) return;
    this.#nextMs = elapsedMs + PERIOD_MS;
    put({
      event: 'progress',
      seconds: rounded(elapsedMs / 1000),
      entries: done.entries,
      bytes: done.bytes,
      moved: done.moved,
      bytesPerSecond: Math.round((1000 * done.moved) / elapsedMs),
      totalEntries: done.totalEntries ?? null,
      totalBytes: done.total ?? null,
      share: rounded(shareDone(done)),
      secondsLeft: rounded(secondsLeft(done, elapsedMs)),
    });
  }

  warning({ path, code, message }: Complaint): void {
    put({ event: 'warning', path, code, message });
  }

  summary(report: object): void {
    put({ event: 'summary', ...report });
  }

  /** What a verb on the library prints with `--json`. */
  document(verb: string, document: object): void {
    put({ event: 'document', verb, document });
  }

  error(e: unknown): void {
    const code = isCoded(e) ? e.code : 'EIO';
    put({ event: 'error', code, message: plainMessage(e), exitCode: exitCodeOf(e) });
  }
}
