/**
 * A stream of unknown length as a set of one member: both sides of its backup, and its restore.
 *
 * A tar header says how long its member is, and a program's output tells that only at its end. So
 * the data goes first, in DATA frames; the server keeps it in a file without a name beside the set;
 * header and manifest line follow, made and hashed by the client as for any other file:
 *
 *   DATA*  MEDIA (the header blocks alone)  ENTRY (one line)  END
 *
 * Valid if and only if the entry's size and digest are those of the data that arrived. The cost is
 * room for a second copy in the library while the set is made. Worker threads; all of it blocks.
 */
import { closeSync, constants, openSync, readSync, rmSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { stpError } from '../errors.js';
import {
  assertTotals,
  encodeTotals,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_FILE,
  FRAME_HEADER_BYTES,
  FRAME_MEDIA,
  FrameReader,
  FrameWriter,
  frameName,
  LARGE_DATA_BYTES,
  type PageSink,
  type PageSource,
  protocolError,
  type Totals,
} from './frames.js';
import { decodeLine, encodeEntry, LineError, type ManifestEntry } from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';
import { plainFacts } from './plain-facts.js';
import { explainDiskError, type SetWriter } from './set-writer.js';

/** A pipe gives 64 KiB at most a call; a file as much as it is asked for. */
const PIECE_BYTES = 256 << 10;

/**
 * Sends what can be read from `fd` until its end. Returns what is then still to say: `finish` sends
 * the member's header, its line and END, once the caller knows that the data is whole.
 * @param progress kept up to date for another thread: [entries, bytes of data]
 */
export function sendStream(
  sink: PageSink,
  fd: number,
  path: string,
  progress: Float64Array,
): { bytes: number; finish: () => Totals } {
  const frames = new FrameWriter(sink);
  const hasher = new Blake3Hasher();
  const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  let size = 0;
  for (;;) {
    const read = readSync(fd, piece, 0, piece.length, null);
    if (read === 0) break;
    const part = piece.subarray(0, read);
    hasher.update(part);
    frames.frame(FRAME_DATA, part);
    size += read;
    progress[1] = size;
  }
  frames.flush();
  const finish = (): Totals => {
    const facts = plainFacts(path, size);
    const headers = new TarHeaderWriter();
    const headerBytes = headers.write(facts);
    frames.frame(FRAME_MEDIA, headers.buffer, headerBytes);
    const line = encodeEntry(facts, 0, headerBytes, hasher.digest('hex'), false);
    frames.frame(FRAME_ENTRY, Buffer.from(line));
    const totals = { entries: 1, bytes: size, warnings: 0 };
    frames.frame(FRAME_END, encodeTotals(totals));
    frames.flush();
    progress[0] = 1;
    return totals;
  };
  return { bytes: size, finish };
}

/** A file's bytes, as the frame of a member's data that a set writer can take. */
class SpoolSource implements PageSource {
  readonly #fd: number;
  readonly #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #view: Uint8Array;
  #position = 0;
  #left: number;
  #tail: Uint8Array;

  constructor(fd: number, bytes: number, blake3: string) {
    this.#fd = fd;
    this.#left = bytes;
    const isLarge = bytes >= LARGE_DATA_BYTES;
    const padding = new Uint8Array(paddedBytes(bytes) - bytes);
    this.#tail = isLarge ? Buffer.from(blake3, 'hex') : padding;
    const header = new Uint8Array(FRAME_HEADER_BYTES);
    const writer = new FrameWriter({ reserve: () => header, commit: () => {} });
    writer.begin(isLarge ? FRAME_FILE : FRAME_MEDIA, bytes + this.#tail.length);
    this.#view = header;
  }

  peek(): Uint8Array | null {
    if (this.#view.length > 0) return this.#view;
    if (this.#left === 0) {
      this.#view = this.#tail;
      this.#tail = new Uint8Array(0);
      return this.#view.length > 0 ? this.#view : null;
    }
    const asked = Math.min(this.#left, this.#piece.length);
    const read = readSync(this.#fd, this.#piece, 0, asked, this.#position);
    if (read === 0) throw stpError('EIO', 'the spool is shorter than what was written to it');
    this.#position += read;
    this.#left -= read;
    this.#view = this.#piece.subarray(0, read);
    return this.#view;
  }

  consume(bytes: number): void {
    this.#view = this.#view.subarray(bytes);
  }
}

/**
 * Receives up to and including END. The caller commits; after an error the set is aborted.
 * @param spool path for the data until its header is here; must not exist, is unlinked at once
 * @throws EPROTO, ENOSPC and what the stream throws
 */
export function storeStream(
  source: PageSource,
  set: SetWriter,
  spool: string,
  progress: Float64Array,
): Totals {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  let fd = -1;
  try {
    fd = openSync(spool, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    rmSync(spool);
    return receive(new FrameReader(source), set, fd, progress);
  } catch (e) {
    set.abort();
    throw explainDiskError(e, spool, set.id);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

function receive(
  frames: FrameReader,
  set: SetWriter,
  spool: number,
  progress: Float64Array,
): Totals {
  const hasher = new Blake3Hasher();
  let bytes = 0;
  let blake3 = '';
  let headerSeen = false;
  while (frames.next()) {
    if (frames.type === FRAME_DATA && !headerSeen) {
      bytes += frames.length;
      frames.toFile(spool, hasher);
      progress[1] = bytes;
    } else if (frames.type === FRAME_MEDIA && !headerSeen) {
      headerSeen = true;
      blake3 = hasher.digest('hex');
      set.media(frames);
      if (bytes > 0) {
        const stored = new FrameReader(new SpoolSource(spool, bytes, blake3));
        stored.next();
        set.media(stored);
      }
    } else if (frames.type === FRAME_ENTRY && headerSeen && set.entries === 0) {
      const line = Buffer.from(frames.payload());
      assertEntry(line, bytes, blake3);
      set.lines(line, 'entry');
      progress[0] = 1;
    } else if (frames.type === FRAME_END && set.entries === 1) {
      const totals = { entries: 1, bytes, warnings: 0 };
      assertTotals(frames.payload(), totals);
      return totals;
    } else {
      throw protocolError(`a ${frameName(frames.type)} frame has no place here in a stream`);
    }
  }
  throw protocolError('the stream ended before its END frame');
}

function assertEntry(line: Buffer, bytes: number, blake3: string): void {
  const entry = entryOf(line.toString());
  if (entry.type !== 'file' || entry.size !== bytes || entry.blake3 !== blake3) {
    throw protocolError('the entry does not describe the data that arrived');
  }
}

function entryOf(line: string): ManifestEntry {
  try {
    const record = decodeLine(line);
    if (record.kind === 'entry') return record;
  } catch (e) {
    if (!(e instanceof LineError)) throw e;
    throw protocolError(`its entry is refused: ${e.message}`);
  }
  throw protocolError('a line that is no entry');
}

/**
 * Restore: writes the data of a set's only member to `fd`.
 * @throws EINVAL if the set has other members; EBADMSG if the data is not what was backed up: what
 *   was written is then to be thrown away
 */
export function receiveStream(source: PageSource, fd: number, progress: Float64Array): Totals {
  const frames = new FrameReader(source);
  let entry: ManifestEntry | null = null;
  let bytes = 0;
  const hasher = new Blake3Hasher();
  while (frames.next()) {
    if (frames.type === FRAME_ENTRY) {
      const next = entryOf(frames.payload().toString());
      if (entry !== null || next.type !== 'file') {
        throw stpError('EINVAL', 'this set is no stream of one program: it has several members');
      }
      entry = next;
      progress[0] = 1;
    } else if (frames.type === FRAME_DATA && entry !== null && bytes === 0) {
      bytes = frames.length;
      frames.toFile(fd, hasher);
      progress[1] = bytes;
    } else if (frames.type === FRAME_END && entry !== null) {
      const totals = { entries: 1, bytes, warnings: 0 };
      assertTotals(frames.payload(), totals);
      if (bytes === entry.size && hasher.digest('hex') === entry.blake3) return totals;
      throw stpError('EBADMSG', 'the data of this set is not what was backed up; do not use it');
    } else {
      throw protocolError(`a ${frameName(frames.type)} frame has no place here in a restore`);
    }
  }
  throw protocolError('the stream ended before its END frame');
}
