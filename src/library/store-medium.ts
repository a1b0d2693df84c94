/**
 * Backup, the server's side: a stream that carries one medium and no lines.
 *
 * Worker thread: all of it blocks. Which entries the medium has comes with the lines of another
 * stream; the set writer holds them against the length that is told here.
 */
import { BlocksWriter, blocksPath } from './blocks.js';
import {
  assertTotals,
  FRAME_BLOCKS,
  FRAME_END,
  FRAME_FILE,
  FRAME_MEDIA,
  FrameReader,
  frameName,
  type PageSource,
  protocolError,
} from './frames.js';
import type { FurtherMedium } from './manifest.js';
import { createMedia } from './media.js';
import type { MediaPlan, VolumeHome } from './media-plan.js';
import { TAR_END_BYTES } from './pax.js';
import { mediumTotals } from './read-lane.js';
import { receiveMedia } from './receive-media.js';
import { explainDiskError } from './set-writer.js';

export interface MediumPlace {
  /** Of the set that is being made. */
  readonly directory: string;
  readonly home: VolumeHome;
  readonly medium: number;
  readonly plan: MediaPlan;
}

/**
 * Receives up to and including END, and puts the medium on the disk.
 * @throws EPROTO, ENOSPC, EIO and what the stream throws: the set cannot be made then
 */
export function storeMedium(source: PageSource, place: MediumPlace): FurtherMedium {
  const { directory: partialDirectory, home, medium, plan } = place;
  const frames = new FrameReader(source);
  try {
    const media = createMedia({ partialDirectory, home, medium, plan });
    const blocks = new BlocksWriter(blocksPath(partialDirectory, medium, plan));
    try {
      while (frames.next()) {
        if (frames.type === FRAME_MEDIA || frames.type === FRAME_FILE) {
          receiveMedia(frames, media);
        } else if (frames.type === FRAME_BLOCKS) {
          blocks.receive(frames);
        } else if (frames.type === FRAME_END) {
          assertTotals(frames.payload(), mediumTotals(media.bytes));
          media.append(new Uint8Array(TAR_END_BYTES));
          blocks.finish();
          const { mediaBytes: bytes, mediaXxh3: xxh3, volumes } = media.finish();
          return { bytes, xxh3, ...(volumes !== undefined && { volumes }) };
        } else {
          throw protocolError(`a ${frameName(frames.type)} frame has no place in a medium`);
        }
      }
      throw protocolError('the stream ended before its END frame');
    } finally {
      media.close();
      blocks.close();
    }
  } catch (e) {
    throw explainDiskError(e, partialDirectory, home.id);
  }
}
