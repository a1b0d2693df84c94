/**
 * A daemon in the background: starting it from a terminal, and ending it from another.
 *
 * Start: the program runs itself again, detached, in its own session, with the log as its output,
 * and an IPC channel on which the child says once whether it serves or why not. Stop: SIGTERM to
 * the process that holds the run directory's lock, never to another. Main thread of a tool.
 */
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync, unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../clock.js';
import { isCoded, stpError } from '../errors.js';
import { findHolder, type Holder, isAlive, type LockFile } from '../run-directory.js';
import { openLogFile } from './log.js';

/** What the child says, once. */
export type StartReport =
  | { readonly served: true; readonly pid: number }
  | { readonly served: false; readonly message: string; readonly exitCode: number };

/** Bytes of the log shown for a daemon that died without a word. */
const LOG_TAIL_BYTES = 4096;

/** In the child: tells the parent, and lets it go. Without a parent it does nothing. */
export function reportStart(report: StartReport): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) return resolve();
    process.send(report, undefined, undefined, () => {
      // A parent that is gone is no reason to fail.
      if (process.connected) process.disconnect();
      resolve();
    });
  });
}

function readFrom(path: string, position: number): string {
  const fd = openSync(path, 'r');
  try {
    const end = fstatSync(fd).size;
    const start = Math.max(position, end - LOG_TAIL_BYTES);
    const buffer = Buffer.alloc(Math.max(0, end - start));
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, start)).trim();
  } finally {
    closeSync(fd);
  }
}

export interface BackgroundOptions {
  /** The script to run with this Node.js. */
  readonly script: string;
  readonly args: readonly string[];
  /** Takes everything the child writes. */
  readonly logFile: string;
}

/**
 * Runs `script` detached until it has reported. An interrupt of the caller meanwhile ends the
 * child too.
 */
export async function startInBackground(options: BackgroundOptions): Promise<StartReport> {
  const { script, args, logFile } = options;
  const logFd = openLogFile(logFile);
  const sizeBefore = fstatSync(logFd).size;
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
    detached: true,
    stdio: ['ignore', logFd, logFd, 'ipc'],
  });
  let interrupted = false;
  const interrupt = (): void => {
    interrupted = true;
    child.kill('SIGTERM');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    const report = await new Promise<StartReport>((resolve, reject) => {
      const fail = (message: string): void => resolve({ served: false, message, exitCode: 1 });
      child.once('error', reject);
      // One that is told to end while it comes up may still say that it serves.
      child.once('message', (message) => {
        if (!interrupted) resolve(message as StartReport);
      });
      child.once('exit', (code, signal) => {
        if (interrupted) return fail('interrupted: stpd was ended before it served');
        const how = signal === null ? `with exit code ${code}` : `of ${signal}`;
        const words = readFrom(logFile, sizeBefore);
        const tail = words === '' ? '' : `; the end of ${logFile}:\n${words}`;
        fail(`stpd ended ${how} before it served${tail}`);
      });
    });
    // A child that failed may have logged nothing: then no empty file stays.
    if (!report.served && fstatSync(logFd).size === 0) removeIfThere(logFile);
    return report;
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    if (child.connected) child.disconnect();
    child.unref();
    closeSync(logFd);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isCoded(error) || error.code !== 'ENOENT') throw error;
  }
}

const STOP_POLL_MS = 20;

export interface StopOptions {
  readonly runDirectory: string;
  readonly lockFile: LockFile;
  readonly timeoutMs: number;
  /** Called while it waits. */
  readonly onWaiting?: (holder: Holder, waitedMs: number) => void;
}

/**
 * Ends the daemon of a run directory and waits until its process is gone.
 *
 * @returns who was ended; undefined where nobody ran
 * @throws EPERM; ETIMEDOUT where it is still there
 */
export async function stopDaemon(options: StopOptions): Promise<Holder | undefined> {
  const { runDirectory, lockFile, timeoutMs } = options;
  const holder = await findHolder(runDirectory, lockFile);
  if (holder === undefined) return undefined;
  const { pid } = holder;
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    if (isCoded(error) && error.code === 'EPERM') {
      throw stpError('EPERM', `stpd (pid ${pid}) on ${runDirectory} belongs to another user`);
    }
    if (!isCoded(error) || error.code !== 'ESRCH') throw error;
  }
  const start = monotonicMs();
  while (isAlive(holder)) {
    const waited = monotonicMs() - start;
    if (waited > timeoutMs) {
      throw stpError(
        'ETIMEDOUT',
        `stpd (pid ${pid}) on ${runDirectory} has not ended ${timeoutMs / 1000} s after SIGTERM: ` +
          `it may be stopped (kill -CONT ${pid}) or hung (kill -KILL ${pid}; the next start cleans up)`,
      );
    }
    options.onWaiting?.(holder, waited);
    await delay(STOP_POLL_MS);
  }
  return holder;
}
