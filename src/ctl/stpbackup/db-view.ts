/**
 * A database session as people and scripts see it, wherever it runs: progress, events, the summary,
 * interrupts and the exit code. Loads little: what asks the running client has nothing else to load.
 * Main thread.
 */
import type { DatabaseReport } from '../../backup/database-client.js';
import { type StepRecord, traceLine } from '../../backup/handshake-steps.js';
import type { Complaint, Progress } from '../../backup/protocol-words.js';
import { monotonicMs } from '../../clock.js';
import { stpError } from '../../errors.js';
import { EXIT_WARNINGS, outliveReader } from '../command-line.js';
import { complaintText } from './complaint-text.js';
import type { Common } from './db.js';
import { EventOutput } from './events.js';
import { ProgressView } from './progress-view.js';

/** What a session did, and what of it went over the network. */
export interface Outcome {
  readonly report: DatabaseReport;
  readonly networkBytes: { readonly sent: number; readonly received: number };
}

export interface SessionEvents {
  readonly signal: AbortSignal;
  say(line: string): void;
  step(record: StepRecord): void;
  progress(progress: Progress): void;
  complaint(complaint: Complaint): void;
}

/**
 * Shows one session from its beginning to its end, and sets the exit code.
 * @param sinceMs when it began, on the monotonic clock
 * @throws what `work` throws
 */
export async function showSession(
  options: Common,
  work: (view: SessionEvents) => Promise<Outcome>,
  sinceMs = monotonicMs(),
): Promise<void> {
  outliveReader();
  const view = new ProgressView(options.quiet || options.json);
  const events = options.json ? new EventOutput() : undefined;
  const say = (line: string): void => view.say(line);
  const interrupted = new AbortController();
  const onSignal = (): void => {
    interrupted.abort(stpError('ECANCELED', 'interrupted: the session was given up'));
  };
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    const { report, networkBytes } = await work({
      signal: interrupted.signal,
      say,
      step: (record) => options.trace && say(traceLine(record)),
      progress(progress) {
        view.show(progress);
        events?.progress(progress, view.elapsedMs);
      },
      complaint(complaint) {
        events?.warning(complaint);
        say(complaintText(complaint));
      },
    });
    view.end();
    const seconds = (monotonicMs() - sinceMs) / 1000;
    const all = { ...report, seconds, networkBytes };
    if (events) events.summary(all);
    else if (!options.quiet) {
      const { summaryText } = await import('./db-summary.js');
      // A restore may have its data on stdout.
      process.stderr.write(summaryText(all));
    }
    if (report.warnings > 0) process.exitCode = EXIT_WARNINGS;
  } catch (e) {
    events?.error(e);
    throw e;
  } finally {
    view.end();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
