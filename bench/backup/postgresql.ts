/**
 * Case `postgresql` of the suite `backup`: the full backup of a cluster at rest, as one command, and
 * the same by PostgreSQL's own program. The cluster is made for the run, by an ordinary user even
 * where root runs it, and reached over its Unix socket only.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { RoundResult } from '../harness/path.js';
import { quoted, type Timed, timed } from './command.js';
import type { BackupHouse } from './house.js';

/** pgbench's scale that gives about 1 GB. */
const SCALE = 65;
const SCALE_TINY = 1;
const NOBODY = 65534;
const asUser = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

export interface PostgresqlOptions {
  readonly tiny: boolean;
  log(line: string): void;
  atEnd(task: () => Promise<void> | void): void;
}

/** One way to back the cluster up. */
export interface PostgresqlPath {
  readonly name: 'stpbackup' | 'pg_basebackup';
  /** What it made is gone when it resolves; that is not in its time. */
  round(): Promise<RoundResult>;
}

export interface PostgresqlBench {
  /** Of the cluster's data. */
  readonly bytes: number;
  readonly paths: readonly PostgresqlPath[];
}

/** Debian keeps the server's programs out of PATH. */
function programs(): string | undefined {
  const base = '/usr/lib/postgresql';
  const versions = existsSync(base) ? readdirSync(base) : [];
  return versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(base, version, 'bin'))
    .find((bin) => ['initdb', 'pgbench', 'pg_basebackup'].every((p) => existsSync(join(bin, p))));
}

/** A directory above that others may not enter: PostgreSQL does not run as root. */
function closedAbove(directory: string): string | undefined {
  for (let at = dirname(directory); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return at;
    if (at === dirname(at)) return undefined;
  }
}

/** What all paths did who backed all of it up. */
const resultOf = (bytes: number, { seconds, cpuSeconds }: Timed, rss = 0): RoundResult => ({
  bytes,
  messages: 1,
  seconds,
  cpuSeconds,
  rssAnonBytes: rss,
  digest: createHash('sha256').update(`${bytes} bytes of a cluster`).digest('hex').slice(0, 16),
});

function assertWhole(who: string, got: number, bytes: number): void {
  if (got < bytes) throw new Error(`${who} backed up ${got} bytes of a cluster of ${bytes}`);
}

/** Bytes of the files below a directory; PostgreSQL leaves these out of a backup. */
const LEFT_OUT = new Set(['pg_wal', 'postmaster.pid', 'postmaster.opts', 'pg_internal.init']);
function bytesBelow(directory: string): number {
  return readdirSync(directory, { withFileTypes: true })
    .filter(({ name }) => !LEFT_OUT.has(name))
    .map((item) => {
      const path = join(directory, item.name);
      return item.isDirectory() ? bytesBelow(path) : statSync(path).size;
    })
    .reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Makes the cluster below `directory` and starts it; `atEnd` stops it.
 * @param house started; its client has the server that `db` goes to
 * @returns why there is nothing to measure, where PostgreSQL is not installed
 */
export async function startPostgresql(
  directory: string,
  house: BackupHouse,
  { tiny, log, atEnd }: PostgresqlOptions,
): Promise<PostgresqlBench | string> {
  const bin = programs();
  if (bin === undefined) return 'no PostgreSQL here (Debian: postgresql)';
  const closed = asUser.uid === undefined ? undefined : closedAbove(directory);
  if (closed !== undefined) return `${closed} may not be entered by others; choose a --directory`;
  const base = join(directory, 'postgresql');
  mkdirSync(base);
  if (asUser.uid !== undefined) {
    chownSync(base, NOBODY, NOBODY);
    chmodSync(directory, 0o711);
  }
  const data = join(base, 'data');
  const run = (program: string, ...args: string[]): void => {
    const options = { ...asUser, cwd: base, stdio: 'ignore' } as const;
    execFileSync(join(bin, program), args, options);
  };
  run('initdb', '-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C', '-N');
  // At rest: nothing writes but the checkpoints of the backups.
  const settings = ['listen_addresses=', `unix_socket_directories=${base}`, 'fsync=off'];
  const text = [...settings, 'autovacuum=off', 'max_wal_size=1GB'].map((s) => `-c ${s}`).join(' ');
  run('pg_ctl', 'start', '-D', data, '-w', '-s', '-l', join(base, 'log'), '-o', text);
  atEnd(() => run('pg_ctl', 'stop', '-D', data, '-m', 'immediate', '-w', '-s'));
  const at = ['-h', base, '-U', 'postgres'];
  run('pgbench', '-i', '-q', '-s', String(tiny ? SCALE_TINY : SCALE), ...at, 'postgres');
  run('psql', ...at, '-c', 'CHECKPOINT', 'postgres');
  const bytes = bytesBelow(join(data, 'base'));
  log(`postgresql: a cluster of ${(bytes / 1e6).toFixed(1)} MB`);
  const pathsOf: readonly PostgresqlPath[] = [
    stpbackupPath(house, `postgresql://postgres@/postgres?host=${base}`, bytes),
    pgBasebackupPath(join(bin, 'pg_basebackup'), base, directory, bytes),
  ];
  return { bytes, paths: pathsOf };
}

/** `stpbackup db`, the whole command, handshake included, against a server that runs. */
const stpbackupPath = (house: BackupHouse, url: string, bytes: number): PostgresqlPath => ({
  name: 'stpbackup',
  async round() {
    const result = await house.run('db', '--postgresql', url, '--name', 'bench', '--json');
    const report = JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '') as {
      set: string;
      bytes: number;
    };
    assertWhole('stpbackup', report.bytes, bytes);
    await house.run('forget', report.set, '--prune');
    return resultOf(bytes, result, result.rssAnonBytes);
  },
});

const pgBasebackupPath = (
  program: string,
  socket: string,
  directory: string,
  bytes: number,
): PostgresqlPath => ({
  name: 'pg_basebackup',
  async round() {
    const to = join(directory, 'basebackup');
    const line = `${quoted(program)} -h ${quoted(socket)} -U postgres -c fast -Ft -X fetch -D ${quoted(to)}`;
    const result = await timed(line);
    assertWhole('pg_basebackup', statSync(join(to, 'base.tar')).size, bytes);
    rmSync(to, { recursive: true });
    return resultOf(bytes, result);
  },
});
