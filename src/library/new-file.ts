/**
 * A new file of a set beside its media, plain or sealed: bytes in, then its length and digest as it
 * is on the disk. Synchronous; any thread.
 */
import { closeSync, constants, fsyncSync, openSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { AgeWriter, type Sealing } from './age-file.js';
import { writeAll } from './write-all.js';

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class NewFile {
  readonly #fd: number;
  readonly #digest = new Blake3Hasher();
  readonly #age: AgeWriter | null;
  #open = true;
  /** On the disk, so far. */
  bytes = 0;

  /** @throws EEXIST, ENOSPC, EACCES, ... */
  constructor(path: string, sealing: Sealing | null = null) {
    this.#fd = openSync(path, CREATE, 0o600);
    try {
      this.#age = sealing && new AgeWriter(sealing, (bytes) => this.#put(bytes));
    } catch (e) {
      this.close();
      throw e;
    }
  }

  put(data: Uint8Array): void {
    if (this.#age === null) this.#put(data);
    else this.#age.write(data);
  }

  #put(data: Uint8Array): void {
    writeAll(this.#fd, data);
    this.#digest.update(data);
    this.bytes += data.length;
  }

  /** Puts it on the disk and closes it. Its BLAKE3, lower-case hex. */
  finish(): string {
    this.#age?.finish();
    fsyncSync(this.#fd);
    this.close();
    return this.#digest.digest('hex');
  }

  /** Harmless when done twice. */
  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}
