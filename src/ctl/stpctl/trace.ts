/** `stpctl trace SOCKET`: what happens to one connection, or to one listener. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { NotRunningError } from '../../daemon/control-client.js';
import { shown } from '../../daemon/shown.js';
import { ValidationError } from '../../daemon/validation.js';
import { stpError } from '../../errors.js';
import { resolveRunDirectory } from '../../run-directory.js';
import { isoTime } from '../../view/decode.js';
import {
  findTarget,
  parseTraceName,
  type TraceLine,
  type TraceReading,
  Tracer,
  type TraceTarget,
} from '../../view/trace.js';
import { humanSize, type OutputOptions } from '../output.js';
import { intervalMsOf } from './interval.js';
import { addVerb, type VerbOptions } from './verb.js';
import { openView, type ViewSource } from './view-source.js';

/** Data of one interval is one line. */
const INTERVAL_SECONDS_DEFAULT = 0.1;
/**
 * Control events are fetched so often: the director's ring holds the 4096 last ones of an STG, so
 * that none is lost below some 400,000 a second, which is more than a director can make.
 */
const POLL_MS = 10;
/** Over the control API every fetch is a request. */
const POLL_CONTROL_MS = 50;

interface TraceOptions extends VerbOptions {
  readonly interval?: string;
  readonly follow: boolean;
}

/** What `--json` prints, one object a line. */
export interface TraceLineDocument extends Omit<TraceLine, 'atUs'> {
  /** ISO 8601 in UTC, to the microsecond. */
  readonly at: string;
}

/** As `toISOString`, with the microseconds that a trace needs. */
const exactTime = (us: number): string =>
  isoTime(us).replace(/Z$/, `${String(Math.floor(us) % 1000).padStart(3, '0')}Z`);

export function lineDocument({ atUs, ...rest }: TraceLine): TraceLineDocument {
  return { at: exactTime(atUs), ...rest };
}

const DIRECTIONS = ['0 -> 1', '1 -> 0'] as const;

function dataText(line: TraceLine): string {
  const from = line.bytesFrom ?? 0;
  const to = line.bytesTo ?? 0;
  const parts = [`bytes ${from} to ${to} (${humanSize(to - from)})`];
  if (line.queuedBytes !== null) parts.push(`${humanSize(line.queuedBytes)} queued`);
  if (line.sendWaits) parts.push(`sender waited ${line.sendWaits} times`);
  if (line.receiveWaits) parts.push(`receiver waited ${line.receiveWaits} times`);
  if (line.text !== '') parts.push(line.text);
  return parts.join(', ');
}

function placeText(line: TraceLine): string {
  if (line.kind === 'opened' || line.kind === 'joined') {
    return `${line.port} -> ${line.remotePort}  `;
  }
  if (line.kind === 'data' || line.kind === 'full' || line.kind === 'woken') {
    return line.end === null ? '' : `${DIRECTIONS[line.end]}  `;
  }
  if (line.end !== null) {
    const host = line.host === null ? '' : ` host ${line.host}`;
    return `end ${line.end}${host}  `;
  }
  if (line.kind === 'wakes') return `host ${line.host}  `;
  return '';
}

/** @param originUs of the first line */
export function lineText(line: TraceLine, originUs: number, target: TraceTarget): string {
  const after = ((line.atUs - originUs) / 1e6).toFixed(6).padStart(11);
  const mark = line.sampled ? '~' : ' ';
  const what = 'port' in target && line.connection !== null ? `${line.connection}  ` : '';
  const queued =
    line.kind === 'full' && line.queuedBytes !== null
      ? `, ${humanSize(line.queuedBytes)} queued`
      : '';
  const text = line.kind === 'data' ? dataText(line) : `${line.text}${queued}`;
  const time = exactTime(line.atUs).slice(11, -1);
  return `${time} ${after} ${mark} ${line.kind.padEnd(13)}  ${what}${placeText(line)}${text}\n`;
}

async function targetOf(name: string, source: ViewSource): Promise<TraceTarget> {
  const parsed = parseTraceName(name);
  if (parsed === undefined) {
    throw new ValidationError([
      `${shown(name)} is no socket: use STG:PORT, or STG/SLOT.GENERATION as 'stpctl socket list' prints it`,
    ]);
  }
  const { events } = await source.trace(parsed.stg);
  const { sockets } = await source.figures();
  const target = findTarget(parsed, sockets, events);
  if (target === undefined) {
    throw stpError(
      'ENOENT',
      `there is no socket ${name}, and none is remembered; see 'stpctl socket list --stg ${parsed.stg}'`,
    );
  }
  return target;
}

/** Everything that is remembered, then what comes; ends with the connection. */
async function* traceLines(
  source: ViewSource,
  target: TraceTarget,
  options: { intervalMs: number; follow: boolean },
): AsyncGenerator<TraceLine> {
  const tracer = new Tracer(target);
  const slot = 'slot' in target ? target.slot : undefined;
  const pollMs = source.source === 'memory' ? POLL_MS : POLL_CONTROL_MS;
  let dataAt = 0;
  let reading: TraceReading | undefined;
  for (;;) {
    reading = await source.trace(target.stg, reading?.next, slot);
    const now = performance.now();
    const withData = now >= dataAt;
    if (withData) dataAt = now + options.intervalMs;
    yield* tracer.feed(reading, withData);
    if (tracer.done || !options.follow) return;
    await delay(Math.min(pollMs, options.intervalMs));
  }
}

function printer(options: OutputOptions, target: TraceTarget): (line: TraceLine) => void {
  let origin: number | undefined;
  return (line) => {
    origin ??= line.atUs;
    const json = options.json === true;
    process.stdout.write(
      json ? `${JSON.stringify(lineDocument(line))}\n` : lineText(line, origin, target),
    );
  };
}

export function addTrace(parent: Command): void {
  addVerb(parent, 'trace <socket>', {
    summary: 'follow what happens to one connection or listener',
    document: 'one object a line: {"at": ..., "kind": ...}',
    examples: [
      'stpctl trace backup/17.3',
      'stpctl trace backup:40001 --interval 1',
      'stpctl trace backup:7286 --no-follow --json',
    ],
  })
    .addHelpText(
      'after',
      `
SOCKET is a connection (STG/SLOT.GENERATION, or STG:PORT of the end that connected) or a listener
(STG:PORT), as 'stpctl socket list' prints them. The trace starts with what the director remembers
of it and ends when the connection is free; a listener's ends with Ctrl-C.

Lines with a ~ come from looking at memory: data every --interval, the rest every 10 ms. The
others are the director's records, made when it happened; if some were overwritten before they were
read, a line says how many.`,
    )
    .option('--interval <seconds>', `data of this time is one line (${INTERVAL_SECONDS_DEFAULT})`)
    .option('--no-follow', 'print what is remembered and what memory says now, and end')
    .action(async (name: string, options: TraceOptions) => {
      const intervalMs = intervalMsOf(options.interval, INTERVAL_SECONDS_DEFAULT);
      const source = await openView(resolveRunDirectory(options.runDir));
      const target = await targetOf(name, source);
      const out = printer(options, target);
      try {
        const following = { intervalMs, follow: options.follow };
        for await (const line of traceLines(source, target, following)) out(line);
      } catch (error) {
        if (!(error instanceof NotRunningError)) throw error;
        throw stpError(
          'ECONNREFUSED',
          'stpd has ended: its records end here. Established connections go on without it',
        );
      }
    });
}
