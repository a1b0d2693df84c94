/**
 * Names of files as bytes: what a stored path may look like, and how one is shown to people.
 *
 * Linux names are bytes without a meaning, so they are Buffers everywhere; a string is made for
 * display only. A stored path is relative, from `/` on: `usr/include/stdio.h`; the one name `.`
 * stands for `/` itself. Runs on any thread; no state.
 */
import { isUtf8 } from 'node:buffer';

/**
 * Longest stored path. The kernel takes 4096 bytes a call, but trees made and walked level by level
 * go deeper; with every byte escaped (`\u0001`), path and link still fit one manifest line.
 */
export const PATH_BYTES_MAX = 16384;
/** The longest name of one file, on every Linux file system. */
export const NAME_BYTES_MAX = 255;

/** What a stored name stands for. A hard link is a further name of a file (or other inode). */
export type EntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'char' | 'block';

const SLASH = 0x2f;
const DOT = 0x2e;

/** Why these bytes are not a stored path; null if they are one. */
export function pathProblem(path: Uint8Array): string | null {
  const length = path.length;
  if (length === 0) return 'is empty';
  if (length > PATH_BYTES_MAX) return `is longer than ${PATH_BYTES_MAX} bytes`;
  if (length === 1 && path[0] === DOT) return null;
  let start = 0;
  for (let i = 0; i <= length; i++) {
    const byte = i === length ? SLASH : path[i];
    if (byte === 0) return 'contains a NUL byte';
    if (byte !== SLASH) continue;
    const bytes = i - start;
    if (bytes === 0) return start === 0 ? 'is absolute' : 'has an empty component';
    if (bytes === 1 && path[start] === DOT) return 'has the component .';
    if (bytes === 2 && path[start] === DOT && path[start + 1] === DOT) {
      return 'has the component ..';
    }
    if (bytes > NAME_BYTES_MAX) return `has a component longer than ${NAME_BYTES_MAX} bytes`;
    start = i + 1;
  }
  return null;
}

const isRoot = (path: Buffer): boolean => path.length === 1 && path[0] === DOT;

/** A byte as a walk orders it: the end of a path first, then a slash, then the rest. */
function walkByte(path: Buffer, at: number): number {
  if (at >= path.length) return -1;
  const byte = path[at] as number;
  return byte === SLASH ? 0 : byte;
}

/**
 * The order of a walk, for stored and for absolute paths: negative if `a` comes before `b`. A
 * directory comes before what is in it.
 */
export function compareWalk(a: Buffer, b: Buffer): number {
  if (isRoot(a) || isRoot(b)) return Number(isRoot(b)) - Number(isRoot(a));
  const common = Math.min(a.length, b.length);
  let at = 0;
  while (at < common && a[at] === b[at]) at++;
  return walkByte(a, at) - walkByte(b, at);
}

/**
 * A path for messages and logs: on one line, without bytes that a terminal would obey. Not UTF-8:
 * each byte above ASCII as `\xNN`.
 */
export function displayPath(path: Buffer): string {
  const text = path.toString(isUtf8(path) ? 'utf8' : 'latin1');
  const escaped = isUtf8(path)
    ? text
    : text.replace(/[\x80-\xff]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return escaped.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (c) => {
    const code = c.charCodeAt(0);
    if (c === '\n') return '\\n';
    return code < 256
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}
