/**
 * An array, a client and a server as processes that may be killed and started again, and what is
 * left of them. Each process carries a token in its environment, by which it is found wherever it
 * went: children of killed ones included.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePair } from '../../bench/harness/free-pair.js';
import { type Finished, finished, until } from '../support/array.js';
import { namesInSharedMemory } from '../support/shared-memory.js';

const TOKEN = 'STPD_TEST_KILLS';
/** How long an orderly end, or the end of a verb whose partner died, may take on a busy machine. */
export const WATCHDOG_MS = 120_000;

export type Role = 'stpd' | 'server' | 'client';

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
  said: string;
  over: boolean;
}

const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/ctl/${name}.js`, import.meta.url));

/** Pids of the processes that have `token` in their environment. */
function processesWith(token: string): number[] {
  const mark = `${TOKEN}=${token}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark);
      } catch {
        return false;
      }
    })
    .map(Number);
}

export class KillsHouse {
  readonly base: string;
  readonly source: string;
  readonly out: string;
  readonly library: string;
  readonly serverConfig: string;
  readonly clientConfig: string;
  readonly walControl: string;
  readonly #runDirectory: string;
  readonly #token = randomBytes(16).toString('hex');
  readonly #roles = new Map<Role, Running>();
  readonly #sharedBefore = namesInSharedMemory();

  private constructor(
    within: string,
    private readonly boardSize: string,
    private readonly ofServer: Readonly<Record<string, string>>,
  ) {
    this.base = mkdtempSync(join(within, 'stpd-kills-'));
    const at = (name: string) => join(this.base, name);
    this.source = at('src');
    this.out = at('out');
    this.library = at('library');
    this.serverConfig = at('server.json');
    this.clientConfig = at('client.json');
    this.walControl = at('client.sock');
    this.#runDirectory = at('run');
  }

  /**
   * Makes keys and configurations and starts all three.
   * @param ofServer more of the server's environment
   */
  static async start(
    within = tmpdir(),
    boardSize = '1MiB',
    ofServer: Readonly<Record<string, string>> = {},
  ): Promise<KillsHouse> {
    const house = new KillsHouse(within, boardSize, ofServer);
    for (const name of ['src', 'out']) mkdirSync(join(house.base, name));
    const keyFile = join(house.base, 'pair.key');
    await house.run('stpbackup', 'key', 'new', keyFile);
    const [wkp, clientWkp] = [await freePair(), await freePair()];
    const runDirectory = house.#runDirectory;
    const common = { runDirectory, keyFile };
    writeFileSync(
      house.clientConfig,
      JSON.stringify({
        ...{ name: 'host1', ...common, wkp: clientWkp, control: house.walControl },
        ...{ roots: ['src'], restoreRoots: ['out'], servers: { server1: { wkp } } },
        wal: { server: 'server1', name: 'main' },
      }),
    );
    writeFileSync(
      house.serverConfig,
      JSON.stringify({
        ...{ name: 'server1', runDirectory, stg: 'test', library: 'library', wkp },
        ...{ control: 'control.sock', hosts: { host1: { wkp: clientWkp, keyFile } } },
      }),
    );
    await house.revive();
    return house;
  }

  /** Starts a program; its output is gathered. */
  begin(name: string, ...args: string[]): Running {
    return this.#spawn(name, args, {});
  }

  #spawn(name: string, args: string[], more: Readonly<Record<string, string>>): Running {
    const child = spawn(process.execPath, [program(name), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...more, [TOKEN]: this.#token },
    });
    const running: Running = { child, ended: finished(child), said: '', over: false };
    const hear = (text: Buffer): void => {
      running.said += text.toString();
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    child.once('exit', () => {
      running.over = true;
    });
    return running;
  }

  /** Runs a program that must succeed. */
  async run(name: string, ...args: string[]): Promise<Finished> {
    const done = await this.begin(name, ...args).ended;
    if (done.code === 0) return done;
    throw new Error(`${name} ${args.join(' ')} ended with ${done.code}: ${done.stderr}`);
  }

  role(name: Role): Running {
    const running = this.#roles.get(name);
    if (!running) throw new Error(`${name} was never started`);
    return running;
  }

  /** Starts what does not run. @returns what that was */
  async revive(): Promise<Role[]> {
    const revived: Role[] = [];
    const starts: [Role, RegExp, string, string[]][] = [
      ['stpd', / serving/, 'stpd', ['start', '--foreground', '--boards', '8']],
      ['client', /listens on/, 'stpbackup', ['client', '--config', this.clientConfig]],
      ['server', /answers on/, 'stpbackup', ['server', '--config', this.serverConfig]],
    ];
    for (const [name, ready, file, args] of starts) {
      const known = this.#roles.get(name);
      if (known && !known.over) continue;
      await known?.ended;
      const more =
        name === 'stpd' ? ['--board-size', this.boardSize, '--run-dir', this.#runDirectory] : [];
      const ofRole = name === 'server' ? this.ofServer : {};
      const running = this.#spawn(file, [...args, ...more], ofRole);
      this.#roles.set(name, running);
      await until(`${name} is ready`, () => {
        if (running.over) throw new Error(`${name} did not start: ${running.said}`);
        return ready.test(running.said);
      });
      if (name === 'stpd') await this.#createStg();
      revived.push(name);
    }
    return revived;
  }

  /** Asked again where stpd is too busy to answer in a second. */
  async #createStg(): Promise<void> {
    const stg = ['stg', 'create', 'test', '--boards', '8', '--ports', '64'];
    await until('the STG is there', async () => {
      const made = await this.begin('stpctl', ...stg, '--run-dir', this.#runDirectory).ended;
      if (made.code === 0 || /exists/.test(made.stderr)) return true;
      if (/has not answered/.test(made.stderr)) return false;
      throw new Error(`no STG: ${made.stderr}`);
    });
  }

  /** Processes of this house that are nobody it knows: what a killed one left behind. */
  strays(): number[] {
    const known = [...this.#roles.values()].filter((r) => !r.over).map((r) => r.child.pid);
    return processesWith(this.#token).filter((pid) => !known.includes(pid));
  }

  /** Ends all roles in good order. @returns what is left of them that should not be */
  async end(): Promise<string[]> {
    const left: string[] = [];
    for (const name of ['server', 'client', 'stpd'] as const) {
      const running = this.role(name);
      running.child.kill('SIGTERM');
      const timer = setTimeout(() => running.child.kill('SIGKILL'), WATCHDOG_MS);
      const { code, signal } = await running.ended;
      clearTimeout(timer);
      if (code !== 0) left.push(`${name} ended with ${code ?? signal}: ${running.said}`);
    }
    left.push(...processesWith(this.#token).map((pid) => `process ${pid}`));
    left.push(...this.#sockets());
    const shared = namesInSharedMemory();
    left.push(...shared.filter((name) => !this.#sharedBefore.includes(name)));
    return left;
  }

  /** Sockets below the base, as whoever looks at the directory finds them. */
  #sockets(): string[] {
    return readdirSync(this.base, { recursive: true, withFileTypes: true })
      .filter((e) => e.isSocket())
      .map((e) => join(e.parentPath, e.name));
  }

  /** After whatever happened nothing runs any more. */
  async destroy(remove: boolean): Promise<void> {
    for (const { child, ended } of this.#roles.values()) {
      child.kill('SIGKILL');
      await ended;
    }
    for (const pid of processesWith(this.#token)) process.kill(pid, 'SIGKILL');
    if (remove) rmSync(this.base, { recursive: true, force: true });
  }
}
