/** One tree, one library, and backups of it in turns, all in memory but the files. */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Library, type StoredSet } from '../../../src/library/library.js';
import type { ManifestItem } from '../../../src/library/manifest.js';
import { type RestoreReport, RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree, type TransferOptions } from '../../../src/library/send-tree.js';
import { chainThrough, indexPathOf, openChain, openParent } from '../../../src/library/set-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { TreeIndexReader } from '../../../src/library/tree-index.js';
import { native } from '../../../src/native.js';
import type { TreeWarning } from '../../../src/source/file-tree.js';
import { lockFile, MemoryPipe, run, testNative } from './stand-ins.js';

/** Far ahead of every file that a test makes: nothing is as new as the scan. */
export const LATER_NS = BigInt(Date.now() + 86_400_000) * 1_000_000n;

export interface Made {
  readonly set: StoredSet;
  readonly warnings: TreeWarning[];
  readonly items: ManifestItem[];
}

export class Generations {
  readonly source: string;
  readonly library: Library;

  constructor(readonly directory: string) {
    this.source = join(directory, 'source');
    this.library = Library.open(join(directory, 'library'), { lockFile });
  }

  full(options: TransferOptions = {}, pipe = new MemoryPipe()): Made {
    return this.#store(options, pipe, null);
  }

  incremental(options: TransferOptions = {}, pipe = new MemoryPipe()): Made {
    const chain = openParent(this.library, 'h', [this.source]);
    return this.#store(options, pipe, chain.at(-1) as StoredSet);
  }

  #store(options: TransferOptions, pipe: MemoryPipe, parent: StoredSet | null): Made {
    const warnings: TreeWarning[] = [];
    const fd = parent === null ? -1 : openSync(indexPathOf(parent), 'r');
    try {
      let position = 0;
      sendTree(pipe, [this.source], {
        native: native(),
        now: () => LATER_NS,
        onWarning: (w) => warnings.push(w),
        ...(fd >= 0 && {
          previous: () => (into: Buffer, at: number, bytes: number) => {
            const read = readSync(fd, into, at, bytes, position);
            position += read;
            return read;
          },
        }),
        ...options,
      });
    } finally {
      if (fd >= 0) closeSync(fd);
    }
    const set = this.#receive(pipe, parent);
    return { set, warnings, items: [...set.manifest()] };
  }

  #receive(pipe: MemoryPipe, parent: StoredSet | null): StoredSet {
    const meta = { host: 'h', roots: [this.source], stpd: '0' };
    const writer =
      parent === null
        ? this.library.beginSet(meta)
        : this.library.beginSet(
            { ...meta, chain: chainThrough(parent.summary) },
            { parent: { path: indexPathOf(parent), blake3: parent.summary.indexBlake3 ?? '' } },
          );
    storeSet(pipe, writer);
    return this.library.openSet(writer.commit().id);
  }

  /** Restores a point of the chain; returns where the tree is then. */
  restore(set: StoredSet, target: string): { tree: string; report: RestoreReport } {
    const pipe = new MemoryPipe();
    sendSet(pipe, set, { chain: openChain(this.library, set) });
    const problems: string[] = [];
    const onProblem = (p: { message: string }) => problems.push(p.message);
    const writer = new RestoreWriter(target, { native: testNative, onProblem });
    const report = restoreSet(pipe, writer);
    if (problems.length > 0) throw new Error(problems.join('\n'));
    return { tree: join(target, this.source), report };
  }

  /** What GNU tar makes of the chain up to `set`. */
  replay(set: StoredSet, target: string): string {
    for (const { mediaPath } of openChain(this.library, set)) {
      const how = ['--xattrs', '--acls', '--listed-incremental=/dev/null'];
      run('tar', ['-C', target, ...how, '-xpf', mediaPath]);
    }
    return join(target, this.source);
  }
}

/** Names in the list of a set, below the source. */
export function listed(made: Made, source: string): string[] {
  const fd = openSync(indexPathOf(made.set), 'r');
  try {
    const list = TreeIndexReader.ofFile('x', fd);
    const names: string[] = [];
    while (list.next()) names.push(`/${list.path.toString()}`.slice(source.length));
    return names;
  } finally {
    closeSync(fd);
  }
}

/** What a set says of the names below the source: `+` with data, `=` without, `-` deleted. */
export function said(made: Made, source: string): string[] {
  return made.items
    .filter((i) => i.kind !== 'warning' && i.kind !== 'void')
    .map((i) => {
      const mark = i.kind === 'deleted' ? '-' : i.kind === 'entry' && i.sameData ? '=' : '+';
      return `${mark}${`/${i.path.toString()}`.slice(source.length)}`;
    });
}
