/**
 * What MEDIA and FILE frames bring is appended to a medium. Worker threads; it blocks.
 */
import { FILE_DIGEST_BYTES, FRAME_FILE, type FrameReader } from './frames.js';
import type { MediaWriter } from './media.js';
import { paddedBytes } from './pax.js';

/** What of a medium's writer is needed for that. */
export type MediaSink = Pick<MediaWriter, 'bytes' | 'append' | 'appendData' | 'endData'>;

/** What a FILE frame said of the data that it brought. */
export interface LargeData {
  /** Of its first byte in the medium. */
  readonly offset: number;
  readonly bytes: number;
  readonly blake3: string;
}

/**
 * Appends the payload of the frame that `frames` stands at.
 * @returns what the line of a large file has to say, too; null for all others
 * @throws ENOSPC, EIO, ... and what the stream throws
 */
export function receiveMedia(frames: FrameReader, media: MediaSink): LargeData | null {
  if (frames.type !== FRAME_FILE) {
    frames.pass(frames.owed, (page) => media.append(page));
    return null;
  }
  const offset = media.bytes;
  const bytes = frames.owed - FILE_DIGEST_BYTES;
  frames.pass(bytes, (page) => media.appendData(page));
  const digest = Buffer.alloc(FILE_DIGEST_BYTES);
  frames.take(digest);
  media.endData(digest);
  const padding = paddedBytes(bytes) - bytes;
  if (padding > 0) media.append(new Uint8Array(padding));
  return { offset, bytes, blake3: digest.toString('hex') };
}
