/**
 * New files on their way into the places of others: complete, under names of their own, and not yet
 * known to be on the disk.
 *
 * Invariant: a file is renamed into place only after the disk has said that it has it; so after a
 * crash each place has the old file or the new one. With fsync(2) of one file after the other that
 * is a commit of the file system's journal and a flush of the disk's cache for each; here a batch of
 * them has one of both (native/file_io.cc: SyncFiles), and still each file's own errors.
 *
 * Worker thread: all of it blocks.
 */
import { closeSync, fsyncSync } from 'node:fs';
import { codeOfErrno, stpError } from '../errors.js';

/** Open files, and temporary names that a crash leaves. */
const BATCH_FILES_MAX = 128;
/** Room on the disk for old and new at once; a larger file is a batch by itself. */
const BATCH_BYTES_MAX = 64 << 20;

export interface WaitingFile {
  readonly fd: number;
  readonly bytes: number;
  /** Renames it; throws what prevents it. */
  readonly place: () => void;
  /** Removes it. */
  readonly discard: () => void;
  /** Told what `fsync` or `place` throws; may throw it on. */
  readonly onFailure: (e: unknown) => void;
}

function syncOne(fd: number): number {
  try {
    fsyncSync(fd);
    return 0;
  } catch (e) {
    const { errno } = e as { errno?: number };
    if (errno === undefined) throw e;
    return -errno;
  }
}

export class ReplacedFiles {
  #waiting: WaitingFile[] = [];
  #bytes = 0;

  /** @param syncFiles an error number for each, 0 for those that the disk has */
  constructor(
    private readonly syncFiles: (fds: readonly number[]) => number[] = (fds) => fds.map(syncOne),
  ) {}

  /** Takes the file over, descriptor included. */
  add(file: WaitingFile): void {
    this.#waiting.push(file);
    this.#bytes += file.bytes;
    const isFull = this.#waiting.length >= BATCH_FILES_MAX || this.#bytes >= BATCH_BYTES_MAX;
    if (isFull) this.flush();
  }

  /** When it returns, all that were taken are in place, or their failure was told. */
  flush(): void {
    const errors = this.syncFiles(this.#waiting.map(({ fd }) => fd));
    for (const error of errors) {
      const file = this.#next() as WaitingFile;
      closeSync(file.fd);
      try {
        if (error !== 0) throw stpError(codeOfErrno(error), 'the disk did not take it', 'fsync');
        file.place();
      } catch (e) {
        file.discard();
        file.onFailure(e);
      }
    }
  }

  #next(): WaitingFile | undefined {
    const file = this.#waiting.shift();
    this.#bytes -= file?.bytes ?? 0;
    return file;
  }

  /** Gives up what is not in place. */
  abandon(): void {
    for (let file = this.#next(); file !== undefined; file = this.#next()) {
      closeSync(file.fd);
      file.discard();
    }
  }
}
