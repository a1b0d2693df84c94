/**
 * The daemon's log: JSON lines in a file in the background, readable lines on stderr in the
 * foreground.
 *
 * Lines are written at once with O_APPEND, so that the last one before a crash is there and
 * whatever else writes to the file (stderr of a background daemon is the same file) is not lost.
 * A log that cannot be written, because the disk is full or the terminal is gone, never takes the
 * daemon down: such lines are counted. Main thread.
 */
import { closeSync, constants, fstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { LOG_FILE } from '../run-directory.js';
import type { Configuration, LogLevel } from './configuration.js';

export type Log = Logger;

const WARN = 40;
const STDERR = 2;

export interface LogOptions {
  readonly level: LogLevel;
  /** Null: readable lines on stderr. */
  readonly file: string | null;
}

/** The log of a daemon in the background. */
export const logPath = (configuration: Configuration, runDirectory: string): string =>
  configuration.logFile ?? join(runDirectory, LOG_FILE);

/** Opens a log file so that this process and another may both append to it. */
export const openLogFile = (path: string): number =>
  openSync(path, constants.O_CREAT | constants.O_APPEND | constants.O_WRONLY, 0o640);

/** `2026-01-31T12:00:00.000Z INFO  the message key=value`, with an error's stack below. */
export function readableLine(json: string): string {
  const { time, level, msg, pid: _pid, err, ...rest } = JSON.parse(json) as Record<string, unknown>;
  const pairs = Object.entries(rest).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const head = `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${String(msg ?? '')}`;
  const { stack } = (err ?? {}) as { stack?: string };
  return `${head}${pairs.join('')}${stack === undefined ? '' : `\n${stack}`}\n`;
}

export class DaemonLog {
  readonly log: Log;
  /** Lines that could not be written. */
  lostLines = 0;
  readonly #file: string | null;
  readonly #fd: number;
  readonly #startBytes: number;
  #bytes = 0;
  #troubles = 0;

  constructor(options: LogOptions) {
    this.#file = options.file;
    this.#fd = options.file === null ? STDERR : openLogFile(options.file);
    this.#startBytes = options.file === null ? 0 : fstatSync(this.#fd).size;
    const sink = {
      // Makes pino tell each line's level in `lastLevel`.
      [Symbol.for('pino.metadata')]: true,
      lastLevel: 0,
      write: (line: string): void => this.#write(line, sink.lastLevel),
    };
    this.log = pino(
      {
        level: options.level,
        base: { pid: process.pid },
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
      },
      sink,
    );
  }

  #write(line: string, level: number): void {
    if (level >= WARN) this.#troubles += 1;
    const text = Buffer.from(this.#file === null ? readableLine(line) : line);
    try {
      this.#bytes += writeSync(this.#fd, text);
    } catch {
      this.lostLines += 1;
    }
  }

  /** True if nothing at warning level or above, and nothing by others, was written since start. */
  get uneventful(): boolean {
    if (this.#troubles > 0 || this.lostLines > 0) return false;
    return this.#file === null || fstatSync(this.#fd).size === this.#startBytes + this.#bytes;
  }

  /** Lines logged later are lost. */
  close(options: { remove: boolean }): void {
    if (this.#file === null) return;
    if (options.remove) unlinkSync(this.#file);
    closeSync(this.#fd);
  }
}
