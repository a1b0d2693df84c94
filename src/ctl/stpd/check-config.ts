/** `stpd check-config`: whether an array could be made of a configuration, here and now. */
import type { Command } from 'commander';
import { CONFIGURATION_FILE_DEFAULT, type Configuration } from '../../daemon/configuration.js';
import { formatSize } from '../../daemon/size.js';
import { type OutputOptions, print } from '../output.js';
import { configurationOf } from './start.js';

interface Options extends OutputOptions {
  readonly config?: string;
}

function configurationText({ boards, boardBytes, directors, connections }: Configuration): string {
  const memory = `${boards} boards of ${formatSize(boardBytes)}`;
  return `nothing to mend: ${memory}, directors: ${directors}, connections: ${connections}\n`;
}

export function addCheckConfig(program: Command): void {
  program
    .command('check-config')
    .summary('say what is wrong with a configuration')
    .description('Checks the file, and whether this machine has the memory; starts nothing.')
    .option(
      '--config <file>',
      `configuration, JSON (default: ${CONFIGURATION_FILE_DEFAULT} if there)`,
    )
    .option('--json', 'one JSON document: the configuration with its defaults')
    .addHelpText('after', '\nExamples:\n  stpd check-config --config /etc/stpd/stpd.json')
    .action((options: Options) => {
      const { json, ...file } = options;
      print({ json }, configurationOf(file), configurationText);
    });
}
