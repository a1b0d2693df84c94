/**
 * The two configuration files, one a role: JSON, checked whole before anything starts.
 *
 * Paths in a file that are not absolute are taken from the directory of that file, so that a
 * configuration can be moved together with its key and its library. Any thread; reads files once.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { messageOf } from '../errors.js';
import { PORT_MAX, STG_NAME_PATTERN } from '../limits.js';
import { ConfigurationError } from './config-error.js';
import { readKeyFile } from './keys.js';
import { CLIENT_WKP, SERVER_WKP } from './limits.js';
import type { MediaSettings } from './media-data.js';
import { mediaSchema, mediaSettings } from './media-settings.js';

/** Names of hosts and servers stand in `HOST:PATH`, in TLS identities and in set lists. */
export const HOST_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const name = z
  .string()
  .regex(HOST_NAME_PATTERN, 'must be 1 to 63 letters, digits, dots, dashes or underscores');
const file = z.string().min(1, 'must not be empty');
const port = (max: number) =>
  z
    .number()
    .int('must be a whole number')
    .min(1, `must be a port from 1 to ${max}`)
    .max(max, `must be a port from 1 to ${max}`);
const address = z.string().min(1, 'must be a host name or an IP address');

const anyPort = port(PORT_MAX).default(SERVER_WKP);

const clientSchema = z.strictObject({
  name,
  runDirectory: file.optional(),
  address: address.default('127.0.0.1'),
  // The storage handshake listens on the port after it.
  wkp: port(PORT_MAX - 1).default(CLIENT_WKP),
  roots: z.array(file).default([]),
  restoreRoots: z.array(file).default([]),
  keyFile: file.optional(),
  tls: z.boolean().default(true),
  // Database sessions, which this side initiates.
  servers: z
    .record(name, z.strictObject({ address: address.default('127.0.0.1'), wkp: anyPort }))
    .default({}),
  ports: z.tuple([z.number(), z.number()]).default([0, 0]),
  control: file.optional(),
  wal: z.strictObject({ server: name, name, uid: z.number().int().min(0).optional() }).optional(),
});

const serverSchema = z.strictObject({
  name,
  library: file,
  runDirectory: file.optional(),
  stg: z
    .string()
    .regex(STG_NAME_PATTERN, 'must be the name of an STG (stpctl stg list shows them)'),
  address: address.default('127.0.0.1'),
  wkp: port(PORT_MAX).default(SERVER_WKP),
  control: file,
  tls: z.boolean().default(true),
  media: mediaSchema,
  hosts: z
    .record(
      name,
      z.strictObject({
        address: address.default('127.0.0.1'),
        wkp: port(PORT_MAX - 1).default(CLIENT_WKP),
        keyFile: file.optional(),
      }),
    )
    .default({}),
});

/** What `stpbackup client` needs to know. `key` is null where TLS is off. */
export interface ClientConfig {
  readonly name: string;
  readonly runDirectory: string | undefined;
  readonly address: string;
  readonly wkp: number;
  /** Only what lies below these may be read. */
  readonly roots: readonly string[];
  /** Only below these may a restore write. */
  readonly restoreRoots: readonly string[];
  readonly key: Buffer | null;
  /** Servers that database sessions may go to, by name. */
  readonly servers?: ReadonlyMap<string, ServerAddress>;
  /** Range of the dynamic TCP ports, both ends included; 0 to 0: any free one. */
  readonly ports?: { readonly from: number; readonly to: number };
  /** Path of the control socket, for `wal-push` and `wal-fetch`. */
  readonly control?: string | undefined;
  /** Where the WAL of this host's PostgreSQL goes, and under which name. */
  readonly wal?:
    | {
        readonly server: string;
        readonly name: string;
        /** Who may use the control socket; none: the user of this program only. */
        readonly uid?: number | undefined;
      }
    | undefined;
}

export interface ServerAddress {
  readonly name: string;
  readonly address: string;
  readonly wkp: number;
}

export interface ClientAddress {
  readonly name: string;
  readonly address: string;
  readonly wkp: number;
  readonly key: Buffer | null;
}

/** What `stpbackup server` needs to know. */
export interface ServerConfig {
  readonly name: string;
  /** Directory of the library. */
  readonly library: string;
  readonly runDirectory: string | undefined;
  readonly stg: string;
  readonly address: string;
  readonly wkp: number;
  /** Path of the control socket, for `stpbackup fs`, `restore` and `list`. */
  readonly control: string;
  readonly hosts: ReadonlyMap<string, ClientAddress>;
  /** How media are written and read; left out: plain and whole. */
  readonly media?: MediaSettings;
}

function parse<S extends z.ZodType>(configFile: string, schema: S): z.infer<S> {
  let text: string;
  try {
    text = readFileSync(configFile, 'utf8');
  } catch (e) {
    throw new ConfigurationError(`cannot read the configuration ${configFile}: ${messageOf(e)}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new ConfigurationError(`${configFile} is not JSON: ${messageOf(e)}`);
  }
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const complaints = result.error.issues.map((issue) => {
    const where = issue.path.join('.') || 'the file';
    const given = issue.input === undefined ? '' : ` (is ${JSON.stringify(issue.input)})`;
    return issue.code === 'unrecognized_keys'
      ? `${where}: ${issue.message}`
      : `${where}: ${issue.message}${given}`;
  });
  throw new ConfigurationError(`${configFile}: ${complaints.join('; ')}`);
}

const needKey = (configFile: string, where: string): never => {
  throw new ConfigurationError(
    `${configFile}: ${where} is missing; make a key with "stpbackup key new FILE" and give both ` +
      `hosts the same file, or say "tls": false on both to send in the clear`,
  );
};

const isPort = (n: number): boolean => Number.isInteger(n) && n >= 1 && n <= PORT_MAX;
const isPortRange = (from: number, to: number): boolean =>
  (from === 0 && to === 0) || (isPort(from) && isPort(to) && from <= to);

export function loadClientConfig(configFile: string): ClientConfig {
  const c = parse(configFile, clientSchema);
  const base = path.dirname(path.resolve(configFile));
  const absolute = (p: string): string => path.resolve(base, p);
  const [from, to] = c.ports;
  if (!isPortRange(from, to)) {
    throw new ConfigurationError(
      `${configFile}: ports: must be two ports from 1 to ${PORT_MAX} in order (is ${from}, ${to})`,
    );
  }
  if (c.wal && (!Object.hasOwn(c.servers, c.wal.server) || c.control === undefined)) {
    throw new ConfigurationError(
      `${configFile}: wal needs its server in servers, and control, the path of a socket`,
    );
  }
  const none = c.roots.length === 0 && c.restoreRoots.length === 0;
  if (none && Object.keys(c.servers).length === 0) {
    throw new ConfigurationError(
      `${configFile}: roots and restoreRoots are both empty, so nothing may be read or written; ` +
        `list the directories that may be backed up in roots`,
    );
  }
  const keyFile = c.keyFile;
  return {
    name: c.name,
    runDirectory: c.runDirectory === undefined ? undefined : absolute(c.runDirectory),
    address: c.address,
    wkp: c.wkp,
    roots: c.roots.map(absolute),
    restoreRoots: c.restoreRoots.map(absolute),
    key: c.tls ? readKeyFile(absolute(keyFile ?? needKey(configFile, 'keyFile'))) : null,
    servers: new Map(
      Object.entries(c.servers).map(([server, at]) => [server, { name: server, ...at }]),
    ),
    ports: { from, to },
    control: c.control === undefined ? undefined : absolute(c.control),
    wal: c.wal,
  };
}

export function loadServerConfig(configFile: string): ServerConfig {
  const c = parse(configFile, serverSchema);
  const base = path.dirname(path.resolve(configFile));
  const absolute = (p: string): string => path.resolve(base, p);
  const hosts = new Map<string, ClientAddress>();
  for (const [hostName, h] of Object.entries(c.hosts)) {
    const keyFile = h.keyFile;
    const where = `hosts.${hostName}.keyFile`;
    hosts.set(hostName, {
      name: hostName,
      address: h.address,
      wkp: h.wkp,
      key: c.tls ? readKeyFile(absolute(keyFile ?? needKey(configFile, where))) : null,
    });
  }
  return {
    name: c.name,
    library: absolute(c.library),
    runDirectory: c.runDirectory === undefined ? undefined : absolute(c.runDirectory),
    stg: c.stg,
    address: c.address,
    wkp: c.wkp,
    control: absolute(c.control),
    hosts,
    media: mediaSettings(configFile, c.media),
  };
}

/** The client's control socket alone: what `wal-push` and `wal-fetch` need of its file. */
export function loadClientControlPath(configFile: string): string {
  const { control } = parse(configFile, clientSchema);
  if (control !== undefined) return path.resolve(path.dirname(path.resolve(configFile)), control);
  throw new ConfigurationError(`${configFile}: control, the path of a socket, is missing`);
}

/** The control socket alone: what `fs`, `restore` and `list` need of the server's file. */
export function loadControlPath(configFile: string): string {
  const c = parse(configFile, serverSchema);
  return path.resolve(path.dirname(path.resolve(configFile)), c.control);
}

/** How the server reads media: for verbs that work on its library without it. */
export const loadMediaSettings = (configFile: string): MediaSettings =>
  mediaSettings(configFile, parse(configFile, serverSchema).media);

/** The library alone: for verbs that work on it without the server. */
export function loadLibraryPath(configFile: string): string {
  const c = parse(configFile, serverSchema);
  return path.resolve(path.dirname(path.resolve(configFile)), c.library);
}
