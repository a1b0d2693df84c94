/** Entries of a set as lines for people and as JSON. Main thread. */
import { isUtf8 } from 'node:buffer';
import type { ManifestEntry } from '../../library/manifest.js';
import { displayPath } from '../../source/names.js';

const letters = {
  file: '-',
  hardlink: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  char: 'c',
  block: 'b',
} as const;

/** `rwxr-sr-t` of permission bits. */
export function modeText(mode: number): string {
  const bit = (shift: number, letter: string) => ((mode >> shift) & 1 ? letter : '-');
  const execute = (shift: number, special: number, letter: string): string => {
    const runs = ((mode >> shift) & 1) === 1;
    if (((mode >> special) & 1) === 0) return runs ? 'x' : '-';
    return runs ? letter : letter.toUpperCase();
  };
  return (
    bit(8, 'r') +
    bit(7, 'w') +
    execute(6, 11, 's') +
    bit(5, 'r') +
    bit(4, 'w') +
    execute(3, 10, 's') +
    bit(2, 'r') +
    bit(1, 'w') +
    execute(0, 9, 't')
  );
}

/** ISO 8601 to the second, UTC; nanoseconds where a Date has no room. */
export function timeText(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n));
  return Number.isNaN(date.getTime()) ? `${ns}ns` : date.toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The stored path as it was on the host. */
export const hostPath = (path: Buffer): string =>
  path.length === 1 && path[0] === 0x2e ? '/' : `/${displayPath(path)}`;

function linkText(entry: ManifestEntry): string {
  if (entry.link === null) return '';
  return entry.type === 'symlink'
    ? ` -> ${displayPath(entry.link)}`
    : ` link to ${hostPath(entry.link)}`;
}

export function entryLine(entry: ManifestEntry): string {
  const isDevice = entry.type === 'char' || entry.type === 'block';
  const size = isDevice ? `${entry.major},${entry.minor}` : String(entry.size);
  const owner = `${entry.uid}:${entry.gid}`;
  return (
    `${letters[entry.type]}${modeText(entry.mode)} ${owner.padEnd(11)} ${size.padStart(12)} ` +
    `${timeText(entry.mtimeNs)} ${hostPath(entry.path)}${linkText(entry)}\n`
  );
}

const named = (name: string, bytes: Buffer): object =>
  isUtf8(bytes) ? { [name]: bytes.toString() } : { [`${name}B64`]: bytes.toString('base64') };

/** The fields and names of the manifest's line, less those that say where the data lies. */
export function entryDocument(entry: ManifestEntry): object {
  const { path, type, mode, uid, gid, size, mtimeNs, link, blake3, changed, xattrs } = entry;
  const isDevice = type === 'char' || type === 'block';
  return {
    ...named('path', path),
    type,
    mode,
    uid,
    gid,
    size,
    mtimeNs: String(mtimeNs),
    ...(link === null ? {} : named('link', link)),
    ...(isDevice ? { major: entry.major, minor: entry.minor } : {}),
    ...(blake3 === null ? {} : { blake3 }),
    ...(changed ? { changed } : {}),
    ...(entry.sparse ? { sparse: true, stored: entry.stored } : {}),
    ...(xattrs === null || xattrs.length === 0
      ? {}
      : {
          xattrs: xattrs.map(({ name, value }) => ({
            ...named('name', name),
            value: value.toString('base64'),
          })),
        }),
  };
}
