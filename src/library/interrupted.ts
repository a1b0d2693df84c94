/**
 * Backups that were interrupted, kept so that the next one of the same trees need not send again
 * what they have: `interrupted/ID/`, what `tmp/ID.partial` was.
 *
 *   resume.json      whose trees, against which sets; without it the directory is nothing
 *   media*.tar       cut anywhere
 *   manifest.jsonl   lines of what came, without an end; cut anywhere
 *   kept.jsonl       lines of what that backup had itself taken over from one before it
 *   kept.index       made anew whenever it is needed
 *
 * Invariant: at most one for each host and its roots. Who works on one holds `tmp/ID.lock`. None is
 * ever listed or restored: adopt.ts looks at every byte before a set takes something over.
 *
 * Synchronous; any thread.
 */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '../errors.js';
import type { Adopted } from './kept-lines.js';
import type { ChainLink, ManifestHeader } from './manifest.js';
import { mediumFile } from './media.js';

export const RESUME_FILE = 'resume.json';
export const KEPT_LINES_FILE = 'kept.jsonl';
export const KEPT_LIST_FILE = 'kept.index';
const MEDIUM = /^media(-\d+)?\.tar$/;
const FORMAT = 'stpd-resume';
const VERSION = 1;

/** Who does not come back within this many days makes a new backup anyway. */
export const INTERRUPTED_DAYS_MAX = 7;
const DAY_MS = 86_400_000;

/** Media of less than this are sent again sooner than they are looked at. */
export const INTERRUPTED_BYTES_MIN = 64 << 10;

/** What must be the same for a backup that takes over. */
export interface ResumeKey {
  readonly host: string;
  readonly roots: readonly string[];
  readonly chain?: readonly ChainLink[] | undefined;
}

export interface Interrupted extends ResumeKey {
  readonly id: string;
  readonly directory: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
}

/** What this needs of a library. */
export interface InterruptedRoom {
  readonly directory: string;
  takeLock(id: string): (() => void) | null;
}

const roomOf = (library: Pick<InterruptedRoom, 'directory'>): string =>
  join(library.directory, 'interrupted');

/** Makes a set that is being written one that may be kept. */
export function markResumable(directory: string, header: ManifestHeader): void {
  const { setId: id, host, roots, startedAt, chain } = header;
  const marker = { format: FORMAT, version: VERSION, id, host, roots, startedAt, chain };
  writeFileSync(join(directory, RESUME_FILE), `${JSON.stringify(marker)}\n`, { mode: 0o600 });
}

/** Takes away what only a set has that is being written. */
export function unmarkResumable(directory: string): void {
  for (const name of [RESUME_FILE, KEPT_LINES_FILE, KEPT_LIST_FILE]) {
    rmSync(join(directory, name), { force: true });
  }
}

/** Null if it is none, whatever it is. */
function readMarker(directory: string, id: string): Interrupted | null {
  try {
    const value = JSON.parse(readFileSync(join(directory, RESUME_FILE), 'utf8'));
    const { format, version, host, roots, chain, startedAt } = value;
    if (format !== FORMAT || version !== VERSION || typeof host !== 'string') return null;
    if (!Array.isArray(roots) || typeof startedAt !== 'string') return null;
    return { id, directory, host, roots, startedAt, ...(chain !== undefined && { chain }) };
  } catch (e) {
    if (e instanceof SyntaxError || isCoded(e)) return null;
    throw e;
  }
}

const sameTrees = (a: ResumeKey, b: ResumeKey): boolean =>
  a.host === b.host && JSON.stringify([...a.roots].sort()) === JSON.stringify([...b.roots].sort());

function all(library: Pick<InterruptedRoom, 'directory'>): Interrupted[] {
  const room = roomOf(library);
  let names: string[];
  try {
    names = readdirSync(room).sort();
  } catch (e) {
    if (isCoded(e) && e.code === 'ENOENT') return [];
    throw e;
  }
  const nothing = { host: '', roots: [], startedAt: '' };
  return names.map(
    (id) => readMarker(join(room, id), id) ?? { id, directory: join(room, id), ...nothing },
  );
}

/**
 * Keeps a directory of `tmp` whose lock the caller holds, in place of an older one of the same
 * trees. False if there is nothing worth keeping: the caller removes it.
 */
export function keepInterrupted(library: InterruptedRoom, id: string, partial: string): boolean {
  const marker = readMarker(partial, id);
  if (marker === null || mediaBytes(partial) < INTERRUPTED_BYTES_MIN) return false;
  const room = roomOf(library);
  mkdirSync(room, { recursive: true, mode: 0o700 });
  renameSync(partial, join(room, id));
  for (const other of all(library)) {
    if (other.id !== id && sameTrees(other, marker)) remove(library, other);
  }
  return true;
}

/**
 * Makes one the directory of a set that is being written. The caller holds both locks.
 * @throws ENOENT if it is gone meanwhile
 */
export function takeOver(
  library: InterruptedRoom,
  { id, media }: Pick<Adopted, 'id' | 'media'>,
  partial: string,
): void {
  renameSync(join(roomOf(library), id), partial);
  // What counts of the rest stands in the kept lines.
  const names = media.map((_, medium) => mediumFile(medium));
  const kept = new Set([RESUME_FILE, KEPT_LINES_FILE, KEPT_LIST_FILE, ...names]);
  for (const name of readdirSync(partial)) if (!kept.has(name)) rmSync(join(partial, name));
}

/** What came, and what that backup had itself taken over. */
function mediaBytes(directory: string): number {
  let bytes = 0;
  for (const name of readdirSync(directory)) {
    if (!MEDIUM.test(name)) continue;
    bytes += statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

/** The one that a backup with this key can take over; null if there is none. */
export function findInterrupted(
  library: Pick<InterruptedRoom, 'directory'>,
  key: ResumeKey,
): Interrupted | null {
  const chain = JSON.stringify(key.chain);
  const found = all(library).filter(
    (each) => sameTrees(each, key) && JSON.stringify(each.chain) === chain,
  );
  return found.at(-1) ?? null;
}

/** All of the same trees, whatever they were made against: a set of them is complete. */
export function removeInterrupted(library: InterruptedRoom, key: ResumeKey): void {
  for (const each of all(library)) if (sameTrees(each, key)) remove(library, each);
}

/** Those that nobody came back for; returns their names. */
export function pruneInterrupted(
  library: InterruptedRoom,
  dryRun: boolean,
  nowMs: number,
): string[] {
  const old = all(library).filter(
    ({ directory }) =>
      nowMs - (statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? nowMs) >
      INTERRUPTED_DAYS_MAX * DAY_MS,
  );
  return old.filter((each) => dryRun || remove(library, each)).map(({ id }) => id);
}

/** False if somebody works on it. */
function remove(library: InterruptedRoom, found: Interrupted): boolean {
  const release = library.takeLock(found.id);
  if (release === null) return false;
  try {
    removeFound(found);
    return true;
  } finally {
    release();
  }
}

/** The caller holds its lock. */
export function removeFound({ directory }: Pick<Interrupted, 'directory'>): void {
  // First: what is left of it when this dies is nothing.
  rmSync(join(directory, RESUME_FILE), { force: true });
  rmSync(directory, { recursive: true, force: true });
}
