/** Restores one file over another and ends in the middle of it: `restore-crash.js TARGET throw|kill`. */
import { writeSync } from 'node:fs';
import { RestoreWriter } from '../../../src/library/restore.js';
import { dataFile, entryOf } from './entries.js';
import { testNative } from './stand-ins.js';

const [, , target = '', how] = process.argv;
const writer = new RestoreWriter(target, {
  native: testNative,
  onProblem: () => {},
  overwrite: 'always',
});
writer.entry(entryOf(dataFile('f', 100)), (fd) => {
  writeSync(fd, 'ddd');
  if (how === 'kill') process.kill(process.pid, 'SIGKILL');
  throw new Error('the stream broke');
});
