/**
 * A private array for the benchmark: its own stpd in the foreground, on a run directory of its own,
 * with one STG of all 16 boards. Gone when the run ends, however it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { StgDocument } from '../../src/daemon/reports.js';
import { ROOT } from './native-programs.js';

export const BENCH_STG = 'bench';
const BOARDS = 16;
/** Listeners at once: one or two a path, one an idle host. */
const PORTS = 64;
/** stpctl's exit code for "stpd is not running": the only failure that passes by itself. */
const EXIT_NOT_RUNNING = 5;
const START_TIMEOUT_MS = 30_000;
const RETRY_MS = 100;
const STOP_TIMEOUT_MS = 10_000;

const program = (name: string): string => `${ROOT}dist/src/ctl/${name}.js`;

/** What is taken of the STG. */
export interface ArrayCounters {
  readonly pagesUsed: number;
  readonly portsUsed: number;
  readonly connectionsUsed: number;
}

export class PrivateArray {
  private stpd: ChildProcess | undefined;
  private exited: Promise<void> = Promise.resolve();
  private ended = false;
  private readonly output: string[] = [];

  constructor(readonly runDirectory: string) {}

  async start(): Promise<void> {
    const args = [program('stpd'), 'start', '--foreground', '--run-dir', this.runDirectory];
    const stpd = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.stpd = stpd;
    this.exited = new Promise((resolve) => {
      stpd.once('exit', () => {
        this.ended = true;
        resolve();
      });
    });
    for (const stream of [stpd.stdout, stpd.stderr]) {
      stream?.on('data', (text: Buffer) => this.output.push(text.toString()));
    }
    await this.createStg();
  }

  /** Retried until stpd serves: creating the STG is what shows that it does. */
  private async createStg(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    const size = ['--boards', String(BOARDS), '--ports', String(PORTS)];
    const args = ['stg', 'create', BENCH_STG, ...size];
    for (;;) {
      const { code, output } = await run(program('stpctl'), [
        ...args,
        '--run-dir',
        this.runDirectory,
      ]);
      if (code === 0) return;
      if (code !== EXIT_NOT_RUNNING || this.ended || performance.now() > deadline) {
        throw new Error(`the private array did not start: ${output}\n${this.output.join('')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  get pid(): number {
    return this.stpd?.pid ?? 0;
  }

  async counters(): Promise<ArrayCounters> {
    const args = ['stg', 'show', BENCH_STG, '--json', '--run-dir', this.runDirectory];
    const { code, output } = await run(program('stpctl'), args);
    if (code !== 0) throw new Error(`stpctl stg show: ${output}`);
    const { stg } = JSON.parse(output) as StgDocument;
    const { pagesTotal, pagesFree, portsUsed, connectionsUsed } = stg;
    return { pagesUsed: pagesTotal - pagesFree, portsUsed, connectionsUsed };
  }

  async stop(): Promise<void> {
    if (this.stpd === undefined || this.ended) return;
    this.stpd.kill('SIGTERM');
    const timer = setTimeout(() => this.stpd?.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(timer);
  }
}

function run(script: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text: Buffer) => {
        output += text.toString();
      });
    }
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? 1, output }));
  });
}
