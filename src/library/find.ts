/**
 * Find: entries by a pattern of the shell's kind, over the bytes of names. Any thread.
 *
 *   *   any bytes but a slash        **  any bytes
 *   ?   one character but a slash    [a-z] [!a-z]  one of these (ASCII)
 *   \c  c itself
 *
 * A pattern without a slash is compared with the last component, one with a slash with the whole
 * absolute path.
 */
import { stpError } from '../errors.js';

const CHARACTER = '(?:[\\x00-\\x2e\\x30-\\xbf]|[\\xc0-\\xff][\\x80-\\xbf]*)';
const quote = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');

function setAt(pattern: string, at: number): { source: string; end: number } | null {
  const negated = pattern[at + 1] === '!' || pattern[at + 1] === '^';
  const first = at + (negated ? 2 : 1);
  const end = pattern.indexOf(']', first + 1);
  if (end < 0) return null;
  const inner = pattern.slice(first, end).replace(/[\\\]^[]/g, '\\$&');
  return { source: `(?!/)[${negated ? '^' : ''}${inner}]`, end: end + 1 };
}

/** The pattern over names as strings of one character a byte. */
function toRegExp(pattern: string): RegExp {
  let source = '';
  for (let at = 0; at < pattern.length; ) {
    const c = pattern[at] as string;
    const set = c === '[' ? setAt(pattern, at) : null;
    if (set !== null) {
      source += set.source;
      at = set.end;
      continue;
    }
    if (c === '\\' && at + 1 < pattern.length) source += quote(pattern[++at] as string);
    else if (c === '*' && pattern[at + 1] === '*') {
      source += '[^]*';
      at++;
    } else if (c === '*') source += '[^/]*';
    else if (c === '?') source += CHARACTER;
    else source += quote(c);
    at++;
  }
  return new RegExp(`^${source}$`);
}

export type NameMatcher = (storedPath: Buffer) => boolean;

/** @throws EINVAL if it is no pattern */
export function nameMatcher(pattern: string): NameMatcher {
  if (pattern === '') throw stpError('EINVAL', 'the pattern is empty; * finds everything');
  let expression: RegExp;
  try {
    expression = toRegExp(Buffer.from(pattern).toString('latin1'));
  } catch {
    throw stpError('EINVAL', `${pattern} is no pattern: a range of it is not one`);
  }
  if (pattern.includes('/')) return (path) => expression.test(`/${path.toString('latin1')}`);
  return (path) => expression.test(path.toString('latin1', path.lastIndexOf(0x2f) + 1));
}
