/**
 * A part of a set: the entries at or below some of its paths, in the order of the whole.
 * Worker threads.
 */
import { stpError } from '../errors.js';
import { StoredSet } from '../library/library.js';
import { type ManifestEntry, ManifestReader, type ManifestWarning } from '../library/manifest.js';
import { displayPath } from '../source/names.js';

const SLASH = 0x2f;

/** `/etc/ssl/` as a manifest has it: `etc/ssl`. */
export function storedPath(given: Buffer): Buffer {
  let start = 0;
  let end = given.length;
  while (start < end && given[start] === SLASH) start++;
  while (end > start && given[end - 1] === SLASH) end--;
  return start === end ? ALL : given.subarray(start, end);
}

const ALL = Buffer.from('.');

const isAtOrBelow = (path: Buffer, top: Buffer): boolean =>
  top.equals(ALL) ||
  (path.length >= top.length &&
    path.compare(top, 0, top.length, 0, top.length) === 0 &&
    (path.length === top.length || path[top.length] === SLASH));

class SelectedManifest extends ManifestReader {
  readonly #selected: readonly Buffer[];

  constructor(path: string, selected: readonly Buffer[]) {
    super(path);
    this.#selected = selected;
  }

  /** @throws ENOENT if one of the paths selects nothing; only known at the end */
  override *[Symbol.iterator](): Generator<ManifestEntry | ManifestWarning, void, void> {
    const unseen = new Set(this.#selected);
    for (const record of super[Symbol.iterator]()) {
      const tops = this.#selected.filter((top) => isAtOrBelow(record.path, top));
      for (const top of tops) unseen.delete(top);
      if (tops.length > 0) yield record;
    }
    const [missing] = unseen;
    if (missing) {
      const name = displayPath(missing);
      throw stpError('ENOENT', `/${name} is not in this set; stpbackup list shows its roots`);
    }
  }
}

export class SelectedSet extends StoredSet {
  readonly #selected: readonly Buffer[];

  /** @param selected stored paths, at least one */
  constructor(whole: StoredSet, selected: readonly Buffer[]) {
    super(whole.directory, whole.summary);
    this.#selected = selected;
  }

  override manifest(): ManifestReader {
    return new SelectedManifest(this.manifestPath, this.#selected);
  }
}
