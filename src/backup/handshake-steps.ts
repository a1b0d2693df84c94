/**
 * A handshake as data: one row a step, numbered as in the figures, and the interpreter of the rows.
 *
 * A row does what its step says to the context it is given and names the row that follows. The
 * interpreter runs one row at a time, gives each a time limit, and reports each when it is done, so
 * that a trace can be read beside the figure. It knows nothing of sockets. Event loop only.
 */
import { assert } from '../assert.js';
import { monotonicMs } from '../clock.js';
import { messageOf } from '../errors.js';
import { afterWaiting } from './deadline.js';
import { STEP_TIMEOUT_MS } from './limits.js';

export type Figure = '4' | '4A' | '5' | '5A';
/** The seed's numeral; one of them has a letter. */
export type StepNumber = number | '196A';
export type Side = 'server' | 'client';

export interface Step<C> {
  readonly step: StepNumber;
  readonly figure: Figure;
  readonly side: Side;
  /** The call the figure shows. */
  readonly name: string;
  /** What this step does, for the trace and for messages. */
  readonly what: string;
  /** Waits for whoever may come, for ever. */
  readonly patient?: true;
  /** `signal` aborts when the step's time is over or the session is given up. */
  run(context: C, signal: AbortSignal): Promise<void> | void;
  readonly next: StepNumber | 'done';
}

/** One line of a trace. */
export interface StepRecord {
  readonly figure: Figure;
  readonly step: StepNumber;
  readonly side: Side;
  readonly what: string;
  /** When the step ended, in milliseconds since the session began. */
  readonly ms: number;
  /** Why it failed; absent when it did not. */
  readonly error?: string;
}

export type Trace = (record: StepRecord) => void;

export interface RunOptions {
  /** Who is at the other end, for messages. */
  readonly peer: string;
  readonly trace?: Trace | undefined;
  /** Origin of `ms`, from the monotonic clock. */
  readonly startMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Stops after this step instead of at `done`. */
  readonly through?: StepNumber | undefined;
}

/** A step that failed: the message names the step and the peer; `cause` is the reason. */
export class StepError extends Error {
  override readonly name = 'StepError';
  constructor(
    readonly step: StepNumber,
    readonly figure: Figure,
    message: string,
    cause: unknown,
  ) {
    super(message, { cause });
  }
}

/** The row of a step; an unknown number is a hole in a table. */
export function rowOf<C>(table: readonly Step<C>[], step: StepNumber): Step<C> {
  const row = table.find((r) => r.step === step);
  assert(row !== undefined, `no step ${step} in this table`);
  return row;
}

const describe = <C>(row: Step<C>): string =>
  `step ${row.step} of Fig. ${row.figure} (${row.name}: ${row.what})`;

/** Runs one row under its time limit. A row that ignores the signal is left behind, not awaited. */
async function runRow<C>(row: Step<C>, context: C, options: RunOptions): Promise<void> {
  const own = new AbortController();
  const outer = options.signal;
  const limitMs = options.timeoutMs ?? STEP_TIMEOUT_MS;
  let endWait = (): void => {};
  let onAbort: (() => void) | undefined;
  try {
    outer?.throwIfAborted();
    const stopped = new Promise<never>((_resolve, reject) => {
      const stop = (reason: unknown): void => {
        own.abort(reason);
        reject(reason);
      };
      onAbort = () => stop(outer?.reason);
      outer?.addEventListener('abort', onAbort, { once: true });
      if (row.patient) return;
      endWait = afterWaiting(limitMs, () => {
        stop(new Error(`${options.peer} was silent for ${limitMs / 1000} s`));
      });
    });
    await Promise.race([row.run(context, own.signal), stopped]);
  } finally {
    endWait();
    if (onAbort) outer?.removeEventListener('abort', onAbort);
  }
}

/** Runs rows from `from` on until `done`, or through `options.through`. Throws `StepError`. */
export async function runSteps<C>(
  table: readonly Step<C>[],
  from: StepNumber,
  context: C,
  options: RunOptions,
): Promise<void> {
  const startMs = options.startMs ?? monotonicMs();
  for (let at: StepNumber | 'done' = from; at !== 'done'; ) {
    const row: Step<C> = rowOf(table, at);
    const { figure, step, side, what } = row;
    const record = { figure, step, side, what: `${row.name}: ${what}` };
    try {
      await runRow(row, context, options);
    } catch (e) {
      const error = messageOf(e);
      options.trace?.({ ...record, ms: monotonicMs() - startMs, error });
      throw new StepError(
        step,
        figure,
        `${describe(row)} with ${options.peer} failed: ${error}`,
        e,
      );
    }
    options.trace?.({ ...record, ms: monotonicMs() - startMs });
    if (at === options.through) return;
    at = row.next;
  }
}

/** One line of a trace, as `--trace` prints it. */
export function traceLine(r: StepRecord): string {
  const step = `${r.step}`.padStart(3);
  const ms = r.ms.toFixed(1).padStart(8);
  const failed = r.error === undefined ? '' : `  FAILED: ${r.error}`;
  return `${ms} ms  Fig. ${r.figure.padEnd(2)}  ${r.side}  ${step}  ${r.what}${failed}`;
}
