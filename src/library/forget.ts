/**
 * Forget and prune: sets leave the listing first, and the disk later.
 *
 *   forget   sets/ID -> forgotten/ID, one rename each, children before their parents
 *   prune    forgotten/ID -> tmp/ID.partial under its lock, then removed
 *
 * Invariant: at every moment each listed set is whole and so is everything that it was made against.
 * Forgetting happens under `library.lock`, which `beginSet` takes, too, while it writes down what
 * a new set is made against: neither sees half of the other. What prune leaves when it is killed lies
 * in `tmp` and belongs to a dead process; the next one removes it.
 *
 * Blocks; any thread.
 */
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { stpError } from '../errors.js';
import { makeDirectory, syncDirectory } from './disk.js';
import { pruneInterrupted } from './interrupted.js';
import { ID_PATTERN, type Library, type LibraryListing } from './library.js';
import { keepParents, type Verdict } from './retention.js';
import type { SetSummary } from './set-writer.js';
import { parentOf } from './summary.js';

export interface ForgetOptions {
  /** Judges each set, or some; the others are kept. Called under the lock. */
  readonly judge: (listing: LibraryListing) => Verdict[];
  /** Only says what would be done. */
  readonly dryRun: boolean;
}

/**
 * @returns the verdicts after what kept sets stand on was kept; those without a reason are forgotten
 * @throws EUCLEAN if a set's summary is damaged: what it was made against is not known; EBUSY, EIO
 */
export function forgetSets(library: Library, options: ForgetOptions): Verdict[] {
  return library.exclusively(() => {
    const listing = library.list();
    const [bad] = listing.damaged;
    if (bad !== undefined) {
      throw stpError(
        'EUCLEAN',
        `set ${bad.id} is damaged, so what it stands on is not known: run stpbackup repair first`,
      );
    }
    const verdicts = keepParents(options.judge(listing), listing.sets, library.runningParents());
    if (options.dryRun) return verdicts;
    const going = verdicts.filter((v) => v.reasons.length === 0).map((v) => v.set.id);
    for (const id of childrenFirst(going, listing.sets)) moveSet(library, 'forgotten', id);
    return verdicts;
  });
}

/** By what the sets say, not by their names: two that began in one second are in no order. */
export function childrenFirst(ids: readonly string[], sets: readonly SetSummary[]): string[] {
  const going = new Set(ids);
  const ordered: string[] = [];
  const visit = (id: string): void => {
    if (!going.delete(id)) return;
    for (const child of sets) if (parentOf(child) === id) visit(child.id);
    ordered.push(id);
  };
  for (const id of [...ids].sort().reverse()) visit(id);
  return ordered;
}

/** Takes a set out of the listing, for good: on the disk before it returns. */
export function moveSet(library: Library, room: 'forgotten' | 'damaged', id: string): string {
  const home = join(library.directory, room);
  makeDirectory(home);
  syncDirectory(library.directory);
  const place = freeName(home, id);
  renameSync(join(library.directory, 'sets', id), place);
  syncDirectory(home);
  syncDirectory(join(library.directory, 'sets'));
  return place;
}

/** The same set may be damaged, repaired, and damaged again. */
function freeName(home: string, id: string): string {
  const taken = new Set(readdirSync(home));
  let name = id;
  for (let i = 2; taken.has(name); i++) name = `${id}.${i}`;
  return join(home, name);
}

export interface Pruned {
  readonly sets: readonly string[];
  /** Backups that were interrupted and not resumed for INTERRUPTED_DAYS_MAX. */
  readonly interrupted: readonly string[];
  readonly bytes: number;
}

/** Of its files; those that another prune has removed meanwhile are none. */
const sizeOf = (directory: string): number =>
  namesIn(directory)
    .map((name) => statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0);

/** A full disk may have no room for the lock of `prune`, which is there to make room. */
const fullCodes: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT']);

/** The lock of a set, null if another has it, 'full' if the disk has no room for it. */
function tryLock(library: Library, id: string): (() => void) | null | 'full' {
  try {
    return library.takeLock(id);
  } catch (e) {
    if (fullCodes.has((e as { code?: unknown }).code)) return 'full';
    throw e;
  }
}

/** Told of bytes that are gone, of how many that are to go. */
export type PruneProgress = (bytes: number, total: number) => void;

/** File by file: a large one takes its time. */
function removeSet(directory: string, onBytes: (bytes: number) => void): void {
  for (const name of namesIn(directory)) {
    const path = join(directory, name);
    const bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    rmSync(path, { recursive: true, force: true });
    onBytes(bytes);
  }
  rmSync(directory, { recursive: true, force: true });
}

/** Removes what is forgotten. Safe beside everything else, itself included. */
export function prune(library: Library, dryRun: boolean, onProgress?: PruneProgress): Pruned {
  const home = join(library.directory, 'forgotten');
  const names = namesIn(home).filter((name) => ID_PATTERN.test(name.slice(0, 23)));
  const sets: string[] = [];
  let bytes = 0;
  let gone = 0;
  const total =
    onProgress === undefined ? 0 : names.reduce((sum, name) => sum + sizeOf(join(home, name)), 0);
  const onBytes = (more: number): void => {
    gone += more;
    onProgress?.(gone, total);
  };
  for (const name of names) {
    const id = name.slice(0, 23);
    const lock = dryRun ? null : tryLock(library, id);
    if (!dryRun && lock === null) continue;
    try {
      bytes += sizeOf(join(home, name));
      sets.push(name);
      if (dryRun) continue;
      if (lock === 'full') {
        // Where it lies: who is killed here leaves the rest to the next prune.
        removeSet(join(home, name), onBytes);
        continue;
      }
      const partial = join(library.directory, 'tmp', `${id}.partial`);
      rmSync(partial, { recursive: true, force: true });
      renameSync(join(home, name), partial);
      syncDirectory(home);
      removeSet(partial, onBytes);
    } catch (e) {
      // Another prune was faster.
      if ((e as { code?: unknown }).code !== 'ENOENT') throw e;
    } finally {
      if (typeof lock === 'function') lock();
    }
  }
  return { sets, bytes, interrupted: pruneInterrupted(library, dryRun, Date.now()) };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (e) {
    if ((e as { code?: unknown }).code === 'ENOENT') return [];
    throw e;
  }
}
