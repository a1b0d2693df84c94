/** stpbackup client: the role on the host whose files are backed up. */
import type { Command } from 'commander';
import { BackupClient } from '../../backup/client.js';
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
  const wal = await startWal(config, storage, log);
  if (!config.key) log.warn('"tls": false: control connections are neither secret nor checked');
  const { name, address, wkp } = config;
  return {
    readiness: `stpbackup client ${name} listens on ${address}, ports ${wkp} and ${wkp + 1}`,
    async stop() {
      await wal?.stop();
      await client.stop();
      // Sessions that were given up tidy up behind themselves; a second signal ends that, too.
      await commandsEnded();
      await storage.close();
    },
  };
}

/** The control socket for `wal-push` and `wal-fetch`, where the configuration names one. */
async function startWal(
  config: ClientConfig,
  storage: StorageAccess,
  log: Log,
): Promise<{ stop(): Promise<void> } | undefined> {
  const { wal, control } = config;
  const server = wal && config.servers?.get(wal.server);
  if (!wal || !server || control === undefined) return undefined;
  const stopped = new AbortController();
  const client = new WalClient({
    session: {
      config,
      server,
      network: new STPConnect(),
      storageOf: (stg) => storage.connectFor(stg),
      onRefused: (peer, reason) => log.warn(`refused ${peer}: ${reason}`),
      signal: stopped.signal,
    },
    name: wal.name,
    path: control,
    uid: wal.uid,
    log,
  });
  await client.start();
  return {
    async stop() {
      stopped.abort(stpError('ECANCELED', 'the client was stopped'));
      await client.stop();
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
