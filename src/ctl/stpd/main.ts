/** stpd. */
import { fileURLToPath } from 'node:url';
import type { ArrayFactory } from '../../daemon/reports.js';
import { native } from '../../native.js';
import { packageFile } from '../../package-files.js';
import type { LockFile } from '../../run-directory.js';
import { runProgram } from '../command-line.js';
import { stpdProgram } from './program.js';

/** Loaded by the daemon only: the other verbs need no array. */
const createArray: ArrayFactory = async (options) => {
  const { StorageArray } = await import('../../daemon/array.js');
  return new StorageArray(options);
};

const lockFile: LockFile = (fd) => native().lockFile(fd);
const script = fileURLToPath(packageFile('dist/src/ctl/stpd.js'));
await runProgram(stpdProgram({ script, createArray, lockFile }), process.argv);
