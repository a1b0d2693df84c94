/** Backups that are cut, and ones that take over what those left; in memory but for the files. */
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { adopt } from '../../../src/library/adopt.js';
import type { PageSource } from '../../../src/library/frames.js';
import {
  findInterrupted,
  KEPT_LIST_FILE,
  removeInterrupted,
} from '../../../src/library/interrupted.js';
import { type Adopted, NotAdopted } from '../../../src/library/kept-lines.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { chainThrough, parentListOf } from '../../../src/library/set-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { native } from '../../../src/native.js';
import { type Generations, LATER_NS } from './generations.js';
import { lockFile, MemoryPipe } from './stand-ins.js';

/** A stream that breaks behind so many bytes. */
class CutPipe extends MemoryPipe implements PageSource {
  #left = Number.POSITIVE_INFINITY;
  cutAfter(bytes: number): void {
    this.#left = bytes;
  }
  override peek(): Uint8Array | null {
    if (this.#left <= 0) throw Object.assign(new Error('the link is lost'), { code: 'ECONNRESET' });
    return super.peek();
  }
  override consume(bytes: number): void {
    this.#left -= bytes;
    super.consume(bytes);
  }
}

const meta = (g: Generations, parent: StoredSet | null) => ({
  host: 'h',
  roots: [g.source],
  stpd: '0',
  ...(parent && { chain: chainThrough(parent.summary) }),
});

export const keyOf = (g: Generations, parent: StoredSet | null) => meta(g, parent);

export interface Attempt {
  readonly parent?: StoredSet | null;
  /** Share of the stream that arrives. */
  readonly share?: number;
  /** Nothing runs any more: the files are as they were, and the lock is gone. */
  readonly killed?: boolean;
  readonly nowNs?: bigint;
}

const reader = (path: string) => {
  const bytes = readFileSync(path);
  let position = 0;
  return (into: Buffer, at: number, count: number) => {
    const read = bytes.copy(into, at, position, position + count);
    position += read;
    return read;
  };
};

export function adoptedBy(g: Generations, parent: StoredSet | null): Adopted | null {
  const found = findInterrupted(g.library, keyOf(g, parent));
  return found === null ? null : adopt(found, parent && parentListOf(parent));
}

/** As a server does: what nothing can be taken over from is removed. */
export function takenOver(g: Generations, parent: StoredSet | null): Adopted | null {
  try {
    return adoptedBy(g, parent);
  } catch (e) {
    if (!(e instanceof NotAdopted) || !/no entry/.test(e.message)) throw e;
    removeInterrupted(g.library, keyOf(g, parent));
    return null;
  }
}

/** A backup that takes over what there is; null if it was cut. */
export function backUp(g: Generations, attempt: Attempt = {}): StoredSet | null {
  const { parent = null, share = 1, killed = false, nowNs = LATER_NS } = attempt;
  const adopted = takenOver(g, parent);
  const writer = g.library.beginSet(meta(g, parent), {
    ...(parent && { parent: parentListOf(parent) }),
    ...(adopted && { adopted }),
  });
  const list = adopted ? join(writer.partialDirectory, KEPT_LIST_FILE) : parent?.listPath;
  const pipe = new CutPipe();
  sendTree(pipe, [g.source], {
    native: native(),
    now: () => nowNs,
    firstMedium: writer.firstMedium,
    isIncremental: parent !== null,
    ...(list && { previous: () => ({ fill: reader(list), blocks: () => null }) }),
  });
  if (share < 1) pipe.cutAfter(Math.floor(pipe.bytes * share));
  if (killed) {
    // Its directory as a process leaves it that dies amid the stream, its lock gone.
    const { partialDirectory } = writer;
    const copy = `${partialDirectory}.copy`;
    try {
      storeSet(pipe, writer);
    } catch {
      const kept = findInterrupted(g.library, keyOf(g, parent));
      if (kept !== null && existsSync(kept.directory)) renameSync(kept.directory, copy);
      if (existsSync(copy)) renameSync(copy, partialDirectory);
    }
    Library.open(g.library.directory, { lockFile });
    return null;
  }
  try {
    storeSet(pipe, writer);
  } catch (e) {
    if (share < 1) return null;
    throw e;
  }
  return g.library.openSet(writer.commit().id);
}
