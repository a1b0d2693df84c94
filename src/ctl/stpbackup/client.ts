/** stpbackup client: the role on the host whose files are backed up. */
import type { Command } from 'commander';
import { AskedBackups } from '../../backup/asked-backup.js';
import { BackupClient } from '../../backup/client.js';
import { ClientControl } from '../../backup/client-control.js';
import { prepareClientJob, runClientJob } from '../../backup/client-jobs.js';
import { commandsEnded } from '../../backup/commands.js';
import { type ClientConfig, loadClientConfig } from '../../backup/config.js';
import { traceLine } from '../../backup/handshake-steps.js';
import { StorageAccess } from '../../backup/storage-access.js';
import { WalClient } from '../../backup/wal-client.js';
import { STPConnect } from '../../connect/stp-connect.js';
import type { Log } from '../../daemon/log.js';
import { stpError } from '../../errors.js';
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
    prepare: prepareClientJob,
    job: (session) => runClientJob(session, config, log),
    log,
    onStep: (session, record) => {
      if (options.trace) process.stderr.write(`${session.padEnd(8)} ${traceLine(record)}\n`);
    },
  });
  await client.start();
  const control = startControl(config, storage, log);
  if (!config.key) log.warn('"tls": false: control connections are neither secret nor checked');
  const { name, address, wkp } = config;
  return {
    readiness: `stpbackup client ${name} listens on ${address}, ports ${wkp} and ${wkp + 1}`,
    async stop() {
      await control?.stop();
      await client.stop();
      // Sessions that were given up tidy up behind themselves; a second signal ends that, too.
      await commandsEnded();
      await storage.close();
    },
  };
}

/** The control socket for `wal-push`, `wal-fetch` and `db`, where the configuration names one. */
function startControl(
  config: ClientConfig,
  storage: StorageAccess,
  log: Log,
): { stop(): Promise<void> } | undefined {
  if (config.control === undefined) return undefined;
  const stopped = new AbortController();
  const { signal } = stopped;
  const storageOf = (stg: string): Promise<STPConnect> => storage.connectFor(stg);
  const server = config.wal && config.servers?.get(config.wal.server);
  const session = {
    ...{ config, storageOf, signal },
    network: new STPConnect(),
    onRefused: (peer: string, reason: string) => log.warn(`refused ${peer}: ${reason}`),
  };
  const wal =
    config.wal && server
      ? new WalClient({ session: { ...session, server }, name: config.wal.name, log })
      : null;
  const backups = new AskedBackups({ config, storageOf, signal, log });
  const { control: path } = config;
  const control = new ClientControl({ path, uid: config.wal?.uid, log, wal, backups });
  control.start();
  return {
    async stop() {
      control.close();
      stopped.abort(stpError('ECANCELED', 'the client was stopped'));
      await wal?.stop();
      await control.end();
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
