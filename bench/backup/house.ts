/**
 * Client and server of the backup application on a private array, as people run them: processes of
 * their own that live through the run, TLS with a key on their control connections.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BENCH_STG, PrivateArray } from '../harness/array.js';
import { freePair } from '../harness/free-pair.js';
import { ROOT } from '../harness/native-programs.js';
import { cpuSecondsOfAll, rssAnonBytes } from '../harness/processes.js';
import { quoted, type Timed, timed } from './command.js';

const STOP_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 30_000;
const HOST = 'host';

const STPBACKUP = `${ROOT}dist/src/ctl/stpbackup.js`;

export class BackupHouse {
  private readonly array: PrivateArray;
  private readonly roles: ChildProcess[] = [];
  private readonly serverConfig: string;
  private readonly clientConfig: string;

  /** @param directory where all of it lies, the library too; @param roots what may be backed up */
  constructor(
    private readonly directory: string,
    private readonly roots: readonly string[],
  ) {
    this.array = new PrivateArray(join(directory, 'run'));
    this.serverConfig = join(directory, 'server.json');
    this.clientConfig = join(directory, 'client.json');
  }

  async start(): Promise<void> {
    mkdirSync(join(this.directory, 'run'), { mode: 0o700 });
    await this.array.start();
    const runDirectory = this.array.runDirectory;
    const keyFile = join(this.directory, 'pair.key');
    await timed(this.line('key', 'new', keyFile));
    const [client, server] = [await freePair(), await freePair()];
    const write = (path: string, config: object): void =>
      writeFileSync(path, JSON.stringify(config));
    const { roots, clientConfig } = this;
    const servers = { server: { wkp: server } };
    // With the control socket that `wal-push` has: `db` asks the client that runs, as it would there.
    const control = 'client.sock';
    write(clientConfig, {
      name: HOST,
      runDirectory,
      wkp: client,
      keyFile,
      roots,
      servers,
      control,
    });
    write(this.serverConfig, {
      name: 'server',
      runDirectory,
      stg: BENCH_STG,
      library: 'library',
      control: 'control.sock',
      wkp: server,
      hosts: { [HOST]: { wkp: client, keyFile } },
    });
    await this.startRole('client', clientConfig);
    await this.startRole('server', this.serverConfig);
  }

  private async startRole(role: string, config: string): Promise<void> {
    const child = spawn(process.execPath, [STPBACKUP, role, '--config', config], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.roles.push(child);
    let said = '';
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void => reject(new Error(`stpbackup ${role} ${why}: ${said}`));
      const timer = setTimeout(() => fail('is not ready'), START_TIMEOUT_MS);
      const hear = (text: Buffer): void => {
        said += text.toString();
        if (!/listens on|answers on/.test(said)) return;
        clearTimeout(timer);
        resolve();
      };
      child.stdout?.on('data', hear);
      child.stderr?.on('data', hear);
      child.once('exit', (code) => fail(`ended with ${code}`));
    });
  }

  private line(...args: readonly string[]): string {
    return [process.execPath, STPBACKUP, ...args].map(quoted).join(' ');
  }

  /** A verb of `stpbackup`; the CPU of client, server and stpd meanwhile counts as its own. */
  async run(...args: readonly string[]): Promise<Timed & { readonly rssAnonBytes: number }> {
    const pids = [...this.roles.map(({ pid }) => pid ?? 0), this.array.pid];
    const before = cpuSecondsOfAll(pids);
    // What a client initiates is a process of its own, with the client's configuration.
    const config = args[0] === 'db' ? this.clientConfig : this.serverConfig;
    const result = await timed(this.line(...args, '--config', config));
    const cpuSeconds = result.cpuSeconds + cpuSecondsOfAll(pids) - before;
    return { ...result, cpuSeconds, rssAnonBytes: rssAnonBytes(pids) };
  }

  static readonly host = HOST;

  async stop(): Promise<void> {
    for (const role of this.roles.splice(0)) {
      if (role.exitCode !== null || role.signalCode !== null) continue;
      role.kill('SIGTERM');
      const timer = setTimeout(() => role.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await once(role, 'exit');
      clearTimeout(timer);
    }
    await this.array.stop();
  }
}
