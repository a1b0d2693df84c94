/**
 * The terminal of a live view: another screen without a cursor, keys one by one, and everything as
 * it was on the way out, whichever way that is.
 *
 * Invariant: after `leave` the terminal is as before `enter`; the process's exit, a signal, and an
 * exception all pass through `leave`. Only SIGKILL does not: `reset` repairs what that leaves.
 * Main thread.
 */
import { splitKeys } from './top-screen.js';

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[2J';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export interface TerminalHandler {
  onKey(key: string): void;
  /** The size is another, or the screen was somebody else's meanwhile. */
  onResize(): void;
}

export class Terminal {
  readonly #handler: TerminalHandler;
  #inside = false;

  constructor(handler: TerminalHandler) {
    this.#handler = handler;
  }

  /** False where output is no terminal, or one that cannot place text. */
  static get usable(): boolean {
    return process.stdout.isTTY === true && process.env.TERM !== 'dumb';
  }

  get size(): { columns: number; rows: number } {
    const { columns, rows } = process.stdout;
    /* A terminal that does not know its size says 0. */
    return { columns: columns || 80, rows: rows || 24 };
  }

  enter(): void {
    this.#open();
    process.stdin.on('data', this.#onData);
    process.stdout.on('resize', this.#onResize);
    process.on('SIGCONT', this.#onContinue);
    process.on('exit', this.#close);
    for (const signal of END_SIGNALS) process.on(signal, this.#onSignal);
  }

  leave(): void {
    this.#close();
    process.stdin.off('data', this.#onData);
    process.stdin.pause();
    process.stdout.off('resize', this.#onResize);
    process.off('SIGCONT', this.#onContinue);
    process.off('exit', this.#close);
    for (const signal of END_SIGNALS) process.off(signal, this.#onSignal);
  }

  /** As a shell expects it: the terminal is the shell's until `fg`. */
  suspend(): void {
    this.#close();
    process.kill(process.pid, 'SIGSTOP');
  }

  draw(lines: readonly string[]): void {
    if (!this.#inside) return;
    const text = lines.map((line, i) => `\x1b[${i + 1};1H${line}\x1b[K`).join('');
    process.stdout.write(`${text}\x1b[J`);
  }

  #open(): void {
    if (this.#inside) return;
    this.#inside = true;
    process.stdout.write(ENTER);
    if (process.stdin.isTTY) process.stdin.setRawMode(true);
    process.stdin.setEncoding('utf8').resume();
  }

  readonly #close = (): void => {
    if (!this.#inside) return;
    this.#inside = false;
    if (process.stdin.isTTY) process.stdin.setRawMode(false);
    process.stdout.write(LEAVE);
  };

  readonly #onData = (chunk: string): void => {
    for (const key of splitKeys(chunk)) this.#handler.onKey(key);
  };

  readonly #onResize = (): void => this.#handler.onResize();

  readonly #onContinue = (): void => {
    this.#open();
    this.#handler.onResize();
  };

  /** The terminal first, then the signal as if nobody had been here. */
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.leave();
    process.kill(process.pid, signal);
  };
}
