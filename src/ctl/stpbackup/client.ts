/** stpbackup client: the role on the host whose files are backed up. */
import type { Command } from 'commander';
import { BackupClient } from '../../backup/client.js';
import { runClientJob } from '../../backup/client-jobs.js';
import { loadClientConfig } from '../../backup/config.js';
import { traceLine } from '../../backup/handshake-steps.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { STPConnect } from '../../connect/stp-connect.js';
import type { Log } from '../../daemon/log.js';
import { runService, type Service } from './service.js';

interface Options {
  readonly config: string;
  readonly trace?: true;
}

async function startClient(options: Options, log: Log): Promise<Service> {
  const config = loadClientConfig(options.config);
  const storage = new StorageAccess(config.runDirectory, config.name, (stg, reason) => {
    log.warn(`STG ${stg}: ${reason.message}`);
  });
  const client = new BackupClient({
    config,
    network: new STPConnect(),
    storageOf: (stg) => storage.connectFor(stg),
    job: (session) => runClientJob(session, config),
    log,
    onStep: (session, record) => {
      if (options.trace) process.stderr.write(`${session.padEnd(8)} ${traceLine(record)}\n`);
    },
  });
  await client.start();
  if (!config.key) log.warn('"tls": false: control connections are neither secret nor checked');
  const { name, address, wkp } = config;
  return {
    readiness: `stpbackup client ${name} listens on ${address}, ports ${wkp} and ${wkp + 1}`,
    async stop() {
      await client.stop();
      await storage.close();
    },
  };
}

export function addClient(program: Command): void {
  program
    .command('client')
    .description('serves this host: reads below its roots when a backup server asks')
    .requiredOption('--config <file>', 'configuration of the client, JSON')
    .option('--trace', "print the handshake's steps to stderr")
    .action((options: Options) => runService((log) => startClient(options, log)));
}
