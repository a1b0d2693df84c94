/** `stpd restart`: stop, then start with the options given here. */
import type { Command } from 'commander';
import { resolveRunDirectory } from '../../run-directory.js';
import {
  addStartOptions,
  configurationOf,
  type StartOptions,
  type StpdParts,
  startDaemon,
} from './start.js';
import { addTimeoutOption, type StopVerbOptions, stopAndSay, timeoutMsOf } from './stop.js';

export function addRestart(program: Command, parts: StpdParts): void {
  addTimeoutOption(addStartOptions(program.command('restart')))
    .summary('end the array and start a new one')
    .description(
      'Ends the array, if one runs, and starts a new one with the options given here: those of\n' +
        'the old one are not remembered, and its STGs are gone. A refused option ends nothing.',
    )
    .addHelpText('after', '\nExamples:\n  stpd restart\n  stpd restart --memory 1GiB')
    .action(async (options: StartOptions & StopVerbOptions) => {
      const { timeout, ...startOptions } = options;
      const runDirectory = resolveRunDirectory(options.runDir);
      const configuration = configurationOf(startOptions);
      await stopAndSay(runDirectory, parts.lockFile, timeoutMsOf(options));
      await startDaemon(parts, startOptions, configuration, runDirectory);
    });
}
