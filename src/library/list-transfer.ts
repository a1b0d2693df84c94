/**
 * What the client asks of the parent: its list, in parts, and block hashes of its large files. The
 * client asks (MORE, WANT), the server answers with one frame (LIST, BLOCKS), while nothing else is
 * under way. So neither side holds more than a part of the list and the hashes of one file, however
 * many files there are, and neither can wait for the other to read while both write.
 *
 * Worker threads: all of it blocks.
 */
import { stpError } from '../errors.js';
import { type BlockListPlace, blocksFile, readBlockList } from './blocks.js';
import type { ByteFile } from './bytes.js';
import {
  FRAME_BLOCKS,
  FRAME_LIST,
  FRAME_MORE,
  FRAME_WANT,
  FrameReader,
  FrameWriter,
  frameName,
  LIST_BYTES_MAX,
  type PageSink,
  type PageSource,
  protocolError,
  WANT_BYTES,
} from './frames.js';
import type { FillList } from './tree-index.js';

const ONE = Buffer.of(1);

/** The parent as the client sees it. */
export interface PreviousTree {
  /** Its list, once. */
  readonly fill: FillList;
  /** Block hashes of `bytes`; null if they are not to be had. Valid until the next call. */
  readonly blocks: (place: BlockListPlace, bytes: number) => Buffer | null;
}

function encodeWant({ set, medium, offset, blake3 }: BlockListPlace, bytes: number): Buffer {
  const want = Buffer.alloc(WANT_BYTES);
  want.writeUInt16LE(set, 0);
  want.writeUInt16LE(medium, 2);
  want.writeDoubleLE(offset, 8);
  want.writeDoubleLE(bytes, 16);
  want.write(blake3, 24, 'hex');
  return want;
}

/** The client's side: asks through `frames`, gets its answers through `source`. */
class ListClient implements PreviousTree {
  readonly #frames: FrameWriter;
  readonly #answers: FrameReader;
  /** Bytes of the list that are still to come in frames. */
  #left: number;
  /** Of a frame that had not been used up when something else was asked for. */
  #stash = Buffer.alloc(0);
  #hashes = Buffer.alloc(0);

  constructor(frames: FrameWriter, source: PageSource, bytes: number) {
    this.#frames = frames;
    this.#answers = new FrameReader(source);
    this.#left = bytes;
  }

  readonly fill: FillList = (into, at, room) => {
    if (this.#stash.length > 0) {
      const taken = this.#stash.copy(into, at, 0, room);
      this.#stash = this.#stash.subarray(taken);
      return taken;
    }
    const answers = this.#answers;
    if (answers.owed === 0) {
      if (this.#left === 0) return 0;
      this.#ask(FRAME_MORE, ONE, FRAME_LIST);
      if (answers.length > this.#left) throw protocolError('the list is longer than was said');
      this.#left -= answers.length;
    }
    const count = Math.min(room, answers.owed);
    answers.take(into.subarray(at, at + count));
    return count;
  };

  readonly blocks = (place: BlockListPlace, bytes: number): Buffer | null => {
    const answers = this.#answers;
    if (answers.owed > 0) {
      const rest = Buffer.allocUnsafe(answers.owed);
      answers.take(rest);
      this.#stash = Buffer.concat([this.#stash, rest]);
    }
    this.#ask(FRAME_WANT, encodeWant(place, bytes), FRAME_BLOCKS);
    if (answers.length !== bytes) {
      answers.toFile(-1, null);
      return null;
    }
    if (this.#hashes.length < bytes) this.#hashes = Buffer.allocUnsafeSlow(bytes);
    const hashes = this.#hashes.subarray(0, bytes);
    answers.take(hashes);
    return hashes;
  };

  #ask(type: number, question: Uint8Array, answer: number): void {
    this.#frames.frame(type, question);
    this.#frames.flush();
    const answers = this.#answers;
    if (!answers.next()) throw protocolError('the stream ended inside the list');
    if (answers.type === answer) return;
    throw protocolError(`a ${frameName(answers.type)} frame has no place in the list`);
  }
}

/** The parent with a list of `bytes`, through a stream. */
export const fetchPrevious = (
  frames: FrameWriter,
  source: PageSource,
  bytes: number,
): PreviousTree => new ListClient(frames, source, bytes);

/** The server's side: answers one question after the other. */
export class ListServer {
  readonly #frames: FrameWriter;
  readonly #list: ByteFile;
  readonly #directories: readonly string[];
  readonly #part = Buffer.allocUnsafeSlow(LIST_BYTES_MAX);
  #position = 0;

  /**
   * @param list the caller closes it
   * @param directories of the sets of the chain, the full one first
   */
  constructor(sink: PageSink, list: ByteFile, directories: readonly string[] = []) {
    this.#frames = new FrameWriter(sink);
    this.#list = list;
    this.#directories = directories;
  }

  /** @throws EPROTO if nothing is left: the client knows how long the list is */
  answer(): void {
    const bytes = this.#list.read(this.#part, 0, this.#part.length, this.#position);
    if (bytes === 0) throw stpError('EPROTO', 'the client asked for more than the whole list');
    this.#position += bytes;
    this.#frames.frame(FRAME_LIST, this.#part, bytes);
    this.#frames.flush();
  }

  /** Answers WANT: with one byte where the hashes are gone or damaged, and the file comes whole. */
  answerBlocks(want: Buffer): void {
    if (want.length !== WANT_BYTES) throw protocolError('its WANT is cut');
    const directory = this.#directories[want.readUInt16LE(0)];
    const [offset, bytes] = [want.readDoubleLE(8), want.readDoubleLE(16)];
    const isPlace = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(bytes);
    if (directory === undefined || !isPlace || bytes <= 0) {
      throw stpError('EPROTO', 'the client asked for block hashes of no set of the chain');
    }
    const path = `${directory}/${blocksFile(want.readUInt16LE(2))}`;
    const hashes = readBlockList(path, offset, bytes, want.toString('hex', 24, 56));
    this.#frames.frame(FRAME_BLOCKS, hashes ?? ONE);
    this.#frames.flush();
  }
}
