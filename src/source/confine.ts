/**
 * The fence around what a client lets itself be asked for.
 *
 * Invariant: the returned path is real (no symlinked parent at the time of the look) and lies at or
 * below the real path of an allowed root. What happens between this look and the reading is
 * the tree walk's affair: it opens the returned path component by component without following.
 * Runs on any thread.
 */
import { realpathSync } from 'node:fs';
import { isCoded, stpError } from '../errors.js';
import { displayPath } from './names.js';

const SLASH = 0x2f;
const ROOT = Buffer.from('/');

/**
 * An absolute path without `.`, empty components and trailing slashes.
 * @throws EINVAL if it is relative, holds NUL or has `..` (whose meaning depends on symlinks)
 */
export function normalisePath(given: Buffer | string): Buffer {
  const bytes = typeof given === 'string' ? Buffer.from(given) : given;
  const bad = (rule: string) =>
    stpError('EINVAL', `the path ${displayPath(bytes)} ${rule}; give an absolute path`);
  if (bytes[0] !== SLASH) throw bad('is not absolute');
  if (bytes.includes(0)) throw bad('contains a NUL byte');
  const parts = bytes.toString('latin1').split('/');
  if (parts.includes('..')) throw bad('contains ..');
  return Buffer.from(`/${parts.filter((p) => p !== '' && p !== '.').join('/')}`, 'latin1');
}

/** True if `path` is `root` or lies below it. Both normalised. */
export function isAtOrBelow(path: Buffer, root: Buffer): boolean {
  if (root.length === 1) return true;
  if (path.length < root.length || path.compare(root, 0, root.length, 0, root.length) !== 0) {
    return false;
  }
  return path.length === root.length || path[root.length] === SLASH;
}

const realPath = (path: Buffer): Buffer => realpathSync.native(path, 'buffer') as Buffer;

/** The real path of the parent, with the last name as it is: a symlink there is an entry itself. */
function realParentPath(path: Buffer): Buffer {
  if (path.length === 1) return path;
  const slash = path.lastIndexOf(SLASH);
  const parent = slash === 0 ? ROOT : realPath(path.subarray(0, slash));
  return Buffer.concat(
    parent.length === 1 ? [path.subarray(slash)] : [parent, path.subarray(slash)],
  );
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  ENOTDIR: 'is no directory',
  EACCES: 'may not be entered',
  ELOOP: 'is a circle of symlinks',
};

/** The first part of a path that cannot be passed, and why: what to look at. */
function whyNot(path: Buffer, failure: { readonly code: string }): string {
  for (let end = path.indexOf(SLASH, 1); end > 0; end = path.indexOf(SLASH, end + 1)) {
    const part = path.subarray(0, end);
    try {
      realPath(part);
    } catch (e) {
      if (isCoded(e)) return `${displayPath(part)} ${reasons[e.code] ?? e.code}`;
    }
  }
  return `${displayPath(path)} ${reasons[failure.code] ?? failure.code}`;
}

/**
 * @param path what the server asked for
 * @param allowedRoots what this client's configuration lists; one that is itself a symlink stands
 *   for what it points to
 * @returns the real path to give to TreeWalk
 * @throws EACCES outside of the roots (whether it exists or not), ENOENT if a parent is missing,
 *   EINVAL for a path that is not absolute or has `..`
 */
export function assertBelowRoots(
  path: Buffer | string,
  allowedRoots: readonly (Buffer | string)[],
): Buffer {
  const asked = normalisePath(path);
  const refused = () => {
    const roots = allowedRoots.map((r) => displayPath(normalisePath(r))).join(', ') || 'none';
    return stpError(
      'EACCES',
      `${displayPath(asked)} is not below a root that this client's configuration lists (${roots})`,
    );
  };
  let real: Buffer | undefined;
  let failure: unknown;
  let absent: Error | undefined;
  try {
    real = realParentPath(asked);
  } catch (e) {
    failure = e;
  }
  for (const given of allowedRoots) {
    const root = normalisePath(given);
    const lexical = isAtOrBelow(asked, root);
    // Only who may see the path learns why it cannot be resolved.
    if (real === undefined) {
      if (lexical && isCoded(failure)) {
        const what = `${displayPath(asked)} cannot be reached: ${whyNot(asked, failure)}`;
        throw stpError(failure.code, what, 'realpath');
      }
      continue;
    }
    let realRoot: Buffer;
    try {
      realRoot = realPath(root);
    } catch (e) {
      if (!lexical || !isCoded(e)) continue;
      const what = `${displayPath(root)}, a root of this client's configuration`;
      // Another root may have the path, too.
      absent ??= stpError(e.code, `${what}, ${reasons[e.code] ?? e.code}`, 'realpath');
      continue;
    }
    if (asked.equals(root)) return realRoot;
    if (isAtOrBelow(real, realRoot)) return real;
  }
  throw absent ?? refused();
}
