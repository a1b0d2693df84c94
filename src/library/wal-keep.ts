/**
 * Which archived WAL is still needed, and the removal of the rest.
 *
 * A base backup needs the segments from its start to its end to be consistent, and those behind its
 * end to reach later moments. What each needs stands in the set itself, in PostgreSQL's
 * `backup_manifest`. Segments are compared by their place in the log alone, whatever their timeline,
 * so that one timeline's retention never takes what a child of it begins with. Histories of
 * timelines are a few bytes, tell recoveries where to go, and are never removed.
 *
 * Invariant: nothing that a listed base backup needs under the policy is removed, however this runs
 * beside backups, pushes and itself, and wherever it is killed: the oldest goes first. Blocks; any
 * thread.
 */
import { readdirSync, rmdirSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded, messageOf, stpError } from '../errors.js';
import { syncDirectory } from './disk.js';
import type { Library } from './library.js';
import { readFileOf } from './read-file.js';
import { openChain } from './set-tree.js';
import type { SetSummary } from './set-writer.js';

/** `SEGMENT.BLAKE3` of the archive: segment, partial segment, backup label, history of a timeline. */
const FILE =
  /^(?:([0-9A-F]{8})([0-9A-F]{16})(\.partial|\.[0-9A-F]{8}\.backup)?|([0-9A-F]{8})\.history)\.[0-9a-f]{64}$/;
/** What a push that died has left; a living one is done long before. */
const LEFTOVER = /^\.[0-9A-F].*\.[0-9a-f]{12}$/;
const LEFTOVER_AGE_MS = 24 * 3600 * 1000;
const LOG_BYTES = 2n ** 32n;
const SEGMENT_BYTES_MIN = 1 << 20;
const SEGMENT_BYTES_MAX = 1 << 30;

export const BASE_BACKUP_PREFIX = 'postgresql:';
const MANIFEST_PATH = Buffer.from('data/backup_manifest');

/** One file of an archive. */
export interface WalFile {
  readonly path: string;
  readonly kind: 'segment' | 'partial' | 'label' | 'history';
  readonly timeline: number;
  /** As PostgreSQL calls it. */
  readonly name: string;
  /** Place of the segment in the log, in segments; 0 for a history. */
  readonly place: bigint;
  readonly bytes: number;
  readonly archivedMs: number;
}

/** All that one PostgreSQL has archived. */
export interface WalFiles {
  readonly host: string;
  readonly name: string;
  /** Of a whole segment; 0 if there is none. */
  readonly segmentBytes: number;
  /** In the order of the log. */
  readonly files: readonly WalFile[];
  /** Files that nobody is going to finish. */
  readonly leftovers: readonly string[];
}

/** A base backup of the same host and name, and the WAL that it begins and ends with. */
export interface BaseBackup {
  readonly set: string;
  readonly startedAt: string;
  readonly ranges: readonly { timeline: number; start: bigint; end: bigint }[];
}

const isGone = (e: unknown): boolean => isCoded(e) && e.code === 'ENOENT';

function namesIn(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (e) {
    if (isGone(e)) return [];
    throw e;
  }
}

/** Archives of a library, of one host or name if they are given. @throws EUCLEAN, EIO */
export function walArchives(library: Library, only: { host?: string; name?: string }): WalFiles[] {
  const top = join(library.directory, 'wal');
  return namesIn(top)
    .filter((host) => only.host === undefined || host === only.host)
    .flatMap((host) =>
      namesIn(join(top, host))
        .filter((name) => only.name === undefined || name === only.name)
        .map((name) => readArchive(join(top, host, name), host, name)),
    );
}

function readArchive(directory: string, host: string, name: string): WalFiles {
  const found: { path: string; match: RegExpExecArray; bytes: number; archivedMs: number }[] = [];
  const leftovers: string[] = [];
  for (const group of namesIn(directory)) {
    for (const file of namesIn(join(directory, group))) {
      const path = join(directory, group, file);
      const match = FILE.exec(file);
      try {
        const { size, mtimeMs } = statSync(path);
        if (match !== null) found.push({ path, match, bytes: size, archivedMs: mtimeMs });
        else if (LEFTOVER.test(file) && mtimeMs < Date.now() - LEFTOVER_AGE_MS)
          leftovers.push(path);
      } catch (e) {
        // Pushed, or pruned, meanwhile.
        if (!isGone(e)) throw e;
      }
    }
  }
  const segmentBytes = segmentBytesOf(
    found.filter(({ match }) => match[2] !== undefined && match[3] === undefined),
    directory,
  );
  const files = found
    .map(({ match, ...rest }) => ({ ...rest, ...factsOf(match, segmentBytes) }))
    .sort((a, b) => (a.place === b.place ? a.timeline - b.timeline : a.place < b.place ? -1 : 1));
  return { host, name, segmentBytes, files, leftovers };
}

/** Whole segments of a cluster have one size: a power of two. */
function segmentBytesOf(segments: readonly { path: string; bytes: number }[], at: string): number {
  const [first] = segments;
  if (first === undefined) return 0;
  const { bytes } = first;
  const isSize =
    Number.isInteger(Math.log2(bytes)) && bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX;
  const other = isSize ? segments.find((s) => s.bytes !== bytes) : first;
  if (other === undefined) return bytes;
  const why = 'has not the size of a segment, or another than the others';
  throw stpError('EUCLEAN', `${other.path} ${why}: look at ${at} before anything is removed`);
}

function factsOf(
  match: RegExpExecArray,
  segmentBytes: number,
): Pick<WalFile, 'kind' | 'timeline' | 'name' | 'place'> {
  const [whole, timeline, place = '', suffix, history] = match;
  const name = whole.slice(0, -65);
  if (history !== undefined) {
    return { kind: 'history', timeline: Number.parseInt(history, 16), name, place: 0n };
  }
  const [log, index] = [place.slice(0, 8), place.slice(8)].map((part) => BigInt(`0x${part}`));
  const inLog = segmentBytes === 0 ? 0n : LOG_BYTES / BigInt(segmentBytes);
  return {
    kind: suffix === undefined ? 'segment' : suffix === '.partial' ? 'partial' : 'label',
    timeline: Number.parseInt(timeline as string, 16),
    name,
    place: (log as bigint) * inLog + (index as bigint),
  };
}

/** `1A/2B003C` as PostgreSQL writes a place in the log, in bytes. */
export function lsnOf(text: unknown): bigint {
  const parts = typeof text === 'string' ? /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text) : null;
  if (parts === null) throw stpError('EINVAL', `${String(text)} is no place in the log`);
  return BigInt(`0x${parts[1]}`) * LOG_BYTES + BigInt(`0x${parts[2]}`);
}

/** `WAL-Ranges` of a backup's manifest. @throws EINVAL, SyntaxError */
export function rangesOf(manifest: Buffer): BaseBackup['ranges'] {
  const ranges = (JSON.parse(manifest.toString()) as { 'WAL-Ranges'?: unknown })['WAL-Ranges'];
  if (!Array.isArray(ranges) || ranges.length === 0) {
    throw stpError('EINVAL', "PostgreSQL's manifest does not say which WAL it needs");
  }
  return ranges.map((range: Record<string, unknown>) => ({
    timeline: Number(range.Timeline),
    start: lsnOf(range['Start-LSN']),
    end: lsnOf(range['End-LSN']),
  }));
}

/**
 * Base backups of an archive's PostgreSQL, newest first.
 * @throws EUCLEAN if one, or any set's summary, cannot be read: what it needs is not known
 */
export function baseBackupsOf(
  library: Library,
  { host, name }: Pick<WalFiles, 'host' | 'name'>,
): BaseBackup[] {
  const { sets, damaged } = library.list();
  const [bad] = damaged;
  if (bad !== undefined) throw unknown(bad.id, bad.reason);
  const isOurs = (set: SetSummary): boolean =>
    set.host === host && set.roots[0] === `${BASE_BACKUP_PREFIX}${name}`;
  return sets
    .filter(isOurs)
    .sort((a, b) => b.startedAt.localeCompare(a.startedAt))
    .map(({ id, startedAt }) => {
      try {
        const pieces: Buffer[] = [];
        readFileOf(openChain(library, library.openSet(id)), MANIFEST_PATH, {
          update: (bytes) => pieces.push(Buffer.from(bytes)),
        });
        return { set: id, startedAt, ranges: rangesOf(Buffer.concat(pieces)) };
      } catch (e) {
        throw unknown(id, messageOf(e));
      }
    });
}

const unknown = (set: string, why: string): Error =>
  stpError(
    'EUCLEAN',
    `what WAL set ${set} needs is not known: ${why}; run stpbackup repair, or forget it`,
  );

/** `all`: later moments of every base backup; a number: of so many, the newest. */
export type KeepWal = 'all' | number;

export interface WalVerdict {
  readonly file: WalFile;
  /** Why it is kept; null: nobody needs it. */
  readonly reason: string | null;
}

/**
 * @param backups newest first
 * @param sinceMs files archived at this time or later are kept: a base backup that runs may need them
 */
export function judgeWal(
  archive: WalFiles,
  backups: readonly BaseBackup[],
  keep: KeepWal,
  sinceMs: number,
): WalVerdict[] {
  const bytes = BigInt(archive.segmentBytes);
  const reaching = backups.slice(0, keep === 'all' ? backups.length : keep);
  const starts = reaching.flatMap(({ set, ranges }) => ranges.map(({ start }) => ({ set, start })));
  const oldest = starts.reduce<{ set: string; start: bigint } | null>(
    (least, one) => (least === null || one.start < least.start ? one : least),
    null,
  );
  const reasonOf = (file: WalFile): string | null => {
    if (file.kind === 'history') return 'history of a timeline';
    if (bytes === 0n) return 'no whole segment tells what it belongs to';
    if (oldest === null) return 'no base backup of this name: nothing tells what is needed';
    if (file.place >= oldest.start / bytes) return `moments after ${oldest.set}`;
    for (const { set, ranges } of backups) {
      for (const { start, end } of ranges) {
        // The end may be the first byte of a segment that is not needed: one too many is kept then.
        if (file.place >= start / bytes && file.place <= end / bytes) return `${set} itself`;
      }
    }
    return file.archivedMs >= sinceMs ? 'a base backup is running' : null;
  };
  return archive.files.map((file) => ({ file, reason: reasonOf(file) }));
}

export interface WalPruned {
  readonly host: string;
  readonly name: string;
  readonly kept: number;
  readonly removed: readonly string[];
  readonly bytes: number;
  /** Files of pushes that died. */
  readonly leftovers: number;
}

/** Removes what `judgeWal` gives no reason for. Safe beside everything else, itself included. */
export function pruneWal(
  library: Library,
  archive: WalFiles,
  keep: KeepWal,
  dryRun: boolean,
): WalPruned {
  // First who runs, then what is there: who comes between the two needs what is archived later.
  const sinceMs = library.runningSinceMs();
  const verdicts = judgeWal(archive, baseBackupsOf(library, archive), keep, sinceMs);
  const going = verdicts.filter(({ reason }) => reason === null).map(({ file }) => file);
  if (!dryRun) {
    for (const { path } of going) unlinkIfThere(path);
    for (const path of archive.leftovers) unlinkIfThere(path);
    tidy(
      new Set([...going.map(({ path }) => path), ...archive.leftovers].map((p) => join(p, '..'))),
    );
  }
  return {
    host: archive.host,
    name: archive.name,
    kept: verdicts.length - going.length,
    removed: going.map(({ name }) => name),
    bytes: going.reduce((sum, { bytes }) => sum + bytes, 0),
    leftovers: archive.leftovers.length,
  };
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (e) {
    // Another prune was faster.
    if (!isGone(e)) throw e;
  }
}

/** Directories without a segment go, too; a push that comes makes its own again. */
function tidy(directories: ReadonlySet<string>): void {
  for (const path of directories) {
    try {
      rmdirSync(path);
      syncDirectory(join(path, '..'));
    } catch (e) {
      if (!isCoded(e) || !['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(e.code)) throw e;
      if (e.code !== 'ENOENT') syncDirectory(path);
    }
  }
}
