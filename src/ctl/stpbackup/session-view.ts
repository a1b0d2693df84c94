/**
 * A session as people see it: a line of progress on a terminal, a summary at the end; or as scripts
 * do, an event a line. stdout has the result; what is wrong goes to stderr. Main thread.
 */
import { type StepRecord, traceLine } from '../../backup/handshake-steps.js';
import type { Complaint, Progress } from '../../backup/protocol-words.js';
import type { RestoreOutcome } from '../../backup/restore-order.js';
import type { SessionReport } from '../../backup/server.js';
import type { ServerEvent } from '../../backup/server-control.js';
import { pathText } from '../../backup/wire-path.js';
import { EXIT_DAMAGED, EXIT_OK, EXIT_WARNINGS } from '../command-line.js';
import { humanSize, printable } from '../output.js';
import { sheet } from '../table.js';
import { complaintText } from './complaint-text.js';
import { EventOutput } from './events.js';
import { ProgressView } from './progress-view.js';
import { waitedRows } from './waited.js';

export interface ViewOptions {
  readonly trace?: true;
  readonly json?: true;
  readonly quiet?: true;
}

/** Complaints after this many are only counted: the JSON document has more. */
const COMPLAINTS_SHOWN_MAX = 20;

export class SessionView {
  report: SessionReport | undefined;
  failure: { code: string; message: string } | undefined;
  readonly #progress: ProgressView;
  readonly #events: EventOutput | undefined;
  readonly #options: ViewOptions;
  #complaints = 0;

  constructor(options: ViewOptions) {
    this.#options = options;
    this.#events = options.json ? new EventOutput() : undefined;
    this.#progress = new ProgressView(options.quiet || options.json);
  }

  onEvent(event: ServerEvent): void {
    switch (event.event) {
      case 'step':
        this.#step(event.record);
        break;
      case 'progress':
        this.#onProgress(event.progress);
        break;
      case 'complaint':
        this.#complaint(event.complaint);
        break;
      case 'notice':
        if (!this.#options.quiet) this.#progress.say(printable(event.text));
        break;
      case 'done':
        this.report = event.report;
        break;
      case 'failed':
        this.failure = event;
    }
  }

  /** No more events: leaves the terminal as it was. */
  end(): void {
    this.#progress.end();
  }

  /** Prints the result; 0 complete, 3 complete with warnings, 4 what was verified is not right. */
  finish(report: SessionReport): number {
    if (this.#events) this.#events.summary(report);
    else if (!this.#options.quiet) process.stdout.write(summaryText(report));
    if ((report.restored?.verified?.wrong ?? 0) > 0) return EXIT_DAMAGED;
    return report.warnings > 0 ? EXIT_WARNINGS : EXIT_OK;
  }

  /** The session came to nothing: an event of it. */
  failed(e: unknown): void {
    this.#events?.error(e);
  }

  #onProgress(progress: Progress): void {
    this.#progress.show(progress);
    this.#events?.progress(progress, this.#progress.elapsedMs);
  }

  #step(record: StepRecord): void {
    if (this.#options.trace) this.#progress.say(traceLine(record));
  }

  #complaint(complaint: Complaint): void {
    this.#events?.warning(complaint);
    this.#complaints++;
    if (this.#complaints > COMPLAINTS_SHOWN_MAX) return;
    this.#progress.say(complaintText(complaint));
    if (this.#complaints === COMPLAINTS_SHOWN_MAX) {
      this.#progress.say('further warnings are only counted; --json names more');
    }
  }
}

function restoredRows(r: RestoreOutcome): [string, string][] {
  const { made, replaced, left, skipped, ownersNotSet, verified } = r;
  const rows: [string, string][] = [['target', `${made} made, ${replaced} replaced, ${left} left`]];
  if (skipped > 0) rows.push(['', `${skipped} have no place there`]);
  if (ownersNotSet > 0)
    rows.push(['owners', `${ownersNotSet} not set: only root gives files away`]);
  if (verified !== null) {
    const { entries, bytes, wrong } = verified;
    const read = `${entries} entries, ${humanSize(bytes)} read back`;
    rows.push(['verified', `${read}: ${wrong === 0 ? 'as in the set' : `${wrong} are not`}`]);
  }
  return rows;
}

function summaryText(r: SessionReport): string {
  const { server, client } = r.networkBytes;
  const network = server.sent + server.received;
  const share =
    r.memoryBytes > 0 ? ` (${((100 * network) / r.memoryBytes).toFixed(3)} % of it)` : '';
  const rate = humanSize(Math.round(r.movedBytes / r.seconds));
  const { resumed } = r;
  const kept: [string, string][] = resumed
    ? [['taken over', `${resumed.entries} entries, ${humanSize(resumed.bytes)}`]]
    : [];
  const rows: [string, string][] = [
    [r.op === 'backup' ? 'set' : 'restored set', r.set],
    ['host', r.host],
    ['entries', `${r.entries}`],
    ...kept,
    ['file data', `${r.bytes} bytes (${humanSize(r.bytes)})`],
    ['time', `${r.seconds.toFixed(2)} s, ${rate}/s`],
    ['via', r.viaReason === undefined ? r.via : `${r.via}, as the array was not: ${r.viaReason}`],
    ['over memory', `${r.memoryBytes} bytes (${humanSize(r.memoryBytes)})`],
    ['over the network', `${network} bytes${share}, as the server counts`],
    ['', `${client.sent + client.received} bytes, as the client counts`],
    ...(r.restored === undefined ? [] : restoredRows(r.restored)),
    ...waitedRows(r),
    ['warnings', `${r.warnings}`],
  ];
  const planned = r.restored?.planned ?? [];
  const lines = planned.map(
    ({ action, path }) => `${action.padEnd(7)}  ${printable(pathText(path))}\n`,
  );
  return lines.join('') + sheet(rows);
}
