/** The sessions of `stpbackup db`, from the configuration to what is printed. Main thread. */
import { tmpdir } from 'node:os';
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
import { traceLine } from '../../backup/handshake-steps.js';
import { reasonOf } from '../../backup/reason.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { monotonicMs } from '../../clock.js';
import { STPConnect } from '../../connect/stp-connect.js';
import { stpError } from '../../errors.js';
import { EXIT_WARNINGS, outliveReader } from '../command-line.js';
import { humanSize, sheet } from '../output.js';
import { NotRunningError } from './ask-server.js';
import type { BackupOptions, Common, RestoreOptions } from './db.js';
import { EventOutput } from './events.js';
import { ProgressView } from './progress-view.js';
import { complaintText } from './session-view.js';
import { waitedRows } from './waited.js';

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

/** @param name of the database, checked */
export async function runBackup(
  server: string | undefined,
  options: BackupOptions,
  name: string,
): Promise<void> {
  const { command, postgresql, sqlite } = options;
  await run(options, server, (client) => {
    if (command !== undefined) return backUpCommand(client, name, command);
    if (sqlite !== undefined) {
      const scratch = options.scratch ?? tmpdir();
      const incremental = options.incremental === true;
      return backUpSqlite(client, name, { file: sqlite, scratch, incremental });
    }
    const connection = typeof postgresql === 'string' ? postgresql : '';
    return backUpPostgresql(client, name, { connection, fast: options.spread !== true });
  });
}

export async function runRestore(
  set: string,
  server: string | undefined,
  options: RestoreOptions,
): Promise<void> {
  const { toCommand, toFile, toDirectory, name } = options;
  const { accessOptions } = await import('./open-library.js');
  const { identities } = accessOptions(options);
  const order = { set, name, identities };
  await run(options, server, (client) => {
    if (toCommand !== undefined) return restoreToCommand(client, order, toCommand);
    if (toFile !== undefined) return restoreToFile(client, order, toFile);
    return restoreToDirectory(client, order, toDirectory as string);
  });
}
