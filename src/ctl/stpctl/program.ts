/** The command line of stpctl. */
import { Command } from 'commander';
import { VERSION } from '../../daemon/version.js';
import { EXIT_CODES_HELP } from '../command-line.js';
import { addArrayShow } from './array-show.js';
import { addBoardList } from './board-list.js';
import { addForward } from './forward.js';
import { addHostList } from './host-list.js';
import { addSocketList } from './socket-list.js';
import { addStgCreate } from './stg-create.js';
import { addStgDelete } from './stg-delete.js';
import { addStgGrow } from './stg-grow.js';
import { addStgList } from './stg-list.js';
import { addStgShow } from './stg-show.js';
import { addTop } from './top.js';
import { addTrace } from './trace.js';

export function stpctlProgram(): Command {
  const program = new Command('stpctl')
    .description('Looks into a running storage array and changes it. See stpd to start one.')
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(add --help for help)')
    .addHelpText('after', EXIT_CODES_HELP);
  const room = (name: string, description: string): Command =>
    program.command(name).description(description);
  addArrayShow(room('array', 'the array itself'));
  addBoardList(room('board', 'memory boards'));
  const stg = room('stg', 'STGs: sets of boards and ports, with an access list');
  addStgCreate(stg);
  addStgList(stg);
  addStgShow(stg);
  addStgGrow(stg);
  addStgDelete(stg);
  addHostList(room('host', 'processes that are attached'));
  addSocketList(room('socket', 'STP sockets'));
  addTop(program);
  addTrace(program);
  addForward(program);
  return program;
}
