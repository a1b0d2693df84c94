/** The sessions of `stpbackup db`, from the configuration to what is printed. Main thread. */
import { tmpdir } from 'node:os';
import { absence } from '../../backup/absent.js';
import { loadClientConfig } from '../../backup/config.js';
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
import { reasonOf } from '../../backup/reason.js';
import { serverOf } from '../../backup/server-of.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { STPConnect } from '../../connect/stp-connect.js';
import { native } from '../../native.js';
import { connectPostgresql, postgresqlSettings } from '../../source/postgresql-connection.js';
import type { BackupOptions, Configured, RestoreOptions } from './db.js';
import { showSession } from './db-view.js';
import { NotRunningError } from './not-running.js';

/** Runs one session in this process. */
async function run(
  options: Configured,
  serverName: string | undefined,
  work: (client: DatabaseClientOptions) => Promise<DatabaseReport>,
): Promise<void> {
  const config = loadClientConfig(options.config);
  const server = serverOf(config, serverName);
  const storage = new StorageAccess(config.runDirectory, config.name, () => {});
  const network = new STPConnect();
  await showSession(options, async (view) => {
    try {
      const report = await work({
        ...{ config, server, network },
        storageOf: (stg) => storage.connectFor(stg),
        onStep: (record) => view.step(record),
        onProgress: (progress) => view.progress(progress),
        onComplaint: (complaint) => view.complaint(complaint),
        onRefused: (peer, reason) => view.say(`refused ${peer}: ${reason}`),
        signal: view.signal,
        bytesPerSecond: options.limitRate,
      });
      return { report, networkBytes: network.traffic().inet };
    } catch (e) {
      const absent = absence(e);
      throw absent === null ? e : new NotRunningError(reasonOf(absent).message);
    } finally {
      await network.closeAll();
      await storage.close();
    }
  });
}

/** @param name of the database, checked */
export async function runBackup(
  server: string | undefined,
  options: BackupOptions & Configured,
  name: string,
): Promise<void> {
  const { command, sqlite } = options;
  await run(options, server, (client) => {
    if (command !== undefined) return backUpCommand(client, name, command);
    if (sqlite !== undefined) {
      const scratch = options.scratch ?? tmpdir();
      const incremental = options.incremental === true;
      return backUpSqlite(client, name, { file: sqlite, scratch, incremental });
    }
    return backUpCluster(client, name, options);
  });
}

async function backUpCluster(
  client: DatabaseClientOptions,
  name: string,
  { postgresql, spread }: BackupOptions,
): Promise<DatabaseReport> {
  const settings = await postgresqlSettings(typeof postgresql === 'string' ? postgresql : '');
  const fd = await connectPostgresql(settings, client.signal);
  try {
    return await backUpPostgresql(client, name, { fd, settings, fast: spread !== true });
  } finally {
    native().closeDescriptor(fd);
  }
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
