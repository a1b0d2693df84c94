/**
 * stpbackup db ...: database sessions. A backup of a PostgreSQL is made by the client that runs, if it
 * has a control socket (db-asked.ts); everything else by this process. What a session needs is loaded
 * when one runs (db-session.ts), beside the thread that will move its data. Main thread.
 */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { clientControlPath } from '../../backup/control-path.js';
import { HOST_NAME_PATTERN, HOST_NAME_RULE } from '../../backup/host-name.js';
import { withIdentity, withOutput } from './session-options.js';

export interface Common {
  readonly trace?: true;
  readonly json?: true;
  readonly quiet?: true;
  readonly name?: string;
  readonly limitRate?: number;
}
/** Of a session in this process. */
export interface Configured extends Common {
  readonly config: string;
}
export interface BackupOptions extends Common {
  readonly config?: string;
  readonly control?: string;
  readonly command?: string;
  readonly postgresql?: string | true;
  readonly spread?: true;
  readonly sqlite?: string;
  readonly scratch?: string;
  readonly incremental?: true;
}
export interface RestoreOptions extends Configured {
  readonly toCommand?: string;
  readonly toFile?: string;
  readonly toDirectory?: string;
  readonly identity?: readonly string[];
}

async function backUp(server: string | undefined, options: BackupOptions): Promise<void> {
  const { command, postgresql, sqlite, name = '' } = options;
  if ([command, postgresql, sqlite].filter((what) => what !== undefined).length !== 1) {
    throw new ConfigurationError(
      'say what to back up: --command, --postgresql or --sqlite, one of them',
    );
  }
  if (options.incremental && sqlite === undefined) {
    throw new ConfigurationError('--incremental is for --sqlite; a PostgreSQL archives its WAL');
  }
  if (!HOST_NAME_PATTERN.test(name)) throw new ConfigurationError(`--name: ${HOST_NAME_RULE}`);
  const { config } = options;
  if (options.control !== undefined && postgresql === undefined) {
    throw new ConfigurationError('--control is for --postgresql: the running client makes it');
  }
  if (postgresql !== undefined && (await isMadeByClient(server, options, name))) return;
  if (config === undefined) {
    throw new ConfigurationError("name the client's configuration: --config FILE");
  }
  if (postgresql !== undefined) {
    const { prepareThread } = await import('../../backup/mover-threads.js');
    prepareThread('base-backup-sender');
  }
  const { runBackup } = await import('./db-session.js');
  await runBackup(server, { ...options, config }, name);
}

/** False where no client answers; one that was named must. */
async function isMadeByClient(
  server: string | undefined,
  options: BackupOptions,
  name: string,
): Promise<boolean> {
  const { config, control } = options;
  const path = control ?? (config === undefined ? null : clientControlPath(config));
  if (path === null) return false;
  const { askForBackup, nobodyAnswers } = await import('./db-asked.js');
  const isMade = await askForBackup(path, server, options, name);
  if (!isMade && control !== undefined) nobodyAnswers(control);
  return isMade;
}

async function restore(
  set: string,
  server: string | undefined,
  options: RestoreOptions,
): Promise<void> {
  const { toCommand, toFile, toDirectory } = options;
  if ([toCommand, toFile, toDirectory].filter((to) => to !== undefined).length !== 1) {
    throw new ConfigurationError('say where to: --to-command, --to-file or --to-directory');
  }
  const { runRestore } = await import('./db-session.js');
  await runRestore(set, server, options);
}

const common = (command: Command): Command =>
  withOutput(command).option('--trace', "print the handshake's steps to stderr");

const CONFIG = ['--config <file>', 'configuration of the client, JSON'] as const;

export function addDb(program: Command): void {
  const db = program
    .command('db')
    .description('databases of this host: backed up and restored from here')
    .enablePositionalOptions();
  common(
    db
      .command('backup', { isDefault: true })
      .description('backs a database, or what a program writes, up into a new set')
      .argument('[server]', 'name of a server of the configuration, if it has several')
      .option('--name <name>', 'name of the database in the library')
      .option('--command <line>', 'a line for the shell: its standard output is backed up')
      .option('--postgresql [connection]', 'a PostgreSQL; its connection string')
      .option('--sqlite <file>', 'an SQLite database, which others may write meanwhile')
      .option('--incremental', 'of --sqlite: only what changed since its last set')
      .option('--scratch <directory>', 'where a copy of it is made (default: TMPDIR)')
      .option(...CONFIG)
      .option('--control <socket>', "of --postgresql: the running client's control socket")
      .option('--spread', 'let PostgreSQL take its time for the checkpoint'),
  ).action(backUp);
  common(
    withIdentity(
      db
        .command('restore')
        .description('restores a set of this host')
        .argument('<set>', 'id of a set, the beginning of just one, or latest')
        .argument('[server]', 'name of a server of the configuration, if it has several')
        .requiredOption(...CONFIG)
        .option('--name <name>', 'of this database only')
        .option('--to-command <line>', 'a line for the shell, which gets the data on its input')
        .option('--to-file <path>', 'a file, which appears when it is whole')
        .option('--to-directory <path>', 'a new or empty directory'),
    ),
  ).action(restore);
}
