/**
 * Which entries of a tree are selected: patterns as in `.gitignore`, matched from `/` on.
 *
 * A directory that is excluded is not entered, so nothing below it can be included again; the last
 * pattern that matches decides, and `!PATTERN` includes. One walk uses a selector; no thread shares
 * it.
 */
import { isUtf8 } from 'node:buffer';
import ignore, { type Ignore } from 'ignore';
import { stpError } from '../errors.js';

/** Patterns of one backup, and bytes of one: a request must fit its line. */
export const PATTERNS_MAX = 1024;
export const PATTERN_BYTES_MAX = 4096;
/** The matcher remembers every path that it saw: a new one is made after so many. */
const REMEMBERED_MAX = 20000;

export class Selector {
  readonly #patterns: readonly string[];
  #matcher: Ignore;
  #asked = 0;

  /** @throws EINVAL for a pattern that is none */
  constructor(patterns: readonly string[]) {
    this.#patterns = patterns;
    for (const pattern of patterns) {
      const bytes = Buffer.byteLength(pattern);
      if (pattern.trim() === '' || bytes > PATTERN_BYTES_MAX || /[\0\n]/.test(pattern)) {
        throw stpError(
          'EINVAL',
          `the pattern ${JSON.stringify(pattern)} is none; see gitignore(5)`,
        );
      }
    }
    this.#matcher = this.#make();
  }

  #make(): Ignore {
    return ignore({ ignorecase: false, allowRelativePaths: true }).add([...this.#patterns]);
  }

  /** @param path as stored */
  excludes(path: Buffer, isDirectory: boolean): boolean {
    if (this.#patterns.length === 0) return false;
    if (path.length === 1 && path[0] === 0x2e) return false;
    if (++this.#asked % REMEMBERED_MAX === 0) this.#matcher = this.#make();
    const text = path.toString(isUtf8(path) ? 'utf8' : 'latin1');
    return this.#matcher.ignores(isDirectory ? `${text}/` : text);
  }
}
