/**
 * A PostgreSQL of its own for a test file: a new cluster in a temporary directory, reached over its
 * Unix socket only, run by an ordinary user even where the tests are run by root.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const NO_POSTGRES = 'skipped: PostgreSQL is not installed (package postgresql)';

export interface Postgres {
  /** The socket that its clients connect to. */
  readonly socket: string;
  readonly psql: string;
  /** Stops it at once, as an administrator would: clients are told. */
  stop(): void;
  /** Stops it, and removes everything. */
  remove(): void;
}

/** Directory of the newest server's programs: Debian keeps them out of PATH. */
export function postgresPrograms(): string | undefined {
  const base = '/usr/lib/postgresql';
  const versions = existsSync(base) ? readdirSync(base) : [];
  return versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(base, version, 'bin'))
    .find((path) => existsSync(join(path, 'initdb')) && existsSync(join(path, 'psql')));
}

/** PostgreSQL refuses to run as root: `nobody` it is then. */
const NOBODY = 65534;
const asUser = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

/** Starts one; undefined where it is not installed. */
export function startPostgres(): Postgres | undefined {
  const bin = postgresPrograms();
  if (bin === undefined) return undefined;
  const directory = mkdtempSync(join(tmpdir(), 'stpd-pg-'));
  if (asUser.uid !== undefined) chownSync(directory, NOBODY, NOBODY);
  chmodSync(directory, 0o755);
  const data = join(directory, 'data');
  const run = (program: string, ...args: string[]): void => {
    execFileSync(join(bin, program), args, { ...asUser, cwd: directory, stdio: 'ignore' });
  };
  const options = `-c listen_addresses= -c unix_socket_directories=${directory} -c fsync=off`;
  try {
    run('initdb', '-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C', '-N');
    run('pg_ctl', 'start', '-D', data, '-w', '-s', '-l', join(directory, 'log'), '-o', options);
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  const stop = (): void => {
    const args = ['stop', '-D', data, '-m', 'fast', '-w', '-s'];
    spawnSync(join(bin, 'pg_ctl'), args, { ...asUser, cwd: directory, stdio: 'ignore' });
  };
  return {
    socket: join(directory, '.s.PGSQL.5432'),
    psql: join(bin, 'psql'),
    stop,
    remove: () => {
      stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
