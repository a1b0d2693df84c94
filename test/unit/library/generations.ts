/** One tree, one library, and backups of it in turns, all in memory but the files. */
import { join } from 'node:path';
import { blocksFile, readBlockList } from '../../../src/library/blocks.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import type { ManifestItem } from '../../../src/library/manifest.js';
import type { MediaAccess, MediaPlan } from '../../../src/library/media-plan.js';
import { type RestoreReport, RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree, type TransferOptions } from '../../../src/library/send-tree.js';
import {
  chainThrough,
  openChain,
  openParent,
  parentListOf,
} from '../../../src/library/set-tree.js';
import { storeMedium } from '../../../src/library/store-medium.js';
import { storeSet } from '../../../src/library/store-set.js';
import { TreeIndexReader } from '../../../src/library/tree-index.js';
import { native } from '../../../src/native.js';
import type { TreeWarning } from '../../../src/source/file-tree.js';
import { MemoryLane } from './memory-lane.js';
import { lockFile, MemoryPipe, run, testNative } from './stand-ins.js';

/** Far ahead of every file that a test makes: nothing is as new as the scan. */
export const LATER_NS = BigInt(Date.now() + 86_400_000) * 1_000_000n;

export interface Made {
  readonly set: StoredSet;
  readonly warnings: TreeWarning[];
  readonly items: ManifestItem[];
}

/** How its sets are made. */
export interface GenerationsKind {
  readonly plan?: MediaPlan | undefined;
  readonly access?: MediaAccess | undefined;
  /** Media of each set; 1 if left out. */
  readonly streams?: number | undefined;
}

export class Generations {
  readonly source: string;
  readonly library: Library;

  constructor(
    readonly directory: string,
    private readonly kind: GenerationsKind = {},
  ) {
    this.source = join(directory, 'source');
    const { access } = kind;
    this.library = Library.open(join(directory, 'library'), { lockFile, access });
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
    const list = parent?.openList();
    const chain = parent === null ? [] : openChain(this.library, parent);
    const { streams = 1 } = this.kind;
    const { deltaFrom } = options;
    const lanes = Array.from({ length: streams - 1 }, (_, i) => new MemoryLane(i + 1, deltaFrom));
    try {
      let position = 0;
      sendTree(pipe, [this.source], {
        native: native(),
        now: () => LATER_NS,
        onWarning: (w) => warnings.push(w),
        ...(list !== undefined && {
          previous: () => ({
            fill: (into: Buffer, at: number, bytes: number) => {
              const read = list.read(into, at, bytes, position);
              position += read;
              return read;
            },
            blocks: ({ set, medium, offset, blake3 }, bytes) => {
              const { directory } = chain[set] as StoredSet;
              return readBlockList(join(directory, blocksFile(medium)), offset, bytes, blake3);
            },
          }),
        }),
        ...(lanes.length > 0 && { lanes: { lanes, wait() {} } }),
        ...options,
      });
    } finally {
      list?.close();
    }
    const set = this.#receive(pipe, parent, lanes);
    return { set, warnings, items: [...set.manifest()] };
  }

  #receive(pipe: MemoryPipe, parent: StoredSet | null, lanes: readonly MemoryLane[]): StoredSet {
    const meta = { host: 'h', roots: [this.source], stpd: '0' };
    const { plan } = this.kind;
    const base = plan === undefined ? {} : { plan };
    const writer =
      parent === null
        ? this.library.beginSet(meta, base)
        : this.library.beginSet(
            { ...meta, chain: chainThrough(parent.summary) },
            { ...base, parent: parentListOf(parent) },
          );
    storeSet(pipe, writer);
    const { partialDirectory: directory, home } = writer;
    try {
      const more = lanes.map(({ pipe: from, medium }) =>
        storeMedium(from, { directory, home, medium, plan: plan ?? {} }),
      );
      return this.library.openSet(writer.commit(more).id);
    } finally {
      // Nothing, once it is committed.
      writer.abort();
    }
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
  const file = made.set.openList();
  try {
    const list = TreeIndexReader.ofFile(file);
    const names: string[] = [];
    while (list.next()) names.push(`/${list.path.toString()}`.slice(source.length));
    return names;
  } finally {
    file.close();
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
