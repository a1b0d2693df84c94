/**
 * stpd with an array that has no memory and, by the variable STPD_TEST_ARRAY, a fault. A program:
 * it also runs itself in the background.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../../src/ctl/command-line.js';
import { stpdProgram } from '../../../src/ctl/stpd/program.js';
import type { ArrayOptions } from '../../../src/daemon/reports.js';
import { stpError } from '../../../src/errors.js';
import { native } from '../../../src/native.js';
import { FakeArray } from '../daemon/fake-array.js';

const fault = process.env.STPD_TEST_ARRAY;

class FaultyArray extends FakeArray {
  override async start(): Promise<void> {
    const { log, onFatal } = this.options as ArrayOptions;
    if (fault === 'refuse') throw stpError('ENOMEM', 'the boards are out of stock');
    if (fault === 'abort') process.abort();
    if (fault === 'slow') await delay(500);
    if (fault === 'warn') log.warn('a board smells');
    if (fault === 'fatal') setTimeout(() => onFatal(new Error('a board burns')), 300);
    if (fault === 'crash') {
      setTimeout(() => {
        throw new Error('nobody expected this');
      }, 300);
    }
    await super.start();
  }

  override async stop(): Promise<void> {
    if (fault === 'bad-stop') throw new Error('a board is stuck');
    await super.stop();
  }
}

const program = stpdProgram({
  script: fileURLToPath(import.meta.url),
  createArray: (options) => new FaultyArray(options),
  lockFile: (fd) => native().lockFile(fd),
});
await runProgram(program, process.argv);
