/**
 * What all our programs share: exit codes, how errors are printed, strict numbers. Main thread.
 */
import { type Command, CommanderError } from 'commander';
import { isCoded, messageOf } from '../errors.js';

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
/** Wrong usage or a refused value: nothing was tried. */
export const EXIT_USAGE = 2;
/** Done, but not all of it is as it should be. */
export const EXIT_WARNINGS = 3;
/** It was looked, and something stored is damaged. */
export const EXIT_DAMAGED = 4;
/** Nobody answers: stpd, or the other role of stpbackup, is not running. */
export const EXIT_NOT_RUNNING = 5;

/** The same in all programs, and in docs/using.md (docs/decisions/0030). */
export const EXIT_CODES: readonly (readonly [number, string])[] = [
  [EXIT_OK, 'done'],
  [EXIT_FAILURE, 'failed; the reason is on stderr'],
  [EXIT_USAGE, 'wrong usage, or a value that is refused; nothing was tried'],
  [EXIT_WARNINGS, 'done, with warnings: what is not as it should be is named on stderr'],
  [EXIT_DAMAGED, 'done, and something in the library is damaged; it is named'],
  [EXIT_NOT_RUNNING, 'nobody answers: stpd, or the stpbackup that is asked, is not running'],
];

export const EXIT_CODES_HELP = `
Exit codes:
${EXIT_CODES.map(([code, meaning]) => `  ${code}  ${meaning}`).join('\n')}`;

const USAGE_CODES = new Set(['EINVAL', 'ENAMETOOLONG']);

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
  if (!isCoded(error)) return EXIT_FAILURE;
  if (error.name === 'NotRunningError') return EXIT_NOT_RUNNING;
  // More memory than there is: a value that is refused.
  if (error.name === 'MemoryRefusedError') return EXIT_USAGE;
  return USAGE_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILURE;
}

/** The message without the POSIX code in front: that is for programs. */
export function plainMessage(error: unknown): string {
  const message = messageOf(error);
  const prefix = isCoded(error) ? `${error.code}: ` : '';
  return prefix !== '' && message.startsWith(prefix) ? message.slice(prefix.length) : message;
}

/** One line for each problem, each with the program's name. */
export function errorText(program: string, error: unknown): string {
  return plainMessage(error)
    .split('\n')
    .map((line) => `${program}: ${line}\n`)
    .join('');
}

/** A number if it is one; else what was typed, for the validator to name. */
export const typedNumber = (text: string): number | string =>
  /^[0-9]+$/.test(text) ? Number(text) : text;

/** For options that may be given several times. */
export const typedNumbers = (
  text: string,
  before: readonly (number | string)[] = [],
): (number | string)[] => [...before, typedNumber(text)];

/** `--allow-uid` of `allowUid`. */
export const flagOf = (key: string): string =>
  `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

let outlivesReader = false;

/**
 * For verbs that do more than print: when the reader of their output goes away (`| head`), the work
 * goes on, and the exit code tells of the work.
 */
export function outliveReader(): void {
  outlivesReader = true;
}

/**
 * Parses, runs the verb and sets the exit code. A reader that went away (`| head`) is no failure.
 */
export async function runProgram(program: Command, argv: readonly string[]): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (!outlivesReader) process.exit(EXIT_OK);
  });
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    // Commander has printed its own.
    if (!(error instanceof CommanderError)) process.stderr.write(errorText(program.name(), error));
    process.exitCode = exitCodeOf(error);
  }
}
