/**
 * A private array for one test: its own stpd in the foreground on its own run directory, gone with
 * the test however it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
const STPCTL_ASKS_MAX = 30;

const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/ctl/${name}.js`, import.meta.url));

export interface ArrayForTest {
  readonly runDirectory: string;
  readonly stpd: ChildProcess;
  /** Runs a verb; its standard output. Throws with both outputs if it fails. */
  stpctl(...args: string[]): Promise<string>;
  /** The named list of a `--json` listing. */
  list<T>(...args: string[]): Promise<T[]>;
  stop(): Promise<void>;
}

export interface ArrayOptions {
  readonly boards?: number;
  readonly boardSize?: string;
  readonly directors?: number;
  /** STGs to create, each of all boards divided by their number; ['test'] by default. */
  readonly stgs?: readonly string[];
  readonly ports?: number;
  readonly connections?: number;
  readonly allowUids?: readonly number[];
}

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of this package to its end. */
export function runProgram(name: string, args: readonly string[]): Promise<Finished> {
  return finished(
    spawn(process.execPath, [program(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'] }),
  );
}

export function finished(child: ChildProcess): Promise<Finished> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (text: Buffer) => {
    stdout += text.toString();
  });
  child.stderr?.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Stops a process and waits until each of its threads stands still: the signal is not there at once. */
export async function stopProcess(child: ChildProcess): Promise<void> {
  child.kill('SIGSTOP');
  const tasks = `/proc/${child.pid}/task`;
  const state = (task: string): string | undefined =>
    readFileSync(`${tasks}/${task}/stat`, 'utf8').split(') ').at(-1)?.[0];
  await until('it is stopped', async () =>
    readdirSync(tasks).every((task) => ['T', 't'].includes(state(task) ?? '')),
  );
}

/** Waits for something that comes by itself; fails the test when it does not come at all. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  watchdogMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + watchdogMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Killed also when the test's process ends without its teardowns: one hook, however many. */
const running = new Set<ChildProcess>();
function killAtExit(child: ChildProcess): void {
  if (running.size === 0) process.on('exit', killRunning);
  running.add(child);
  child.once('close', () => {
    running.delete(child);
    if (running.size === 0) process.off('exit', killRunning);
  });
}

function killRunning(): void {
  for (const child of running) child.kill('SIGKILL');
}

export async function startArray(
  t: Pick<ExecutionContext<unknown>, 'teardown'>,
  options: ArrayOptions = {},
): Promise<ArrayForTest> {
  const base = mkdtempSync(join(tmpdir(), 'stpd-test-'));
  const runDirectory = join(base, 'run');
  const { boards = 8, boardSize = '4MiB', directors = 1, stgs = ['test'] } = options;
  const stpd = spawn(
    process.execPath,
    [
      program('stpd'),
      'start',
      '--foreground',
      '--run-dir',
      runDirectory,
      '--boards',
      String(boards),
      '--board-size',
      boardSize,
      '--directors',
      String(directors),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  killAtExit(stpd);
  const end = finished(stpd);
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (!stopped) {
      stopped = true;
      stpd.kill('SIGTERM');
      const timer = setTimeout(() => stpd.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await end;
      clearTimeout(timer);
    }
    rmSync(base, { recursive: true, force: true });
  };
  t.teardown(stop);
  const stpctl = async (...args: string[]): Promise<string> => {
    let result = await runProgram('stpctl', [...args, '--run-dir', runDirectory]);
    // It gives up after a second, before it has changed anything; a busy machine may need longer.
    for (let asked = 1; /has not answered for 1 s/.test(result.stderr); asked++) {
      if (asked === STPCTL_ASKS_MAX) break;
      result = await runProgram('stpctl', [...args, '--run-dir', runDirectory]);
    }
    if (result.code !== 0) {
      throw new Error(
        `stpctl ${args.join(' ')} ended with ${result.code}: ${result.stderr}${result.stdout}`,
      );
    }
    return result.stdout;
  };
  const ended = end.then((result) => {
    if (!stopped) throw new Error(`stpd ended by itself: ${result.stderr}`);
  });
  ended.catch(() => {});
  let said = '';
  stpd.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const serving = until('stpd serves', () => / serving/.test(said), START_TIMEOUT_MS);
  await Promise.race([serving, ended]);
  for (const stg of stgs) {
    const args = [
      'stg',
      'create',
      stg,
      '--boards',
      String(Math.floor(boards / stgs.length)),
      '--ports',
      String(options.ports ?? 64),
      '--connections',
      String(options.connections ?? 1024),
    ];
    for (const uid of options.allowUids ?? []) args.push('--allow-uid', String(uid));
    await stpctl(...args);
  }
  return {
    runDirectory,
    stpd,
    stpctl,
    async list<T>(...args: string[]): Promise<T[]> {
      const document = JSON.parse(await stpctl(...args, '--json')) as Record<string, T[]>;
      return Object.values(document)[0] as T[];
    },
    stop,
  };
}
