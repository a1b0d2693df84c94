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
import { type EntryData, OpenMedia } from './open-media.js';
import { type TreeItem, treeOf, verifyTree } from './set-tree.js';
import { MemberError } from './tar-member.js';

const SLICE_BYTES = 8 << 20;
const NEWLINE = Buffer.of(0x0a);

export interface SendSetOptions {
  /** All that the set needs, itself last; for an incremental set. */
  readonly chain?: readonly StoredSet[];
  /** Stored paths; empty for all of it. */
  readonly selected?: readonly Buffer[];
  /** Kept up to date for another thread: [entries, bytes of data]. */
  readonly progress?: Float64Array;
  /** Entries only, for a dry run. */
  readonly withoutData?: boolean;
}

/**
 * Sends the tree of a set, or a part of it, then END, and flushes; the caller shuts the stream down.
 * @throws EBADMSG, EINVAL if manifest or media are damaged, ENOENT for a path that selects nothing,
 *   EIO; what the stream throws
 */
export function sendSet(sink: PageSink, set: StoredSet, options: SendSetOptions = {}): Totals {
  const { chain = [set], selected = [], withoutData = false } = options;
  const { progress = new Float64Array(2) } = options;
  const frames = new FrameWriter(sink);
  // A line that was changed on the disk would restore as it stands: modes, owners, names.
  verifyTree(chain);
  // Better now than in the middle of what is made there.
  if (selected.length === 0 && chain.length === 1) set.assertMediaThere();
  const open = new OpenMedia(chain);
  let entries = 0;
  let bytes = 0;
  try {
    for (const item of treeOf(chain, selected)) {
      const { entry, line } = item;
      frames.begin(FRAME_ENTRY, line.length + 1);
      frames.put(line, 0, line.length);
      frames.put(NEWLINE, 0, 1);
      if (entry.stored > 0 && !withoutData) sendData(frames, open, item, progress);
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

function sendData(
  frames: FrameWriter,
  open: OpenMedia,
  item: TreeItem,
  progress: Float64Array,
): void {
  frames.align(item.entry.stored);
  frames.begin(FRAME_DATA, item.entry.stored);
  try {
    move(frames, open.dataOf(item), item.entry.stored, progress);
  } catch (e) {
    if (!(e instanceof MemberError)) throw e;
    // What says where its blocks are is damaged. The receiver finds it by the digest and names it,
    // as it does with damaged data, and the rest goes on.
    frames.putZeros(frames.owed);
  }
}

function move(
  frames: FrameWriter,
  { media, offset }: EntryData,
  bytes: number,
  progress: Float64Array,
): void {
  for (let at = 0; at < bytes; ) {
    const asked = Math.min(bytes - at, SLICE_BYTES);
    const moved = frames.putFrom(media, offset + at, asked, null);
    if (moved < asked) throw stpError('EINVAL', `${media.name} is shorter than its manifest says`);
    at += moved;
    progress[1] = (progress[1] as number) + moved;
  }
}
