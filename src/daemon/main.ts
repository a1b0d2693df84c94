/**
 * stpd's composition root: from a valid configuration to a serving array, and back to nothing.
 *
 * Order matters. Up: memory check (nothing allocated yet), run directory and lock, log, array,
 * control API last, so that whoever can ask finds an array. Down, on SIGTERM, SIGINT or SIGHUP:
 * control API, array, sockets, log, lock file last. A clean end leaves no file behind; a log stays
 * if it has a warning or worse in it, or if the configuration put it elsewhere. Nothing is cleaned
 * up after a crash or a kill: the kernel frees the lock, and the next start removes what is stale.
 * Main thread.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, stpError } from '../errors.js';
import { notifySupervisor } from '../notify.js';
import { CONTROL_SOCKET, type LockFile, RunDirectory } from '../run-directory.js';
import type { Configuration } from './configuration.js';
import { type ControlApi, serveControlApi } from './control-api.js';
import { DaemonLog, logPath } from './log.js';
import { checkMemory } from './memory-check.js';
import type { ArrayControl, ArrayFactory, ArrayReport } from './reports.js';
import { VERSION } from './version.js';

export interface DaemonOptions {
  readonly configuration: Configuration;
  readonly runDirectory: string;
  /** True: log to a file. False: log to stderr. */
  readonly background: boolean;
  readonly createArray: ArrayFactory;
  readonly lockFile: LockFile;
  /** Called once, when hosts and tools can be served. */
  readonly onServing?: (report: ArrayReport) => void;
}

/** An array that does not stop in this time is left to the kernel. */
const STOP_TIMEOUT_MS = 20_000;

const END_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** The reason to end: a signal's name, or what the array or the process failed of. */
class EndRequest {
  readonly reason: Promise<string | Error>;
  #resolve: (reason: string | Error) => void = () => undefined;
  readonly #onSignal = (signal: string): void => this.#resolve(signal);
  readonly #onCrash = (error: unknown): void => this.fail(error);

  constructor() {
    this.reason = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    // Kept until the process ends: a second signal must not cut the orderly end short.
    for (const signal of END_SIGNALS) process.on(signal, this.#onSignal);
    process.on('uncaughtException', this.#onCrash);
  }

  fail = (error: unknown): void => {
    this.#resolve(error instanceof Error ? error : new Error(messageOf(error)));
  };
}

/** The parts of a daemon that are up, in the order in which they came. */
interface Parts {
  array?: ArrayControl;
  api?: ControlApi;
}

async function bringUp(
  parts: Parts,
  options: DaemonOptions,
  log: DaemonLog['log'],
  onFatal: (reason: Error) => void,
): Promise<void> {
  const { configuration, runDirectory } = options;
  const array = await options.createArray({ configuration, runDirectory, log, onFatal });
  parts.array = array;
  await array.start();
  const path = join(runDirectory, CONTROL_SOCKET);
  parts.api = await serveControlApi({ array, configuration, path, log });
}

/** @returns true if everything went in time and without an error */
async function bringDown(parts: Parts, log: DaemonLog['log']): Promise<boolean> {
  const down = async (): Promise<boolean> => {
    let clean = true;
    for (const part of [() => parts.api?.close(), () => parts.array?.stop()]) {
      try {
        await part();
      } catch (error) {
        log.error({ err: error }, 'could not end in order');
        clean = false;
      }
    }
    return clean;
  };
  const tooLong = new AbortController();
  const timedOut = delay(STOP_TIMEOUT_MS, undefined, { signal: tooLong.signal }).then(
    () => {
      log.error(`not ended after ${STOP_TIMEOUT_MS / 1000} s: leaving the rest to the kernel`);
      return false;
    },
    () => false,
  );
  const clean = await Promise.race([down(), timedOut]);
  tooLong.abort();
  return clean;
}

/**
 * Runs the daemon until it is told to end. The caller then ends the process: that frees the lock.
 *
 * @throws what kept it from serving (ValidationError, MemoryRefusedError, AlreadyRunningError, the
 *   array's own errors) or ended it; ECANCELED where it ended on a signal, but not in order
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { configuration, runDirectory } = options;
  checkMemory(configuration);
  // Before the lock: from then on a signal must leave nothing behind.
  const ending = new EndRequest();
  const run = await RunDirectory.take(runDirectory, options.lockFile);
  const file = options.background ? logPath(configuration, runDirectory) : null;
  const daemonLog = new DaemonLog({ level: configuration.logLevel, file });
  const { log } = daemonLog;
  process.on('warning', (warning) => log.warn({ err: warning }, 'Node.js warns'));
  const { boards, boardBytes, directors } = configuration;
  log.info(
    { version: VERSION, node: process.version, runDirectory, boards, boardBytes, directors },
    'starting',
  );

  const parts: Parts = {};
  let reason: string | Error;
  try {
    await bringUp(parts, options, log, ending.fail);
    log.info('serving');
    const report = await parts.array?.arrayReport();
    if (report !== undefined) {
      run.name(report.instance);
      options.onServing?.(report);
      const problem = notifySupervisor('READY=1');
      if (problem !== null) log.warn(problem);
    }
    reason = await ending.reason;
  } catch (error) {
    reason = error instanceof Error ? error : new Error(messageOf(error));
  }
  if (typeof reason === 'string') log.info(`${reason}: ending`);
  else log.fatal({ err: reason }, 'ending because of a failure');
  notifySupervisor('STOPPING=1');
  const clean = await bringDown(parts, log);
  run.leave();
  log.info('ended');
  const inRunDirectory = configuration.logFile === null;
  daemonLog.close({ remove: inRunDirectory && daemonLog.uneventful });
  if (typeof reason !== 'string') throw reason;
  if (!clean) throw stpError('ECANCELED', 'stpd ended, but not in order: see its log');
}
