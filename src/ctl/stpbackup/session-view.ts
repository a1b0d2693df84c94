/**
 * A session as people see it: a bar on a terminal, plain lines elsewhere, a summary at the end.
 * stdout has the result; what happens on the way goes to stderr. Main thread.
 */
import { type StepRecord, traceLine } from '../../backup/handshake-steps.js';
import type { Complaint } from '../../backup/protocol.js';
import type { SessionReport } from '../../backup/server.js';
import type { ServerEvent } from '../../backup/server-control.js';
import { pathText } from '../../backup/wire-path.js';
import { humanSize, printable, sheet } from '../output.js';
import { ProgressView } from './progress-view.js';

export interface ViewOptions {
  readonly trace?: true;
  readonly json?: true;
}

/** Complaints after this many are only counted: the JSON document has more. */
const COMPLAINTS_SHOWN_MAX = 20;

export const EXIT_WARNINGS = 3;

export class SessionView {
  report: SessionReport | undefined;
  failure: { code: string; message: string } | undefined;
  readonly #progress = new ProgressView();
  readonly #options: ViewOptions;
  #complaints = 0;

  constructor(options: ViewOptions) {
    this.#options = options;
  }

  onEvent(event: ServerEvent): void {
    switch (event.event) {
      case 'step':
        this.#step(event.record);
        break;
      case 'progress':
        if (!this.#options.json) this.#progress.show(event.progress);
        break;
      case 'complaint':
        this.#complaint(event.complaint);
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

  /** Prints the result; 0 complete, 3 complete with warnings. */
  finish(report: SessionReport): number {
    if (this.#options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else process.stdout.write(summaryText(report));
    return report.warnings > 0 ? EXIT_WARNINGS : 0;
  }

  #say(line: string): void {
    this.#progress.say(line);
  }

  #step(record: StepRecord): void {
    if (this.#options.trace) this.#say(traceLine(record));
  }

  #complaint(complaint: Complaint): void {
    this.#complaints++;
    if (this.#complaints > COMPLAINTS_SHOWN_MAX) return;
    this.#say(complaintText(complaint));
    if (this.#complaints === COMPLAINTS_SHOWN_MAX) this.#say('further warnings are only counted');
  }
}

export const complaintText = ({ path, code, message }: Complaint): string =>
  `warning: ${printable(message || pathText(path))} (${code})`;

function summaryText(r: SessionReport): string {
  const { server, client } = r.networkBytes;
  const network = server.sent + server.received;
  const share =
    r.memoryBytes > 0 ? ` (${((100 * network) / r.memoryBytes).toFixed(3)} % of it)` : '';
  const rate = humanSize(Math.round(r.movedBytes / r.seconds));
  const rows: [string, string][] = [
    [r.op === 'backup' ? 'set' : 'restored set', r.set],
    ['host', r.host],
    ['entries', `${r.entries}`],
    ['file data', `${r.bytes} bytes (${humanSize(r.bytes)})`],
    ['time', `${r.seconds.toFixed(2)} s, ${rate}/s`],
    ['via', r.viaReason === undefined ? r.via : `${r.via}, as the array was not: ${r.viaReason}`],
    ['over memory', `${r.memoryBytes} bytes (${humanSize(r.memoryBytes)})`],
    ['over the network', `${network} bytes${share}, as the server counts`],
    ['', `${client.sent + client.received} bytes, as the client counts`],
    ['warnings', `${r.warnings}`],
  ];
  return sheet(rows);
}
