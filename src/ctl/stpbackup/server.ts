/** stpbackup server: the role that holds the library and initiates sessions. */
import type { Command } from 'commander';
import { loadServerConfig } from '../../backup/config.js';
import { DatabaseServer } from '../../backup/database-server.js';
import { databaseJob, prepareDatabaseJob } from '../../backup/database-server-jobs.js';
import { traceLine } from '../../backup/handshake-steps.js';
import { BackupServer } from '../../backup/server.js';
import { serveServerControl } from '../../backup/server-control.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { STPConnect } from '../../connect/stp-connect.js';
import type { Log } from '../../daemon/log.js';
import { VERSION } from '../../daemon/version.js';
import { native } from '../../native.js';
import { runService, type Service } from './service.js';

interface Options {
  readonly config: string;
  readonly trace?: true;
}

async function startServer(options: Options, log: Log): Promise<Service> {
  const config = loadServerConfig(options.config);
  const storage = new StorageAccess(config.runDirectory, config.name, (stg, reason) => {
    log.warn(`STG ${stg}: ${reason.message}`);
  });
  const library = { lockFile: (fd: number) => native().lockFile(fd) };
  const server = new BackupServer({ config, storage, library, version: VERSION, log });
  const databases = new DatabaseServer({
    config,
    network: new STPConnect(),
    storageOf: (stg) => storage.connectFor(stg),
    prepare: prepareDatabaseJob,
    job: databaseJob({ config, library, version: VERSION, log }),
    log,
    onStep: (host, record) => {
      if (options.trace) process.stderr.write(`${host.padEnd(8)} ${traceLine(record)}\n`);
    },
  });
  await databases.start();
  const control = await serveServerControl({
    server,
    name: config.name,
    path: config.control,
    log,
  });
  return {
    readiness: `stpbackup server ${config.name} answers on ${config.control}, port ${config.wkp}`,
    async stop() {
      await databases.stop();
      await server.stop();
      await control.close();
      await storage.close();
    },
  };
}

export function addServer(program: Command): void {
  program
    .command('server')
    .description('serves the library: makes and restores backup sets when fs or restore ask')
    .requiredOption('--config <file>', 'configuration of the server, JSON')
    .option('--trace', 'print the steps of handshakes that clients initiate to stderr')
    .action((options: Options) => runService((log) => startServer(options, log)));
}
