/**
 * A PostgreSQL cluster for tests of backups: its programs, run by an ordinary user even where the
 * tests are run by root, and what must be true of pgbench's tables whatever was committed.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { finished, until } from '../support/array.js';
import { postgresPrograms } from './postgres-rig.js';

export const NOBODY = 65534;
export const isRoot = process.getuid?.() === 0;
export const asUser = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
export const bin = postgresPrograms();

export interface Cluster {
  readonly directory: string;
  readonly data: string;
  /** Runs one of PostgreSQL's programs; its standard output. */
  run(program: string, ...args: string[]): string;
  start(data: string, ...options: string[]): void;
  stop(data: string, mode?: 'fast' | 'immediate'): void;
  sql(text: string, database?: string, port?: number): string;
}

/** A new one, not started; gone with the test. A directory of the user that PostgreSQL runs as, and its programs. */
export function makeCluster(t: ExecutionContext, programs = bin as string): Cluster {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-pgb-'));
  if (isRoot) chownSync(directory, NOBODY, NOBODY);
  chmodSync(directory, 0o755);
  const data = join(directory, 'data');
  const started = new Set<string>();
  const run = (program: string, ...args: string[]): string =>
    execFileSync(join(programs, program), args, {
      ...asUser,
      cwd: directory,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const log = join(directory, 'log');
  const cluster: Cluster = {
    directory,
    data,
    run,
    start: (at, ...options) => {
      const all = ['listen_addresses=', `unix_socket_directories=${directory}`, ...options];
      const text = all.map((o) => `-c "${o.replaceAll('"', '\\"')}"`).join(' ');
      started.add(at);
      try {
        const args = ['start', '-D', at, '-w', '-s', '-t', '120', '-l', log, '-o', text];
        execFileSync(join(programs, 'pg_ctl'), args, {
          ...asUser,
          cwd: directory,
          stdio: 'ignore',
        });
      } catch (e) {
        t.log(readFileSync(log, 'utf8').slice(-4000));
        throw e;
      }
    },
    stop: (at, mode = 'fast') => {
      started.delete(at);
      run('pg_ctl', 'stop', '-D', at, '-m', mode, '-w', '-s');
    },
    sql: (text, database = 'postgres', port = 5432) =>
      run(
        'psql',
        '-h',
        directory,
        '-p',
        `${port}`,
        '-U',
        'postgres',
        '-d',
        database,
        '-At',
        '-c',
        text,
      ).trim(),
  };
  t.teardown(() => {
    for (const at of [...started]) cluster.stop(at);
    rmSync(directory, { recursive: true, force: true });
  });
  run('initdb', '-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C', '-N');
  return cluster;
}

const SUMS =
  'SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM ' +
  'pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) ' +
  'FROM pgbench_history)';

/** Four sums that agree whatever was committed. */
export function balancesAgree(t: ExecutionContext, c: Cluster, port?: number): void {
  const sums = c.sql(SUMS, 'postgres', port).split('|');
  t.is(new Set(sums).size, 1, sums.join(' '));
}

export const ARCHIVED = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";

/** Starts pgbench against the cluster; resolves when it writes. The returned function ends it. */
export async function startLoad(t: ExecutionContext, c: Cluster): Promise<() => Promise<void>> {
  const args = ['-n', '-c', '2', '-T', '100000', '-h', c.directory, '-U', 'postgres', 'postgres'];
  const load: ChildProcess = spawn(join(bin as string, 'pgbench'), args, {
    ...asUser,
    stdio: 'ignore',
  });
  const ended = finished(load);
  t.teardown(() => load.kill('SIGKILL'));
  await until('there is load', () => Number(c.sql('SELECT count(*) FROM pgbench_history')) > 20);
  return async () => {
    load.kill('SIGTERM');
    await ended;
  };
}

export const urlOf = (c: Cluster): string => `postgresql://postgres@/postgres?host=${c.directory}`;
