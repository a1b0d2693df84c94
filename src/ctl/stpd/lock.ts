/** The lock of a run directory: flock(2). */
import { spawnSync } from 'node:child_process';
import type { LockFile } from '../../daemon/run-directory.js';

/**
 * By flock(1), which locks our open file: it shares that with us, and the lock stays with it.
 */
export const lockFile: LockFile = (fd) => {
  const { status, error } = spawnSync('flock', ['--exclusive', '--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'inherit', fd],
  });
  if (error !== undefined) throw error;
  return status === 0;
};
