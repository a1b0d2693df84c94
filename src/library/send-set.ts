/**
 * Restore, the server's side: a set becomes one stream of frames, in the order of its manifest.
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
import type { ManifestEntry } from './manifest.js';

const SLICE_BYTES = 8 << 20;
const NEWLINE = Buffer.of(0x0a);

/**
 * Sends all of a set, then END, and flushes; the caller shuts the stream down.
 * @param progress kept up to date for another thread: [entries, bytes of data]
 * @throws EBADMSG, EINVAL if manifest or media are damaged, EIO; what the stream throws
 */
export function sendSet(sink: PageSink, set: StoredSet, progress?: Float64Array): Totals {
  const shown = progress ?? new Float64Array(2);
  const frames = new FrameWriter(sink);
  // A line that was changed on the disk would restore as it stands: modes, owners, names.
  set.verifyManifest();
  const manifest = set.manifest();
  let entries = 0;
  let bytes = 0;
  let media = -1;
  try {
    media = set.openMedia();
    for (const record of manifest) {
      if (record.kind !== 'entry') continue;
      frames.begin(FRAME_ENTRY, manifest.line.length + 1);
      frames.put(manifest.line, 0, manifest.line.length);
      frames.put(NEWLINE, 0, 1);
      if (record.size > 0) sendData(frames, media, record, set.mediaPath, shown);
      bytes += record.size;
      shown[0] = ++entries;
    }
    const totals = { entries, bytes, warnings: 0 };
    frames.frame(FRAME_END, encodeTotals(totals));
    frames.flush();
    return totals;
  } finally {
    manifest.close();
    if (media >= 0) closeSync(media);
  }
}

function sendData(
  frames: FrameWriter,
  media: number,
  entry: ManifestEntry,
  mediaPath: string,
  progress: Float64Array,
): void {
  frames.begin(FRAME_DATA, entry.size);
  for (let at = 0; at < entry.size; ) {
    const asked = Math.min(entry.size - at, SLICE_BYTES);
    let moved: number;
    try {
      moved = frames.putFile(media, entry.dataOffset + at, asked, null);
    } catch (e) {
      if (!(e instanceof FileReadError)) throw e;
      throw stpError(e.code, `${mediaPath} cannot be read at ${entry.dataOffset + at}`, 'read');
    }
    if (moved < asked) throw stpError('EINVAL', `${mediaPath} is shorter than its manifest says`);
    at += moved;
    progress[1] = (progress[1] as number) + moved;
  }
}
