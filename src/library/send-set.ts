/**
 * Restore, the server's side: the tree of a set becomes one stream of frames, in its order.
 *
 * Data goes from the media to pages by read(2). Digests are checked by who writes the files.
 * Worker thread: all of it blocks.
 */
import { stpError } from '../errors.js';
import {
  encodeTotals,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FrameWriter,
  type PageSink,
  type Totals,
} from './frames.js';
import type { StoredSet } from './library.js';
import type { MediaReader } from './media.js';
import { treeOf, verifyTree } from './set-tree.js';

const SLICE_BYTES = 8 << 20;
const NEWLINE = Buffer.of(0x0a);

export interface SendSetOptions {
  /** All that the set needs, itself last; for an incremental set. */
  readonly chain?: readonly StoredSet[];
  /** Stored paths; empty for all of it. */
  readonly selected?: readonly Buffer[];
  /** Kept up to date for another thread: [entries, bytes of data]. */
  readonly progress?: Float64Array;
}

/**
 * Sends the tree of a set, or a part of it, then END, and flushes; the caller shuts the stream down.
 * @throws EBADMSG, EINVAL if manifest or media are damaged, ENOENT for a path that selects nothing,
 *   EIO; what the stream throws
 */
export function sendSet(sink: PageSink, set: StoredSet, options: SendSetOptions = {}): Totals {
  const { chain = [set], selected = [], progress = new Float64Array(2) } = options;
  const frames = new FrameWriter(sink);
  // A line that was changed on the disk would restore as it stands: modes, owners, names.
  verifyTree(chain);
  // Better now than in the middle of what is made there.
  if (selected.length === 0 && chain.length === 1) set.assertMediaThere();
  const open = new OpenMedia();
  let entries = 0;
  let bytes = 0;
  try {
    for (const { entry, line, dataSet, dataMedium, dataOffset } of treeOf(chain, selected)) {
      frames.begin(FRAME_ENTRY, line.length + 1);
      frames.put(line, 0, line.length);
      frames.put(NEWLINE, 0, 1);
      if (entry.stored > 0) {
        const media = open.of(dataSet, dataMedium);
        sendData(frames, { media, offset: dataOffset, bytes: entry.stored }, progress);
      }
      bytes += entry.stored;
      progress[0] = ++entries;
    }
    const totals = { entries, bytes, warnings: 0 };
    frames.frame(FRAME_END, encodeTotals(totals));
    frames.flush();
    return totals;
  } finally {
    open.close();
  }
}

/** Files that one restore holds open: those used longest ago are closed to make room. */
const OPEN_MEDIA_MAX = 256;

class OpenMedia {
  readonly #open = new Map<string, MediaReader>();

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

  close(): void {
    for (const media of this.#open.values()) media.close();
  }
}

interface DataPlace {
  readonly media: MediaReader;
  readonly offset: number;
  readonly bytes: number;
}

function sendData(frames: FrameWriter, place: DataPlace, progress: Float64Array): void {
  const { media, offset, bytes } = place;
  frames.begin(FRAME_DATA, bytes);
  for (let at = 0; at < bytes; ) {
    const asked = Math.min(bytes - at, SLICE_BYTES);
    const moved = frames.putFrom(media, offset + at, asked, null);
    if (moved < asked) throw stpError('EINVAL', `${media.name} is shorter than its manifest says`);
    at += moved;
    progress[1] = (progress[1] as number) + moved;
  }
}
