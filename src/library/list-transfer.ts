/**
 * The parent's list on its way to the client: it asks for a part (MORE), the server sends one (LIST),
 * while nothing else is under way. So neither side holds more than a part, however many files there
 * are, and neither can wait for the other to read while both write.
 *
 * Worker threads: all of it blocks.
 */
import { stpError } from '../errors.js';
import type { ByteFile } from './bytes.js';
import {
  FRAME_LIST,
  FRAME_MORE,
  FrameReader,
  FrameWriter,
  frameName,
  LIST_BYTES_MAX,
  type PageSink,
  type PageSource,
  protocolError,
} from './frames.js';
import type { FillList } from './tree-index.js';

const ONE = Buffer.of(1);

/** The client's side: a list of `bytes` that comes through `source` when `frames` asks for it. */
export function fetchList(frames: FrameWriter, source: PageSource, bytes: number): FillList {
  const answers = new FrameReader(source);
  let left = bytes;
  return (into, at, room) => {
    if (answers.owed === 0) {
      if (left === 0) return 0;
      frames.frame(FRAME_MORE, ONE);
      frames.flush();
      if (!answers.next()) throw protocolError('the stream ended inside the list');
      if (answers.type !== FRAME_LIST || answers.length > left) {
        throw protocolError(`a ${frameName(answers.type)} frame has no place in the list`);
      }
      left -= answers.length;
    }
    const count = Math.min(room, answers.owed);
    answers.take(into.subarray(at, at + count));
    return count;
  };
}

/** The server's side: answers one MORE after the other. */
export class ListServer {
  readonly #frames: FrameWriter;
  readonly #list: ByteFile;
  readonly #part = Buffer.allocUnsafeSlow(LIST_BYTES_MAX);
  #position = 0;

  /** @param list the caller closes it */
  constructor(sink: PageSink, list: ByteFile) {
    this.#frames = new FrameWriter(sink);
    this.#list = list;
  }

  /** @throws EPROTO if nothing is left: the client knows how long the list is */
  answer(): void {
    const bytes = this.#list.read(this.#part, 0, this.#part.length, this.#position);
    if (bytes === 0) throw stpError('EPROTO', 'the client asked for more than the whole list');
    this.#position += bytes;
    this.#frames.frame(FRAME_LIST, this.#part, bytes);
    this.#frames.flush();
  }
}
