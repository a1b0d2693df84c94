/**
 * A session as people see it: a bar on a terminal, plain lines elsewhere, a summary at the end.
 * stdout has the result; what happens on the way goes to stderr. Main thread.
 */
import cliProgress from 'cli-progress';
import { type StepRecord, traceLine } from '../../backup/handshake-steps.js';
import type { Complaint, Progress } from '../../backup/protocol.js';
import type { RestoreOutcome } from '../../backup/restore-order.js';
import type { SessionReport } from '../../backup/server.js';
import type { ServerEvent } from '../../backup/server-control.js';
import { pathText } from '../../backup/wire-path.js';
import { monotonicMs } from '../../clock.js';
import { humanSize, printable, sheet } from '../output.js';

export interface ViewOptions {
  readonly trace?: true;
  readonly json?: true;
}

/** Where nobody watches a bar, a line now and then shows that it lives. */
const LINE_PERIOD_MS = 5000;
/** Complaints after this many are only counted: the JSON document has more. */
const COMPLAINTS_SHOWN_MAX = 20;

export const EXIT_WARNINGS = 3;
const EXIT_DAMAGED = 4;

export class SessionView {
  report: SessionReport | undefined;
  failure: { code: string; message: string } | undefined;
  readonly #startMs = monotonicMs();
  readonly #options: ViewOptions;
  #bar: cliProgress.SingleBar | undefined;
  #lineMs = 0;
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
        this.#progress(event.progress);
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
    this.#bar?.stop();
    this.#bar = undefined;
  }

  /** Prints the result; 0 complete, 3 complete with warnings, 4 what was verified is not right. */
  finish(report: SessionReport): number {
    if (this.#options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else process.stdout.write(summaryText(report));
    if ((report.restored?.verified?.wrong ?? 0) > 0) return EXIT_DAMAGED;
    return report.warnings > 0 ? EXIT_WARNINGS : 0;
  }

  #say(line: string): void {
    // cli-progress redraws itself below.
    if (this.#bar) process.stderr.write('\r\x1b[K');
    process.stderr.write(`${line}\n`);
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

  #progress({ entries, bytes, moved }: Progress): void {
    if (this.#options.json) return;
    const nowMs = monotonicMs();
    const seconds = (nowMs - this.#startMs) / 1000;
    const rate = `${humanSize(Math.round(moved / seconds))}/s`;
    if (process.stderr.isTTY) {
      this.#bar ??= startBar();
      this.#bar.update(entries, { bytes: humanSize(bytes), rate });
      return;
    }
    if (nowMs - this.#lineMs < LINE_PERIOD_MS) return;
    this.#lineMs = nowMs;
    this.#say(`${entries} entries, ${humanSize(bytes)}, ${rate}`);
  }
}

function startBar(): cliProgress.SingleBar {
  // The size of a tree is known only when it has been walked: there is no total to draw to.
  const bar = new cliProgress.SingleBar({
    format: '{value} entries  {bytes}  {rate}  {duration_formatted}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    etaBuffer: 1,
    fps: 10,
  });
  bar.start(Number.MAX_SAFE_INTEGER, 0, { bytes: '0', rate: '-' });
  return bar;
}

export const complaintText = ({ path, code, message }: Complaint): string =>
  `warning: ${printable(message || pathText(path))} (${code})`;

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
    ...(r.restored === undefined ? [] : restoredRows(r.restored)),
    ['warnings', `${r.warnings}`],
  ];
  const planned = r.restored?.planned ?? [];
  const lines = planned.map(
    ({ action, path }) => `${action.padEnd(7)}  ${printable(pathText(path))}\n`,
  );
  return lines.join('') + sheet(rows);
}
