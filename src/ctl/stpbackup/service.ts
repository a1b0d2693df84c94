/** What both long-running roles share: the log, the readiness line, and how they end. */
import { DaemonLog, type Log } from '../../daemon/log.js';
import { notifySupervisor } from '../../notify.js';

export interface Service {
  /** One line on stdout that says what it serves. */
  readonly readiness: string;
  stop(): Promise<void>;
}

/** Runs a service until SIGTERM or SIGINT; a second signal ends it at once. */
export async function runService(start: (log: Log) => Promise<Service>): Promise<void> {
  const { log } = new DaemonLog({ level: 'info', file: null });
  const service = await start(log);
  process.stdout.write(`${service.readiness}\n`);
  const problem = notifySupervisor(`READY=1\nSTATUS=${service.readiness}`);
  if (problem !== null) log.warn(problem);
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  log.info(`stopping on ${signal}`);
  notifySupervisor('STOPPING=1');
  await service.stop();
  log.info('stopped');
}
