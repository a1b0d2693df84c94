/**
 * A connection to PostgreSQL that nobody has said anything on yet: made here, where the user's
 * environment and files are, and used by whoever gets its descriptor. The server sees who has
 * connected (`peer` authentication), not who uses it. Event loop only.
 *
 * Strings, environment and defaults are as pg has them, which are libpq's.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { ClientConfig } from 'pg';
import ConnectionParameters from 'pg/lib/connection-parameters';
import { isCoded, messageOf, stpError } from '../errors.js';
import { native } from '../native.js';

const PORT_DEFAULT = 5432;

/** What TLS is to be checked by; files are their contents. */
export interface PostgresqlTls {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly rejectUnauthorized?: boolean | undefined;
  /** False: any name will do, if the authority is right (`sslmode=verify-ca`). */
  readonly checkName?: boolean | undefined;
}

/** What is said on the connection. Plain data: it goes to other threads and processes. */
export interface PostgresqlSettings {
  /** A directory, or a name, which TLS checks. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password?: string | undefined;
  readonly options?: string | undefined;
  readonly tls: boolean | PostgresqlTls;
}

/** As libpq's. A user without a name, as in a container, has to say one. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    const why = `no role to connect as: uid ${process.getuid?.()} has no name on this system`;
    throw stpError('EINVAL', `${why}; put one into the connection string, or into PGUSER`);
  }
}

/** The password of the user's own file, which is looked at only where there is none yet. */
async function passwordOf(parameters: ConnectionParameters): Promise<string | undefined> {
  if (typeof parameters.password === 'string') return parameters.password;
  if (!existsSync(process.env.PGPASSFILE ?? join(homedir(), '.pgpass'))) return undefined;
  const { default: passwordFile } = await import('pgpass');
  return new Promise((resolve) => passwordFile(parameters, resolve));
}

function tlsOf(ssl: ClientConfig['ssl']): PostgresqlSettings['tls'] {
  if (typeof ssl !== 'object') return ssl === true;
  const { ca, cert, key, rejectUnauthorized, checkServerIdentity } = ssl;
  const text = (part: unknown): string | undefined => (typeof part === 'string' ? part : undefined);
  return {
    ...{ ca: text(ca), cert: text(cert), key: text(key), rejectUnauthorized },
    checkName: checkServerIdentity === undefined,
  };
}

function parametersOf(connection: string): ConnectionParameters {
  try {
    return new ConnectionParameters(connection === '' ? {} : connection);
  } catch (e) {
    // A certificate that it names is not there; the string itself may have a password.
    if (isCoded(e) && e.code.startsWith('E') && !e.code.startsWith('ERR_')) throw e;
    const form = 'postgresql://USER@HOST:PORT/DATABASE';
    throw stpError('EINVAL', `the connection string: ${messageOf(e)}; its form is ${form}`);
  }
}

/**
 * @param connection string of the user's; empty: as the environment says
 * @throws what is wrong with the string; ENOENT, ... of a certificate that it names
 */
export async function postgresqlSettings(connection: string): Promise<PostgresqlSettings> {
  const parameters = parametersOf(connection);
  const { host = 'localhost', port = PORT_DEFAULT, user = ownName() } = parameters;
  const { database = user, options } = parameters;
  const password = await passwordOf(parameters);
  return { host, port, user, database, password, options, tls: tlsOf(parameters.ssl) };
}

/**
 * Connects. @returns the descriptor, which is the caller's to close
 * @throws ECONNREFUSED, ENOENT, EACCES, ...; the signal's reason
 */
export async function connectPostgresql(
  { host, port }: PostgresqlSettings,
  signal?: AbortSignal,
): Promise<number> {
  if (host.startsWith('/')) return connectHere(`${host}/.s.PGSQL.${port}`);
  const socket = new Socket();
  // What the server sends is not for this program.
  socket.pause();
  try {
    socket.connect(port, host);
    await once(socket, 'connect', signal && { signal });
    return native().duplicateDescriptor(descriptorOf(socket));
  } catch (e) {
    if (!isCoded(e) || e.code !== 'ECONNREFUSED') throw e;
    throw nobody(e.code, `${host}, port ${port}`);
  } finally {
    socket.destroy();
  }
}

function connectHere(path: string): number {
  try {
    return native().unixConnect(path, true);
  } catch (e) {
    if (!isCoded(e) || (e.code !== 'ENOENT' && e.code !== 'ECONNREFUSED')) throw e;
    throw nobody(e.code, path);
  }
}

const nobody = (code: string, where: string): Error =>
  stpError(code, `no PostgreSQL answers on ${where}; is it running?`, 'connect');

/** Node has no public way to it. */
function descriptorOf(socket: Socket): number {
  const { _handle } = socket as unknown as { _handle: { fd: number } };
  return _handle.fd;
}
