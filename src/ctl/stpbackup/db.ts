/** stpbackup db ...: database sessions, which run in this process on the client. Main thread. */
import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { absence } from '../../backup/absent.js';
import { type ClientConfig, loadClientConfig, type ServerAddress } from '../../backup/config.js';
import { ConfigurationError } from '../../backup/config-error.js';
import {
  backUpCommand,
  backUpPostgresql,
  backUpSqlite,
  type DatabaseClientOptions,
  type DatabaseReport,
  restoreToCommand,
  restoreToDirectory,
  restoreToFile,
} from '../../backup/database-client.js';
import { databaseName } from '../../backup/database-protocol.js';
import { traceLine } from '../../backup/handshake-steps.js';
import { reasonOf } from '../../backup/reason.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { monotonicMs } from '../../clock.js';
import { STPConnect } from '../../connect/stp-connect.js';
import { stpError } from '../../errors.js';
import { EXIT_WARNINGS, outliveReader } from '../command-line.js';
import { humanSize, sheet } from '../output.js';
import { NotRunningError } from './ask-server.js';
import { EventOutput } from './events.js';
import { accessOptions, withIdentity } from './open-library.js';
import { ProgressView } from './progress-view.js';
import { withOutput } from './session-verb.js';
import { complaintText } from './session-view.js';
import { waitedRows } from './waited.js';

interface Common {
  readonly config: string;
  readonly trace?: true;
  readonly json?: true;
  readonly quiet?: true;
  readonly name?: string;
  readonly limitRate?: number;
}
interface BackupOptions extends Common {
  readonly command?: string;
  readonly postgresql?: string | true;
  readonly spread?: true;
  readonly sqlite?: string;
  readonly scratch?: string;
  readonly incremental?: true;
}
interface RestoreOptions extends Common {
  readonly toCommand?: string;
  readonly toFile?: string;
  readonly toDirectory?: string;
  readonly identity?: readonly string[];
}

/** The server of that name, or the only one. */
function serverOf(config: ClientConfig, name: string | undefined): ServerAddress {
  const servers = config.servers ?? new Map<string, ServerAddress>();
  const only = servers.size === 1 ? [...servers.values()][0] : undefined;
  const server = name === undefined ? only : servers.get(name);
  if (server) return server;
  const known = [...servers.keys()].join(', ') || 'none';
  throw new ConfigurationError(
    `${name === undefined ? 'name a server' : `no server ${name}`}; "servers" has: ${known}`,
  );
}

/** Runs one session to its end, prints what it did, and sets the exit code. */
async function run(
  options: Common,
  serverName: string | undefined,
  work: (client: DatabaseClientOptions) => Promise<DatabaseReport>,
): Promise<void> {
  const config = loadClientConfig(options.config);
  const server = serverOf(config, serverName);
  outliveReader();
  const view = new ProgressView(options.quiet || options.json);
  const events = options.json ? new EventOutput() : undefined;
  const say = (line: string): void => view.say(line);
  const storage = new StorageAccess(config.runDirectory, config.name, () => {});
  const network = new STPConnect();
  const interrupted = new AbortController();
  const onSignal = (): void => {
    interrupted.abort(stpError('ECANCELED', 'interrupted: the session was given up'));
  };
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  const startMs = monotonicMs();
  try {
    const report = await work({
      config,
      server,
      network,
      storageOf: (stg) => storage.connectFor(stg),
      onStep: (record) => options.trace && say(traceLine(record)),
      onProgress: (progress) => {
        view.show(progress);
        events?.progress(progress, view.elapsedMs);
      },
      onComplaint: (complaint) => {
        events?.warning(complaint);
        say(complaintText(complaint));
      },
      onRefused: (peer, reason) => say(`refused ${peer}: ${reason}`),
      signal: interrupted.signal,
      bytesPerSecond: options.limitRate,
    });
    view.end();
    const seconds = (monotonicMs() - startMs) / 1000;
    const all = { ...report, seconds, networkBytes: network.traffic().inet };
    if (events) events.summary(all);
    else if (!options.quiet) print(all);
    if (report.warnings > 0) process.exitCode = EXIT_WARNINGS;
  } catch (e) {
    const absent = absence(e);
    const failure = absent === null ? e : new NotRunningError(reasonOf(absent).message);
    events?.error(failure);
    throw failure;
  } finally {
    view.end();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    await network.closeAll();
    await storage.close();
  }
}

interface Printed extends DatabaseReport {
  readonly seconds: number;
  readonly networkBytes: { readonly sent: number; readonly received: number };
}

function print(r: Printed): void {
  const rate = humanSize(Math.round(r.memoryBytes / r.seconds));
  const { sent, received } = r.networkBytes;
  const text = sheet([
    ['set', r.set],
    ...(r.parent === undefined ? [] : [['made against', r.parent] as const]),
    ['entries', `${r.entries}`],
    ['data', `${r.bytes} bytes (${humanSize(r.bytes)})`],
    ['time', `${r.seconds.toFixed(2)} s, ${rate}/s`],
    ['over memory', `${r.memoryBytes} bytes (${humanSize(r.memoryBytes)})`],
    ['over the network', `${sent + received} bytes, before the storage connections stood`],
    ...waitedRows(r),
    ['warnings', `${r.warnings}`],
  ]);
  // A restore may have its data on stdout.
  process.stderr.write(text);
}

async function backUp(server: string | undefined, options: BackupOptions): Promise<void> {
  const { command, postgresql, sqlite } = options;
  if ([command, postgresql, sqlite].filter((what) => what !== undefined).length !== 1) {
    throw new ConfigurationError(
      'say what to back up: --command, --postgresql or --sqlite, one of them',
    );
  }
  if (options.incremental && sqlite === undefined) {
    throw new ConfigurationError('--incremental is for --sqlite; a PostgreSQL archives its WAL');
  }
  const name = databaseName.safeParse(options.name);
  if (!name.success) throw new ConfigurationError(`--name: ${name.error.issues[0]?.message}`);
  await run(options, server, (client) => {
    if (command !== undefined) return backUpCommand(client, name.data, command);
    if (sqlite !== undefined) {
      const scratch = options.scratch ?? tmpdir();
      const incremental = options.incremental === true;
      return backUpSqlite(client, name.data, { file: sqlite, scratch, incremental });
    }
    const connection = typeof postgresql === 'string' ? postgresql : '';
    return backUpPostgresql(client, name.data, { connection, fast: options.spread !== true });
  });
}

async function restore(
  set: string,
  server: string | undefined,
  options: RestoreOptions,
): Promise<void> {
  const { toCommand, toFile, toDirectory, name } = options;
  if ([toCommand, toFile, toDirectory].filter((to) => to !== undefined).length !== 1) {
    throw new ConfigurationError('say where to: --to-command, --to-file or --to-directory');
  }
  const { identities } = accessOptions(options);
  const order = { set, name, identities };
  await run(options, server, (client) => {
    if (toCommand !== undefined) return restoreToCommand(client, order, toCommand);
    if (toFile !== undefined) return restoreToFile(client, order, toFile);
    return restoreToDirectory(client, order, toDirectory as string);
  });
}

const common = (command: Command): Command =>
  withOutput(command)
    .requiredOption('--config <file>', 'configuration of the client, JSON')
    .option('--trace', "print the handshake's steps to stderr");

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
      .option('--spread', 'let PostgreSQL take its time for the checkpoint'),
  ).action(backUp);
  common(
    withIdentity(
      db
        .command('restore')
        .description('restores a set of this host')
        .argument('<set>', 'id of a set, the beginning of just one, or latest')
        .argument('[server]', 'name of a server of the configuration, if it has several')
        .option('--name <name>', 'of this database only')
        .option('--to-command <line>', 'a line for the shell, which gets the data on its input')
        .option('--to-file <path>', 'a file, which appears when it is whole')
        .option('--to-directory <path>', 'a new or empty directory'),
    ),
  ).action(restore);
}
