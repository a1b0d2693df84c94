/**
 * Media of a chain while a tree is read: each opened when it is first wanted, and the data of an
 * entry as one run of bytes, wherever its parts are. One thread; `close` when done.
 */
import { displayPath } from '../source/names.js';
import { AssembledReader } from './delta-read.js';
import type { StoredSet } from './library.js';
import type { MediaReader } from './media.js';
import type { TreeItem } from './set-tree.js';

/** Bytes of an entry's data: `stored` of them, from `offset` on. */
export interface EntryData {
  readonly media: MediaReader;
  readonly offset: number;
}

/** What tells where an entry's data is. */
export type DataPlace = Pick<TreeItem, 'entry' | 'dataSet' | 'dataMedium' | 'dataOffset' | 'extra'>;

export class OpenMedia {
  readonly #chain: readonly StoredSet[];
  readonly #open = new Map<StoredSet, Map<number, MediaReader>>();

  /** @param chain the sets that levels of files name by their place */
  constructor(chain: readonly StoredSet[]) {
    this.#chain = chain;
  }

  /** @throws EINVAL if its size is not what the summary says; EIO */
  of(set: StoredSet, medium: number): MediaReader {
    const media = this.#open.get(set) ?? new Map<number, MediaReader>();
    this.#open.set(set, media);
    const reader = media.get(medium) ?? set.openMedia();
    media.set(medium, reader);
    return reader;
  }

  /**
   * The data of an entry, to be read once and from front to back.
   * @throws MemberError if it is made of blocks, and what says where they are is damaged
   */
  dataOf(item: DataPlace): EntryData {
    const { levels, blockBytes } = item.extra;
    if (levels.length === 0) {
      return { media: this.of(item.dataSet, item.dataMedium), offset: item.dataOffset };
    }
    const open = (set: number, medium: number) => this.of(this.#chain[set] as StoredSet, medium);
    const name = `/${displayPath(item.entry.path)} of set ${item.dataSet.id}`;
    return { media: new AssembledReader(name, levels, blockBytes, open), offset: 0 };
  }

  close(): void {
    for (const media of this.#open.values()) for (const reader of media.values()) reader.close();
  }
}
