/**
 * Errors that reach a caller: an `Error` with a POSIX `code`, the same over TCP and STP.
 */
import { constants } from 'node:os';

export interface StpError extends Error {
  code: string;
  /** Negative, as Node's own system errors have it. */
  errno?: number;
  syscall?: string;
  /** What the array lacks for what was asked: a REASON_ number of the layout. */
  reason?: number;
  /** Of connect, bind and listen, as Node's own errors have them: the port, and the STG. */
  port?: number;
  address?: string;
}

const numbers: Readonly<Record<string, number>> = { ...constants.errno };
const names = new Map(Object.entries(numbers).map(([k, v]) => [v, k]));

/** The name of a POSIX error number, `E<number>` where it has none. */
export const codeOfErrno = (errno: number): string => names.get(errno) ?? `E${errno}`;

/** The POSIX number of a name; EIO where the platform does not know it. */
export const errnoOfCode = (code: string): number => numbers[code] ?? (numbers.EIO as number);

/**
 * @param code POSIX name, such as `ECONNRESET`
 * @param message what happened, to what, and what to do; the code is put in front
 * @param syscall the call that failed, as Node's errors name it
 */
export function stpError(code: string, message: string, syscall?: string): StpError {
  const error = new Error(`${code}: ${message}`) as StpError;
  error.code = code;
  const errno = numbers[code];
  if (errno !== undefined) error.errno = -errno;
  if (syscall !== undefined) error.syscall = syscall;
  return error;
}

/** True for an `Error` that carries a string `code`. */
export const isCoded = (e: unknown): e is StpError =>
  e instanceof Error && typeof (e as StpError).code === 'string';

/** What to print of anything thrown. */
export const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

/**
 * An error of Node's own kind: a code of Node's (`ERR_...`), no errno. For what `node:net` throws or
 * emits so, with the same code.
 * @param Kind TypeError and RangeError for arguments, Error for the rest
 */
export function nodeError(
  Kind: new (message: string) => Error,
  code: string,
  message: string,
): Error & { code: string } {
  return Object.assign(new Kind(message), { code });
}
