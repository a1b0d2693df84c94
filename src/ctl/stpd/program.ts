/** The command line of stpd, without the parts it is run with. */
import { Command } from 'commander';
import { VERSION } from '../../daemon/version.js';
import { EXIT_CODES_HELP } from '../command-line.js';
import { addCheckConfig } from './check-config.js';
import { addRestart } from './restart.js';
import { addStart, type StpdParts } from './start.js';
import { addStatus } from './status.js';
import { addStop } from './stop.js';

export function stpdProgram(parts: StpdParts): Command {
  const program = new Command('stpd')
    .description("A storage array's shared memory as a daemon. See stpctl for what is in it.")
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(add --help for help)')
    .addHelpText('after', EXIT_CODES_HELP);
  addStart(program, parts);
  addStop(program, parts);
  addStatus(program, parts);
  addRestart(program, parts);
  addCheckConfig(program);
  return program;
}
