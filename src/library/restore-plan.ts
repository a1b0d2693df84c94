/**
 * What a restore is asked to do besides the plain one: what of the target may be replaced, where an
 * entry goes, and whose it becomes. No system call but readlink; any thread.
 */
import { type BigIntStats, readlinkSync } from 'node:fs';
import type { EntryType } from '../source/names.js';
import type { ManifestEntry } from './manifest.js';

/**
 * What happens to what is in the target already. `refuse`: the target must be empty. `if-newer`: the
 * set's mtime is later. `if-changed`: type, size, mtime, mode, owner, link or device differ.
 */
export type Overwrite = 'refuse' | 'never' | 'always' | 'if-newer' | 'if-changed';
export const overwriteModes = ['refuse', 'never', 'always', 'if-newer', 'if-changed'] as const;

/** Stored paths. What is at or below `from` goes to `to`; `.` is all, or the target itself. */
export interface PathMap {
  readonly from: Buffer;
  readonly to: Buffer;
}

export interface RestoreChoices {
  readonly overwrite?: Overwrite;
  /** Components that go away in front of each path; what has no more than these is not restored. */
  readonly strip?: number;
  /** The first that fits counts; what none fits stays as it is. */
  readonly maps?: readonly PathMap[];
  /** False: everything belongs to whoever restores. */
  readonly owners?: boolean;
  /** Numbers for numbers; others stay. */
  readonly users?: ReadonlyMap<number, number>;
  readonly groups?: ReadonlyMap<number, number>;
  /** Nothing is written: the report says what would be. */
  readonly dryRun?: boolean;
  /** Afterwards everything is read back and compared. */
  readonly verify?: boolean;
  /** Stored paths, as they are after `maps`: only what is at or below one of them is restored. */
  readonly below?: readonly Buffer[];
}

const SLASH = 0x2f;
const DOT = Buffer.from('.');
const isRoot = (path: Buffer): boolean => path.length === 1 && path[0] === 0x2e;

/** What of `path` is below `top`, without the slash: empty for `top` itself, null if it is not. */
function restBelow(path: Buffer, top: Buffer): Buffer | null {
  if (isRoot(top)) return isRoot(path) ? path.subarray(1) : path;
  if (path.length < top.length || path.compare(top, 0, top.length, 0, top.length) !== 0)
    return null;
  if (path.length === top.length) return path.subarray(top.length);
  return path[top.length] === SLASH ? path.subarray(top.length + 1) : null;
}

export const isAtOrBelowAny = (path: Buffer, tops: readonly Buffer[]): boolean =>
  tops.some((top) => restBelow(path, top) !== null);

function joined(top: Buffer, rest: Buffer): Buffer {
  if (isRoot(top)) return rest.length === 0 ? DOT : rest;
  return rest.length === 0 ? top : Buffer.concat([top, Buffer.of(SLASH), rest]);
}

/** Where an entry goes; null: nowhere. */
export function placeOf(path: Buffer, { strip = 0, maps = [] }: RestoreChoices): Buffer | null {
  for (const { from, to } of maps) {
    const rest = restBelow(path, from);
    if (rest !== null) return joined(to, rest);
  }
  if (strip === 0) return path;
  if (isRoot(path)) return null;
  let start = 0;
  for (let i = 0; i < strip; i++) {
    const slash = path.indexOf(SLASH, start);
    if (slash < 0) return null;
    start = slash + 1;
  }
  return path.subarray(start);
}

/** The entry as it is to be in the target; null if it has no place there. */
export function placed(entry: ManifestEntry, choices: RestoreChoices): ManifestEntry | null {
  const { users, groups, strip = 0, maps = [] } = choices;
  const uid = users?.get(entry.uid) ?? entry.uid;
  const gid = groups?.get(entry.gid) ?? entry.gid;
  if (strip === 0 && maps.length === 0) {
    return uid === entry.uid && gid === entry.gid ? entry : { ...entry, uid, gid };
  }
  const path = placeOf(entry.path, choices);
  if (path === null) return null;
  const isLink = entry.type === 'hardlink' && entry.link !== null;
  // Null for a first name that goes nowhere: it is not there, then.
  const link = isLink ? placeOf(entry.link, choices) : entry.link;
  return { ...entry, path, link, uid, gid };
}

export function typeOf(stat: BigIntStats): EntryType | 'socket' {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isFIFO()) return 'fifo';
  if (stat.isCharacterDevice()) return 'char';
  return stat.isBlockDevice() ? 'block' : 'socket';
}

const PERMISSIONS = 0o7777n;

/** As glibc's makedev(3) has it. */
const deviceOf = (major: number, minor: number): bigint => {
  const [a, b] = [BigInt(major), BigInt(minor)];
  return (
    ((a & 0xfffff000n) << 32n) | ((a & 0xfffn) << 8n) | ((b & 0xffffff00n) << 12n) | (b & 0xffn)
  );
};

/**
 * What of an entry that is no hard link differs from what is there, in words; empty if nothing does.
 * @param access where it is, for the target of a symlink
 * @param withOwner whether owners count
 */
export function differences(
  entry: ManifestEntry,
  there: BigIntStats,
  access: Buffer,
  withOwner: boolean,
): string[] {
  if (typeOf(there) !== entry.type) return ['type'];
  const found: string[] = [];
  const check = (what: string, same: boolean): void => {
    if (!same) found.push(what);
  };
  if (entry.type !== 'symlink') {
    check('mode', (there.mode & PERMISSIONS) === BigInt(entry.mode));
  } else {
    check('target', (readlinkSync(access, 'buffer') as Buffer).equals(entry.link as Buffer));
  }
  if (withOwner) {
    check('owner', there.uid === BigInt(entry.uid));
    check('group', there.gid === BigInt(entry.gid));
  }
  check('mtime', there.mtimeNs === entry.mtimeNs);
  if (entry.type === 'file') check('size', there.size === BigInt(entry.size));
  if (entry.type === 'char' || entry.type === 'block') {
    check('device', there.rdev === deviceOf(entry.major, entry.minor));
  }
  return found;
}
