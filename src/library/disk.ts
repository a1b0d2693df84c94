/**
 * Calls on the library's disk whose errors name the file: Node's of write(2) and fsync(2) do not.
 * Blocks; any thread.
 */
import { closeSync, constants, fsyncSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { isCoded, stpError } from '../errors.js';
import { writeAll } from './write-all.js';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_DIRECTORY } = constants;

const namelessCalls: ReadonlySet<unknown> = new Set(['write', 'fsync', 'ftruncate']);

/** The same error with the path in its message, unless it is there already. */
export function namingPath(e: unknown, path: string): unknown {
  if (!isCoded(e) || !namelessCalls.has(e.syscall) || e.message.includes(path)) return e;
  const what =
    e.syscall === 'fsync'
      ? 'could not be put on the disk; do not rely on what was written last'
      : 'could not be written';
  return stpError(e.code, `${path} ${what} (${e.syscall})`, e.syscall);
}

/** Runs what works on one file. */
export function onFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (e) {
    throw namingPath(e, path);
  }
}

/** Makes a directory's entries durable. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, O_RDONLY | O_DIRECTORY);
  try {
    onFile(path, () => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
}

/** A new file, on the disk when this returns; no file if it throws. @throws EEXIST, ENOSPC, ... */
export function writeNewFile(path: string, text: string | Uint8Array): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    onFile(path, () => {
      writeAll(fd, Buffer.from(text));
      fsyncSync(fd);
    });
  } catch (e) {
    rmSync(path, { force: true });
    throw e;
  } finally {
    closeSync(fd);
  }
}

/** A directory of mode 0700 in one that is there; nothing if it is there, too. */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (e) {
    if (!isCoded(e) || e.code !== 'EEXIST') throw e;
  }
}
