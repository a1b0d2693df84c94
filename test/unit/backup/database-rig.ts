/** Both roles as processes of their own, for database sessions: a private array, library and key. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import type { SetSummary } from '../../../src/library/set-writer.js';
import { type Finished, finished, runProgram, startArray, until } from '../../support/array.js';

export const stpbackup = fileURLToPath(new URL('../../../src/ctl/stpbackup.js', import.meta.url));

export interface Service {
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
  said: string;
}

export interface DatabaseHouse {
  readonly base: string;
  readonly clientConfig: string;
  readonly control: string;
  readonly wkp: number;
  readonly server: Service;
  startServer(): Promise<Service>;
  startClient(): Promise<Service>;
  /** `stpbackup db ...` of the client, to its end. */
  db(...args: string[]): Promise<Finished>;
  /** The same, to be watched while it runs. */
  spawnDb(...args: string[]): { child: ChildProcess; ended: Promise<Finished> };
  list(): Promise<SetSummary[]>;
  /** What a backup that is not complete would have left. */
  partial(): string[];
}

/** Starts a role and waits for its readiness line. */
export async function startRole(t: ExecutionContext, ...args: string[]): Promise<Service> {
  const child = spawn(process.execPath, [stpbackup, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const service: Service = { child, ended: finished(child), said: '' };
  const hear = (text: Buffer): void => {
    service.said += text.toString();
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  t.teardown(async () => {
    child.kill('SIGTERM');
    await service.ended;
  });
  await until(`${args[0]} is ready`, () => /listens on|answers on/.test(service.said));
  return service;
}

export async function startDatabaseHouse(
  t: ExecutionContext,
  wal: { uid?: number } = {},
): Promise<DatabaseHouse> {
  const { runDirectory } = await startArray(t, { boards: 8, boardSize: '1MiB' });
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-db-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  // The user of PostgreSQL must reach the control socket, and nothing else here is secret.
  const open = join(base, 'open');
  mkdirSync(open, { mode: 0o755 });
  const keyFile = join(base, 'pair.key');
  t.is((await runProgram('stpbackup', ['key', 'new', keyFile])).code, 0);
  const [wkp, clientWkp] = [await freePair(), await freePair()];
  const clientConfig = join(base, 'client.json');
  const serverConfig = join(base, 'server.json');
  const control = join(base, 'client.sock');
  const servers = { server1: { wkp } };
  writeFileSync(
    clientConfig,
    JSON.stringify({
      ...{ name: 'host1', runDirectory, wkp: clientWkp, keyFile, servers, control },
      wal: { server: 'server1', name: 'main', ...wal },
    }),
  );
  writeFileSync(
    serverConfig,
    JSON.stringify({
      ...{ name: 'server1', runDirectory, stg: 'test', library: 'library', wkp },
      control: 'control.sock',
      hosts: { host1: { wkp: clientWkp, keyFile } },
    }),
  );
  const startServer = (): Promise<Service> =>
    startRole(t, 'server', '--config', serverConfig, '--trace');
  const spawnDb = (...args: string[]): { child: ChildProcess; ended: Promise<Finished> } => {
    const all = [stpbackup, 'db', ...args, '--config', clientConfig];
    const child = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'] });
    return { child, ended: finished(child) };
  };
  return {
    ...{ base, clientConfig, control, wkp, startServer, spawnDb },
    server: await startServer(),
    startClient: () => startRole(t, 'client', '--config', clientConfig),
    db: (...args) => spawnDb(...args).ended,
    list: async () => {
      const { stdout } = await runProgram('stpbackup', [
        'list',
        '--json',
        '--config',
        serverConfig,
      ]);
      return JSON.parse(stdout).sets;
    },
    partial: () => readdirSync(join(base, 'library/tmp')),
  };
}

const LISTEN = '0A';
const TIME_WAIT = '06';

/** Empty for a descriptor that was closed meanwhile. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}

/** Inodes of the sockets of a process. @throws ENOENT if it has ended */
function socketsOf(pid: number): Set<string> {
  const found = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const target = targetOf(`/proc/${pid}/fd/${fd}`);
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) found.add(inode);
  }
  return found;
}

/** TCP connections of a process, whatever their state, and its listeners apart. */
export function tcpOf(pid: number): { connections: string[]; listeners: number } {
  const own = socketsOf(pid);
  const lines = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, 'utf8').trim().split('\n').slice(1),
  );
  const mine = lines.filter((line) => {
    const fields = line.trim().split(/\s+/);
    return own.has(fields[9] ?? '') && fields[3] !== TIME_WAIT;
  });
  const isListener = (line: string): boolean => line.trim().split(/\s+/)[3] === LISTEN;
  return {
    connections: mine.filter((line) => !isListener(line)),
    listeners: mine.filter(isListener).length,
  };
}
