/** `stpd stop`: ends the daemon of a run directory and waits until it is gone. */
import type { Command } from 'commander';
import * as z from 'zod';
import { type StopOptions, stopDaemon } from '../../daemon/background.js';
import { validate, wholeNumber } from '../../daemon/validation.js';
import { type Holder, type LockFile, resolveRunDirectory } from '../../run-directory.js';
import { flagOf, typedNumber } from '../command-line.js';
import { withProgress } from '../progress.js';
import type { StpdParts } from './start.js';

const TIMEOUT_SECONDS_DEFAULT = 30;
const TIMEOUT_SECONDS_MAX = 3600;

const timeout = wholeNumber({
  min: 1,
  max: TIMEOUT_SECONDS_MAX,
  least: 'a daemon needs some time to end',
  most: `the longest wait is ${TIMEOUT_SECONDS_MAX} s`,
});
const schema = z.object({ timeout });

export interface StopVerbOptions {
  readonly runDir?: string;
  readonly timeout?: number | string;
}

export const addTimeoutOption = (command: Command): Command =>
  command.option(
    '--timeout <seconds>',
    `how long to wait for the end (default: ${TIMEOUT_SECONDS_DEFAULT})`,
    typedNumber,
  );

/** @throws ValidationError */
export function timeoutMsOf(options: StopVerbOptions): number {
  const timeout = options.timeout ?? TIMEOUT_SECONDS_DEFAULT;
  return validate(schema, { timeout }, flagOf).timeout * 1000;
}

export async function stopAndSay(
  runDirectory: string,
  lockFile: LockFile,
  timeoutMs: number,
): Promise<Holder | undefined> {
  const options: StopOptions = { runDirectory, lockFile, timeoutMs };
  const holder = await withProgress('stpd is ending', stopDaemon(options));
  process.stdout.write(
    holder === undefined
      ? `stpd is not running on ${runDirectory}\n`
      : `stpd (pid ${holder.pid}) on ${runDirectory} has ended\n`,
  );
  return holder;
}

export function addStop(program: Command, parts: StpdParts): void {
  addTimeoutOption(program.command('stop'))
    .summary('end the array')
    .description(
      'Ends the array and waits until its process is gone. Where none runs, that is fine too.\n' +
        'Established connections go on without it; new ones fail.',
    )
    .option('--run-dir <dir>', 'which array (default: STPD_RUN_DIR, or by user)')
    .addHelpText(
      'after',
      '\nExamples:\n  stpd stop\n  stpd stop --run-dir /tmp/array --timeout 120',
    )
    .action(async (options: StopVerbOptions) => {
      const runDirectory = resolveRunDirectory(options.runDir);
      await stopAndSay(runDirectory, parts.lockFile, timeoutMsOf(options));
    });
}
