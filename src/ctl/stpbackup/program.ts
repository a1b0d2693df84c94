/** The command line of stpbackup. */
import { Command } from 'commander';
import { VERSION } from '../../daemon/version.js';
import { EXIT_CODES_HELP } from '../command-line.js';
import { addCat } from './cat.js';
import { addCatalog } from './catalog.js';
import { addCheck } from './check.js';
import { addCheckConfig } from './check-config.js';
import { addClient } from './client.js';
import { addDb } from './db.js';
import { addFind } from './find.js';
import { addForget } from './forget.js';
import { addFs } from './fs.js';
import { addKey } from './key.js';
import { addList } from './list.js';
import { addLs } from './ls.js';
import { addPrune } from './prune.js';
import { addRepair } from './repair.js';
import { addRestore } from './restore.js';
import { addServer } from './server.js';

const WAL_HELP = `
wal-push and wal-fetch, for PostgreSQL, explain themselves: stpbackup wal-push`;

export function stpbackupProgram(): Command {
  const program = new Command('stpbackup')
    .description(
      'Backs up and restores file trees and databases; data goes through the array, not the network.',
    )
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(add --help for help)')
    .addHelpText('after', EXIT_CODES_HELP + WAL_HELP);
  addClient(program);
  addServer(program);
  addFs(program);
  addDb(program);
  addRestore(program);
  addList(program);
  addLs(program);
  addFind(program);
  addCat(program);
  addCheck(program);
  addForget(program);
  addPrune(program);
  addRepair(program);
  addCatalog(program);
  addCheckConfig(program);
  addKey(program);
  return program;
}
