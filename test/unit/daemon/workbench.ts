/** What the tests of daemon and ctl share: directories, child processes, a quiet log. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { Configuration } from '../../../src/daemon/configuration.js';
import type { Log } from '../../../src/daemon/log.js';

/** Ends what hangs; not a measure of speed. */
export const WATCHDOG_MS = 60_000;

export function temporaryDirectory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'stpd-test-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export const quietLog = (): Log => pino({ level: 'silent' });

/** The path of a compiled program below dist/. */
export const compiled = (path: string): string =>
  fileURLToPath(new URL(`../../../${path}`, import.meta.url));

export const smallConfiguration: Configuration = {
  boards: 8,
  boardBytes: 1 << 20,
  directors: 1,
  connections: 64,
  logFile: null,
  logLevel: 'info',
  allowUids: [],
  allowGids: [],
};

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Keeps what a child prints, and kills it by itself if the test forgets it. */
export function startProgram(
  t: ExecutionContext,
  script: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): { child: ChildProcess; outcome: Promise<Outcome> } {
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const watchdog = setTimeout(() => child.kill('SIGKILL'), WATCHDOG_MS);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(watchdog);
      resolve({ code, stdout, stderr });
    });
  });
  return { child, outcome };
}

export const runProgram = (
  t: ExecutionContext,
  script: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<Outcome> => startProgram(t, script, args, environment).outcome;

/** Waits for a condition, under a watchdog. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > WATCHDOG_MS) throw new Error(`watchdog: ${what}`);
    await delay(5);
  }
}
