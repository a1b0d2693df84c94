/**
 * Backup, the server's side: one stream of frames becomes the files of a set.
 *
 * Worker thread: all of it blocks. The client is not trusted: frames and lines are checked, and a
 * stream that ends before its END frame, or whose totals are wrong, leaves no set.
 */
import {
  assertTotals,
  FRAME_BLOCKS,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_FILE,
  FRAME_MEDIA,
  FRAME_MORE,
  FRAME_WANT,
  FRAME_WARNING,
  FrameReader,
  frameName,
  type PageSource,
  protocolError,
  type Totals,
} from './frames.js';
import type { ListServer } from './list-transfer.js';
import type { SetWriter } from './set-writer.js';

/**
 * Receives up to and including END. The caller commits; after an error the set is aborted, and kept
 * for the next backup if the stream broke.
 * @param progress kept up to date for another thread: [entries, bytes of data]
 * @throws EPROTO, ENOSPC and what the stream throws
 */
export function storeSet(
  source: PageSource,
  set: SetWriter,
  progress: Float64Array = new Float64Array(2),
  list: ListServer | null = null,
): Totals {
  try {
    return receive(new FrameReader(source), set, progress, list);
  } catch (e) {
    set.interrupt();
    throw e;
  }
}

/**
 * Receives a dry run: the list may be asked for, then come warnings and END.
 * @throws EPROTO
 */
export function receiveDryRun(source: PageSource, list: ListServer | null): Totals {
  const frames = new FrameReader(source);
  let warnings = 0;
  while (frames.next()) {
    if (frames.type === FRAME_MORE) answer(frames, list);
    else if (frames.type === FRAME_WARNING) {
      frames.payload();
      warnings++;
    } else if (frames.type === FRAME_END) {
      const said = JSON.parse(frames.payload().toString()) as Totals;
      const { entries, bytes } = said;
      if (!Number.isSafeInteger(entries) || !Number.isSafeInteger(bytes)) {
        throw protocolError('the totals of a dry run are no numbers');
      }
      if (said.warnings !== warnings) throw protocolError('the warnings of a dry run are not all');
      return { entries, bytes, warnings };
    } else throw protocolError(`a ${frameName(frames.type)} frame has no place in a dry run`);
  }
  throw protocolError('the stream ended before its END frame');
}

function answer(frames: FrameReader, list: ListServer | null): void {
  const asked = frames.payload();
  if (list === null) throw protocolError('it asks for a list in a full backup');
  if (frames.type === FRAME_WANT) list.answerBlocks(asked);
  else list.answer();
}

function receive(
  frames: FrameReader,
  set: SetWriter,
  progress: Float64Array,
  list: ListServer | null,
): Totals {
  while (frames.next()) {
    switch (frames.type) {
      case FRAME_MEDIA:
      case FRAME_FILE:
        set.media(frames);
        break;
      case FRAME_ENTRY:
        set.lines(frames.payload(), 'entry');
        progress[0] = set.entries;
        progress[1] = set.bytes;
        break;
      case FRAME_BLOCKS:
        set.blocks(frames);
        break;
      case FRAME_MORE:
      case FRAME_WANT:
        answer(frames, list);
        break;
      case FRAME_WARNING:
        set.lines(frames.payload(), 'warning');
        break;
      case FRAME_END: {
        const totals = { entries: set.entries, bytes: set.bytes, warnings: set.warnings };
        assertTotals(frames.payload(), totals);
        return totals;
      }
      default:
        throw protocolError(`a ${frameName(frames.type)} frame has no place in a backup`);
    }
  }
  throw protocolError('the stream ended before its END frame');
}
