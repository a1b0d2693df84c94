/** stpbackup server: the role that holds the library and initiates sessions. */
import type { Command } from 'commander';
import { loadServerConfig } from '../../backup/config.js';
import { BackupServer } from '../../backup/server.js';
import { serveServerControl } from '../../backup/server-control.js';
import { StorageAccess } from '../../backup/storage-access.js';
import type { Log } from '../../daemon/log.js';
import { VERSION } from '../../daemon/version.js';
import { native } from '../../native.js';
import { runService, type Service } from './service.js';

async function startServer(configFile: string, log: Log): Promise<Service> {
  const config = loadServerConfig(configFile);
  const storage = new StorageAccess(config.runDirectory, config.name, (stg, reason) => {
    log.warn(`STG ${stg}: ${reason.message}`);
  });
  const server = new BackupServer({
    config,
    storage,
    library: { lockFile: (fd) => native().lockFile(fd) },
    version: VERSION,
    log,
  });
  const control = await serveServerControl({
    server,
    name: config.name,
    path: config.control,
    log,
  });
  return {
    readiness: `stpbackup server ${config.name} answers on ${config.control}`,
    async stop() {
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
    .action((options: { config: string }) => runService((log) => startServer(options.config, log)));
}
