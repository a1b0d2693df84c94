/**
 * A lock of the library that is waited for: held for moments, by one process of this machine, and
 * gone with it. Blocks; any thread.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { monotonicMs } from '../clock.js';
import { isCoded, stpError } from '../errors.js';
import { holderOf } from './lock-holder.js';

/** What is held longer than this is held by something that is stuck. */
export const LOCK_WAIT_MS = 30_000;
const RETRY_MS = 10;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

function openLock(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (e) {
    if (!isCoded(e) || !['EROFS', 'EACCES'].includes(e.code)) throw e;
    const why = e.code === 'EROFS' ? 'its file system is read-only' : 'this user may not write it';
    throw stpError(e.code, `the library ${dirname(path)} cannot be changed: ${why}`, 'open');
  }
}

/**
 * Runs `work` while `LIBRARY/NAME` is locked. The file stays: it has no content and no meaning.
 * @throws EBUSY if somebody holds it for longer than `waitMs`; what `work` throws
 */
export function withLock<T>(
  directory: string,
  name: string,
  lockFile: (fd: number) => boolean,
  work: () => T,
  waitMs = LOCK_WAIT_MS,
): T {
  const path = join(directory, name);
  const fd = openLock(path);
  try {
    const startMs = monotonicMs();
    while (!lockFile(fd)) {
      if (monotonicMs() - startMs > waitMs) {
        const held = `${path} is held by ${holderOf(fd)}, for more than ${waitMs / 1000} s`;
        throw stpError('EBUSY', `${held}; the lock goes when that process ends`);
      }
      Atomics.wait(sleeper, 0, 0, RETRY_MS);
    }
    return work();
  } finally {
    closeSync(fd);
  }
}
