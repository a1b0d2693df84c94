/**
 * Check of a whole library, or of some of its sets: each set by itself, and that parents are there.
 * Reads only. Blocks; any thread.
 */
import { type CheckDepth, checkSet, type SetProblem } from './check.js';
import type { Library, StoredSet } from './library.js';
import { parentOf } from './summary.js';

export interface LibraryCheckHooks {
  onProblem(problem: SetProblem): void;
  /** Bytes of media dealt with, of how many. Called often. */
  onProgress?(bytes: number, total: number): void;
}

export interface LibraryCheck {
  readonly sets: number;
  readonly damagedSets: readonly string[];
  readonly entries: number;
  readonly filesRead: number;
  /** Of media. */
  readonly bytes: number;
  readonly problems: number;
}

/** @param names of sets as `openSet` takes them; none: all, damaged ones included */
export function checkLibrary(
  library: Library,
  names: readonly string[],
  depth: CheckDepth,
  hooks: LibraryCheckHooks,
): LibraryCheck {
  let problems = 0;
  const damagedSets = new Set<string>();
  const onProblem = (problem: SetProblem): void => {
    problems++;
    damagedSets.add(problem.set);
    hooks.onProblem(problem);
  };
  const listing = library.list();
  const unreadable = names.length > 0 ? [] : listing.damaged;
  for (const { id, reason } of unreadable) {
    onProblem({ set: id, part: 'summary', path: null, message: reason });
  }
  const chosen = names.length > 0 ? names : listing.sets.map((s) => s.id);
  const sets: StoredSet[] = [];
  for (const name of chosen) sets.push(library.openSet(name));
  const total = sets.reduce((sum, set) => sum + set.summary.mediaBytes, 0);
  const present = new Set(listing.sets.map((s) => s.id));
  let [before, entries, filesRead] = [0, 0, 0];
  for (const set of sets) {
    const parent = parentOf(set.summary);
    if (parent !== null && !present.has(parent)) {
      const message = `its parent ${parent} is not in the library`;
      onProblem({ set: set.id, part: 'parent', path: null, message });
    }
    const onProgress = (bytes: number) => hooks.onProgress?.(before + bytes, total);
    const done = checkSet(set, depth, { onProblem, onProgress });
    entries += done.entries;
    filesRead += done.filesRead;
    before += set.summary.mediaBytes;
  }
  return {
    sets: sets.length + unreadable.length,
    damagedSets: [...damagedSets].sort(),
    entries,
    filesRead,
    bytes: total,
    problems,
  };
}
