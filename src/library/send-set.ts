/**
 * Restore, the server's side: the tree of a set becomes one stream of frames, in its order.
 *
 * Data goes from the media to pages by read(2). Digests are checked by who writes the files.
 * Worker thread: all of it blocks.
 */
import { closeSync } from 'node:fs';
import { stpError } from '../errors.js';
import {
  encodeTotals,
  FileReadError,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FrameWriter,
  type PageSink,
  type Totals,
} from './frames.js';
import type { StoredSet } from './library.js';
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
  const media = new Map<StoredSet, number>();
  let entries = 0;
  let bytes = 0;
  try {
    for (const { entry, line, dataSet, dataOffset } of treeOf(chain, selected)) {
      frames.begin(FRAME_ENTRY, line.length + 1);
      frames.put(line, 0, line.length);
      frames.put(NEWLINE, 0, 1);
      if (entry.stored > 0 && !withoutData) {
        const fd = media.get(dataSet) ?? dataSet.openMedia();
        media.set(dataSet, fd);
        const at = { fd, offset: dataOffset, bytes: entry.stored, path: dataSet.mediaPath };
        sendData(frames, at, progress);
      }
      bytes += entry.stored;
      progress[0] = ++entries;
    }
    const totals = { entries, bytes, warnings: 0 };
    frames.frame(FRAME_END, encodeTotals(totals));
    frames.flush();
    return totals;
  } finally {
    for (const fd of media.values()) closeSync(fd);
  }
}

interface DataPlace {
  readonly fd: number;
  readonly offset: number;
  readonly bytes: number;
  readonly path: string;
}

function sendData(frames: FrameWriter, place: DataPlace, progress: Float64Array): void {
  const { fd, offset, bytes, path } = place;
  frames.begin(FRAME_DATA, bytes);
  for (let at = 0; at < bytes; ) {
    const asked = Math.min(bytes - at, SLICE_BYTES);
    let moved: number;
    try {
      moved = frames.putFile(fd, offset + at, asked, null);
    } catch (e) {
      if (!(e instanceof FileReadError)) throw e;
      throw stpError(e.code, `${path} cannot be read at ${offset + at}`, 'read');
    }
    if (moved < asked) throw stpError('EINVAL', `${path} is shorter than its manifest says`);
    at += moved;
    progress[1] = (progress[1] as number) + moved;
  }
}
