/**
 * Backup, the client's side: a file tree becomes one stream of frames.
 *
 * A file's bytes go file to page (read(2)) and are hashed there; nothing of them is copied again. A
 * small file costs open, fstat, read, fstat, close and no call of the stream. The header announces
 * the size that fstat gave: a file that shrinks or fails meanwhile is filled up with zeros, marked
 * `changed`, and reported; one that grows is cut, marked, and reported.
 *
 * Worker thread: all of it blocks.
 */
import { closeSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { type TreeEntry, TreeWalk, type TreeWarning } from '../source/file-tree.js';
import { displayPath } from '../source/names.js';
import {
  encodeTotals,
  FileReadError,
  FRAME_END,
  FRAME_ENTRY,
  FRAME_WARNING,
  FrameWriter,
  LINE_BYTES_MAX,
  LINES_BYTES_TARGET,
  type PageSink,
  type Totals,
} from './frames.js';
import { BLAKE3_EMPTY, encodeEntry, encodeWarning } from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';

/** Large files report progress this often. */
const SLICE_BYTES = 8 << 20;

export interface TransferOptions {
  /** Kept up to date for another thread to show: [entries, bytes of data]. */
  readonly progress?: Float64Array;
  /** Also told of each warning, which the stream carries anyway. */
  readonly onWarning?: (warning: TreeWarning) => void;
}

/**
 * Sends all of `roots` (real paths, see confine.ts), then END, and flushes; the caller shuts the
 * stream down.
 * @throws ENOENT, EACCES for a root; what the stream throws
 */
export function sendTree(
  sink: PageSink,
  roots: readonly (Buffer | string)[],
  options: TransferOptions = {},
): Totals {
  return new TreeSender(sink, roots, options).run();
}

class TreeSender {
  readonly #frames: FrameWriter;
  readonly #walk: TreeWalk;
  readonly #progress: Float64Array;
  readonly #headers = new TarHeaderWriter();
  readonly #hasher = new Blake3Hasher();
  readonly #lineBytes = Buffer.allocUnsafeSlow(LINE_BYTES_MAX + LINES_BYTES_TARGET);
  #lines = '';
  #mediaBytes = 0;
  #entries = 0;
  #bytes = 0;
  #warnings = 0;

  constructor(sink: PageSink, roots: readonly (Buffer | string)[], options: TransferOptions) {
    this.#frames = new FrameWriter(sink);
    this.#progress = options.progress ?? new Float64Array(2);
    const onWarning = (warning: TreeWarning) => {
      this.#warn(warning);
      options.onWarning?.(warning);
    };
    this.#walk = new TreeWalk(roots, { onWarning });
  }

  run(): Totals {
    for (const entry of this.#walk) {
      if (entry.type === 'file' && entry.size > 0) this.#sendFile(entry);
      else this.#sendHeader(entry);
    }
    this.#flushLines();
    const totals = { entries: this.#entries, bytes: this.#bytes, warnings: this.#warnings };
    this.#frames.frame(FRAME_END, encodeTotals(totals));
    this.#frames.flush();
    return totals;
  }

  #sendHeader(entry: TreeEntry): void {
    const headerBytes = this.#headers.write(entry);
    this.#frames.beginMedia(headerBytes);
    this.#frames.put(this.#headers.buffer, 0, headerBytes);
    this.#line(entry, headerBytes, entry.type === 'file' ? BLAKE3_EMPTY : null, false);
  }

  #sendFile(entry: TreeEntry): void {
    const fd = this.#walk.open(entry);
    if (fd < 0) return;
    try {
      const { size } = entry;
      const headerBytes = this.#headers.write(entry);
      this.#frames.beginMedia(headerBytes + paddedBytes(size));
      this.#frames.put(this.#headers.buffer, 0, headerBytes);
      this.#hasher.reset();
      const failure = this.#moveData(fd, size);
      this.#frames.putZeros(this.#frames.owed - (paddedBytes(size) - size), this.#hasher);
      this.#frames.putZeros(this.#frames.owed);
      if (failure !== null) this.#warnUnreadable(entry, failure);
      const whole = failure === null && this.#walk.isUnchanged(entry, fd);
      this.#line(entry, headerBytes, this.#hasher.digest('hex'), !whole);
    } finally {
      closeSync(fd);
    }
  }

  /** Returns the code of a read error, null if the data or the end of the file was reached. */
  #moveData(fd: number, size: number): string | null {
    const progress = this.#progress;
    try {
      for (let at = 0; at < size; ) {
        const asked = Math.min(size - at, SLICE_BYTES);
        const moved = this.#frames.putFile(fd, at, asked, this.#hasher);
        at += moved;
        progress[1] = (progress[1] as number) + moved;
        if (moved < asked) break;
      }
      return null;
    } catch (e) {
      if (e instanceof FileReadError) return e.code;
      throw e;
    }
  }

  #warnUnreadable(entry: TreeEntry, code: string): void {
    const message = `/${displayPath(entry.path)} could not be read to its end; zeros stand for the rest`;
    this.#warn({ path: entry.path, code, message });
  }

  #line(entry: TreeEntry, headerBytes: number, blake3: string | null, changed: boolean): void {
    const headerOffset = this.#mediaBytes;
    const dataOffset = headerOffset + headerBytes;
    this.#mediaBytes = dataOffset + paddedBytes(entry.size);
    this.#entries++;
    this.#bytes += entry.size;
    this.#progress[0] = this.#entries;
    this.#lines += encodeEntry(entry, headerOffset, dataOffset, blake3, changed);
    if (this.#lines.length >= LINES_BYTES_TARGET) this.#flushLines();
  }

  #flushLines(): void {
    if (this.#lines === '') return;
    const bytes = this.#lineBytes.write(this.#lines);
    assert(bytes < this.#lineBytes.length, 'lines fit their frame');
    this.#frames.frame(FRAME_ENTRY, this.#lineBytes, bytes);
    this.#lines = '';
  }

  #warn(warning: TreeWarning): void {
    this.#warnings++;
    const { path, code, message } = warning;
    this.#frames.frame(FRAME_WARNING, Buffer.from(encodeWarning(path, code, message)));
  }
}
