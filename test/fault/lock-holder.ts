/** Holds a lock of a library until it is killed: `lock-holder.js DIRECTORY NAME`; says when it has it. */
import { writeSync } from 'node:fs';
import { withLock } from '../../src/library/waiting-lock.js';
import { native } from '../../src/native.js';

const [directory, name, waitMs] = process.argv.slice(2) as [string, string, string];
try {
  withLock(
    directory,
    name,
    (fd) => native().lockFile(fd),
    () => {
      writeSync(1, 'held\n');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
    Number(waitMs),
  );
} catch (e) {
  writeSync(1, `${(e as Error).message}\n`);
}
