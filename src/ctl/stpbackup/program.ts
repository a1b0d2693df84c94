/** The command line of stpbackup. */
import { Command } from 'commander';
import { VERSION } from '../../daemon/version.js';
import { EXIT_CODES_HELP } from '../command-line.js';

type AddVerb = (program: Command) => void;

/**
 * Where each verb is, in the order of the help. Only the verb that runs is loaded: all of them with
 * what they need take half a second, longer than a small backup.
 */
const VERBS: Readonly<Record<string, () => Promise<AddVerb>>> = {
  client: async () => (await import('./client.js')).addClient,
  server: async () => (await import('./server.js')).addServer,
  fs: async () => (await import('./fs.js')).addFs,
  db: async () => (await import('./db.js')).addDb,
  restore: async () => (await import('./restore.js')).addRestore,
  list: async () => (await import('./list.js')).addList,
  ls: async () => (await import('./ls.js')).addLs,
  find: async () => (await import('./find.js')).addFind,
  cat: async () => (await import('./cat.js')).addCat,
  check: async () => (await import('./check.js')).addCheck,
  forget: async () => (await import('./forget.js')).addForget,
  prune: async () => (await import('./prune.js')).addPrune,
  repair: async () => (await import('./repair.js')).addRepair,
  catalog: async () => (await import('./catalog.js')).addCatalog,
  'check-config': async () => (await import('./check-config.js')).addCheckConfig,
  wal: async () => (await import('./wal-library.js')).addWal,
  key: async () => (await import('./key.js')).addKey,
};

const WAL_HELP = `
wal-push and wal-fetch, for PostgreSQL, explain themselves: stpbackup wal-push`;

/** @param named what stands where a verb should; where it is none, the program knows all of them */
export async function stpbackupProgram(named = ''): Promise<Command> {
  const program = new Command('stpbackup')
    .description(
      'Backs up and restores file trees and databases; data goes through the array, not the network.',
    )
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(add --help for help)')
    .addHelpText('after', EXIT_CODES_HELP + WAL_HELP);
  if (named === '--version' || named === '-V') return program;
  const verb = Object.hasOwn(VERBS, named) ? VERBS[named] : undefined;
  for (const load of verb === undefined ? Object.values(VERBS) : [verb]) (await load())(program);
  return program;
}
