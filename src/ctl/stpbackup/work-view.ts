/**
 * What `check`, `repair`, `forget` and `prune` say while they work on the library and at their end:
 * a line on a terminal, events (`--events`), or nothing. Main thread, which the work blocks.
 */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { outliveReader } from '../command-line.js';
import { humanDuration, humanSize, type OutputOptions, print } from '../output.js';
import { EventOutput } from './events.js';
import { type Done, ProgressView, secondsLeft, shareDone } from './progress-view.js';

export interface WorkOptions extends OutputOptions {
  readonly events?: true;
  readonly quiet?: true;
}

/** Adds the ways to say it. */
export const withWork = (command: Command): Command =>
  command
    .option('--quiet', 'say nothing unless something is wrong')
    .option('--json', 'print one JSON object')
    .option('--events', 'print events, one JSON object a line (docs/events.schema.json)');

/** `12 % of 3.1 GiB, 512.0 MiB/s, 5 s left`. */
export function shareText(bytes: number, total: number, elapsedMs: number): string {
  const done = { entries: 0, bytes, moved: bytes, total };
  const left = secondsLeft(done, elapsedMs);
  const rate = humanSize(Math.round((1000 * bytes) / Math.max(1, elapsedMs)));
  const eta = left === null ? '' : `, ${humanDuration(Math.ceil(left))} left`;
  return `${Math.floor(100 * (shareDone(done) ?? 0))} % of ${humanSize(total)}, ${rate}/s${eta}`;
}

export class WorkView {
  readonly #verb: string;
  readonly #options: WorkOptions;
  readonly #view: ProgressView;
  readonly #events: EventOutput | null;

  constructor(verb: string, options: WorkOptions) {
    if (options.json && options.events) {
      throw new ConfigurationError('give one of --json and --events');
    }
    outliveReader();
    this.#verb = verb;
    this.#options = options;
    this.#view = new ProgressView(options.quiet || options.json || options.events);
    this.#events = options.events ? new EventOutput() : null;
  }

  /** Call as often as you like. `what` is being done, where that is not all the time the same. */
  progress(bytes: number, total: number, what = ''): void {
    const { elapsedMs } = this.#view;
    const done: Done = { entries: 0, bytes, moved: bytes, total };
    this.#events?.progress(done, elapsedMs);
    this.#view.draw(() => `${what}${shareText(bytes, total, elapsedMs)}`);
  }

  /** Something is not as it should be: a line on stderr, or an event. */
  problem(set: string, code: string, text: string): void {
    if (this.#events) this.#events.warning({ path: set, code, message: text });
    else if (!this.#options.json) this.#view.say(`${set}: ${text}`);
  }

  /** Runs `work`, which gives the document, and prints it. */
  run<T extends object>(work: () => T, form: (document: T) => string): T {
    try {
      const document = work();
      this.#view.end();
      if (this.#events) this.#events.document(this.#verb, document);
      else if (this.#options.json || !this.#options.quiet) print(this.#options, document, form);
      return document;
    } catch (e) {
      this.#events?.error(e);
      throw e;
    } finally {
      this.#view.end();
    }
  }
}
