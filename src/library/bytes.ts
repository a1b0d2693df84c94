/** Files, or what lies in files, as bytes by position. Synchronous; any thread, one at a time. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { isCoded, stpError } from '../errors.js';

export interface ByteFile {
  /** For messages. */
  readonly name: string;
  readonly bytes: number;
  /**
   * Reads up to `bytes` bytes from `offset` into `into[at...]`.
   * @returns how many it were; 0 at the end only
   * @throws what its disk throws, naming the file (EIO, ...); EBADMSG if what is there is damaged
   */
  read(into: Uint8Array, at: number, bytes: number, offset: number): number;
  /** Harmless when done twice. */
  close(): void;
}

/** A file as it is. */
export class PlainFile implements ByteFile {
  readonly name: string;
  readonly bytes: number;
  readonly #fd: number;
  #open = true;

  /** @throws ENOENT, EACCES, EIO; ELOOP if it is a symlink */
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

/** So many bytes from `offset`. @throws EINVAL if the file ends before; what `read` throws */
export function readAll(file: ByteFile, into: Uint8Array, offset: number): void {
  for (let at = 0; at < into.length; ) {
    const moved = file.read(into, at, into.length - at, offset + at);
    if (moved === 0) throw stpError('EINVAL', `${file.name} ends at ${offset + at}; it was cut`);
    at += moved;
  }
}
