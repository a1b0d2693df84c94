/**
 * A medium: the tar archive of a set as whoever is above sees it, a run of logical bytes.
 *
 * The one writer and the one reader of these bytes. Members and manifests know logical offsets only;
 * on how many files a medium lies, and how it is coded there, is known in here. Plain media are one
 * file, byte for byte: what is appended goes to it by write(2) from where it is, and is read by
 * read(2) to where it is wanted.
 *
 * Synchronous; any thread, one at a time.
 */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded, stpError } from '../errors.js';
import { writeAll } from './frames.js';

/** Medium 0 of a set where it is plain and one file. */
export const MEDIA_FILE = 'media.tar';

/** The file of a plain medium. */
export const mediumFile = (medium: number): string =>
  medium === 0 ? MEDIA_FILE : `media-${medium}.tar`;

/** What is said of a medium when it is complete. */
export interface MediumFacts {
  /** Logical. */
  readonly mediaBytes: number;
  /** Of the logical bytes; lower-case hex. */
  readonly mediaBlake3: string;
}

export interface MediaWriter {
  /** Logical bytes appended so far: the place of the next one. */
  readonly bytes: number;
  /**
   * Appends logical bytes. They may lie in shared memory: they are used during the call only.
   * @throws ENOSPC, EIO, ...: the medium is lost then, close it
   */
  append(data: Uint8Array): void;
  /** Puts all of it on the disk and closes it. */
  finish(): MediumFacts;
  /** Closes files, complete or not; harmless when done twice. Who made the directory removes it. */
  close(): void;
}

export interface MediaReader {
  /** Of the file or files, for messages. */
  readonly name: string;
  /** Logical. */
  readonly bytes: number;
  /**
   * Reads up to `bytes` logical bytes from `offset` into `into[at...]`.
   * @returns how many it were; 0 at the end only
   * @throws what its disk throws, naming the file: EIO, ...
   */
  read(into: Uint8Array, at: number, bytes: number, offset: number): number;
  /** Harmless when done twice. */
  close(): void;
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

class PlainWriter implements MediaWriter {
  readonly #fd: number;
  readonly #digest = new Blake3Hasher();
  #open = true;
  bytes = 0;

  constructor(path: string) {
    this.#fd = openSync(path, CREATE, 0o600);
  }

  append(data: Uint8Array): void {
    this.#digest.update(data);
    writeAll(this.#fd, data);
    this.bytes += data.length;
  }

  finish(): MediumFacts {
    fsyncSync(this.#fd);
    this.close();
    return { mediaBytes: this.bytes, mediaBlake3: this.#digest.digest('hex') };
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

class PlainReader implements MediaReader {
  readonly name: string;
  readonly bytes: number;
  readonly #fd: number;
  #open = true;

  constructor(path: string) {
    this.name = path;
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    this.bytes = fstatSync(this.#fd).size;
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    try {
      return readSync(this.#fd, into, at, bytes, offset);
    } catch (e) {
      if (!isCoded(e)) throw e;
      throw stpError(e.code, `${this.name} cannot be read at ${offset}`, 'read');
    }
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

/** A new medium in the directory of a set. @throws EEXIST, ENOSPC, EACCES, ... */
export const createMedia = (directory: string, medium = 0): MediaWriter =>
  new PlainWriter(join(directory, mediumFile(medium)));

/** The medium in the directory of a set, as long as it is there. @throws ENOENT, EACCES, EIO */
export const openMediaIn = (directory: string, medium = 0): MediaReader =>
  new PlainReader(join(directory, mediumFile(medium)));

const SLICE_BYTES = 1 << 20;

/** BLAKE3 of all logical bytes, as lower-case hex. @throws EIO, ... */
export function digestOfMedia(media: MediaReader): string {
  const slice = Buffer.allocUnsafeSlow(SLICE_BYTES);
  const hasher = new Blake3Hasher();
  for (let offset = 0; ; ) {
    const moved = media.read(slice, 0, SLICE_BYTES, offset);
    if (moved === 0) return hasher.digest('hex');
    hasher.update(slice.subarray(0, moved));
    offset += moved;
  }
}
