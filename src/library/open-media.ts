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

/** Files that one restore holds open: those used longest ago are closed to make room. */
const OPEN_MEDIA_MAX = 256;

/** What tells where an entry's data is. */
export type DataPlace = Pick<TreeItem, 'entry' | 'dataSet' | 'dataMedium' | 'dataOffset' | 'extra'>;

export class OpenMedia {
  readonly #chain: readonly StoredSet[];
  /** The one used longest ago first. */
  readonly #open = new Map<string, MediaReader>();

  /** @param chain the sets that levels of files name by their place */
  constructor(chain: readonly StoredSet[]) {
    this.#chain = chain;
  }

  /** @throws EINVAL if its size is not what the summary says; EIO */
  of(set: StoredSet, medium: number): MediaReader {
    const key = `${set.id} ${medium}`;
    const media = this.#open.get(key) ?? set.openMedia(medium);
    this.#open.delete(key);
    this.#open.set(key, media);
    if (this.#open.size > OPEN_MEDIA_MAX) this.#closeOldest();
    return media;
  }

  #closeOldest(): void {
    for (const [key, media] of this.#open) {
      media.close();
      this.#open.delete(key);
      return;
    }
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
    for (const media of this.#open.values()) media.close();
  }
}
