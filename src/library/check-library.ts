/**
 * Check of a whole library, or of some of its sets and all that these need: each set by itself, and
 * that the sets of a chain are those that it was made from.
 * Reads only. Blocks; any thread.
 */
import { isCoded, messageOf } from '../errors.js';
import { bytesToCheck, type CheckDepth, checkSet, logicalBytes, type SetProblem } from './check.js';
import type { Library, StoredSet } from './library.js';
import type { VolumePlace } from './media-volumes.js';
import { openChain } from './set-tree.js';

export interface LibraryCheckHooks {
  onProblem(problem: SetProblem): void;
  onAbsent?(set: string, volume: VolumePlace): void;
  /** Bytes read or passed over, of how many. Called often. */
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
  /** Volumes that were looked for, and those that are not there. */
  readonly volumes: number;
  readonly absentVolumes: number;
  /** Encrypted, and no identity opens them: only their files as they are were looked at. */
  readonly sealedSets: readonly string[];
}

/** The sets named, and those that they need, each once. */
function withChains(
  library: Library,
  names: readonly string[],
  onBroken: (set: string, message: string) => void,
): StoredSet[] {
  const sets = new Map<string, StoredSet>();
  for (const name of names) {
    const set = library.openSet(name);
    let chain = [set];
    try {
      chain = openChain(library, set);
    } catch (e) {
      if (!isCoded(e)) throw e;
      onBroken(set.id, messageOf(e));
    }
    for (const each of chain) if (!sets.has(each.id)) sets.set(each.id, each);
  }
  return [...sets.values()];
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
  const sets = withChains(library, chosen, (set, message) =>
    onProblem({ set, part: 'parent', path: null, message }),
  );
  const total = sets.reduce((sum, set) => sum + bytesToCheck(set, depth), 0);
  let [before, entries, filesRead, volumes, absentVolumes] = [0, 0, 0, 0, 0];
  const sealedSets: string[] = [];
  const onAbsent = (set: string, volume: VolumePlace) => hooks.onAbsent?.(set, volume);
  for (const set of sets) {
    const onProgress = (bytes: number) => hooks.onProgress?.(before + bytes, total);
    const done = checkSet(set, depth, { onProblem, onAbsent, onProgress });
    entries += done.entries;
    filesRead += done.filesRead;
    volumes += done.volumes;
    absentVolumes += done.absent;
    if (done.sealed) sealedSets.push(set.id);
    before += bytesToCheck(set, depth);
  }
  return {
    sets: sets.length + unreadable.length,
    damagedSets: [...damagedSets].sort(),
    entries,
    filesRead,
    bytes: sets.reduce((sum, set) => sum + logicalBytes(set), 0),
    problems,
    volumes,
    absentVolumes,
    sealedSets,
  };
}
