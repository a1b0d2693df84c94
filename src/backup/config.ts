/**
 * The two configuration files, one a role: JSON, checked whole before anything starts.
 *
 * Paths in a file that are not absolute are taken from the directory of that file, so that a
 * configuration can be moved together with its key and its library. Any thread; reads files once.
 */
import path from 'node:path';
import { ConfigurationError } from './config-error.js';
import { readConfig } from './config-file.js';
import type { ClientFields } from './config-schema.js';
import { readKeyFile } from './keys.js';
import type { MediaSettings } from './media-data.js';
import { mediaSettings } from './media-settings.js';
import { parseRate } from './rate.js';

/** What a backup of one root, or every backup, is framed by: lines for /bin/sh. */
export interface Frame {
  readonly before?: string | undefined;
  readonly after?: string | undefined;
}

/** Commands of a client's own configuration; nothing that a server sends is ever run. */
export interface Commands extends Frame {
  readonly timeoutMs: number;
  /** Of backups that read at, below or around one of these roots, by its path. */
  readonly roots: ReadonlyMap<string, Frame>;
}

/** What slows the movers of one side down. */
export interface Limits {
  /** Most bytes a second, all sessions together. */
  readonly bytesPerSecond?: number | undefined;
  /** 0 to 19. */
  readonly nice?: number | undefined;
  /** `idle`, or `best-effort:` and 0 to 7. */
  readonly ionice?: string | undefined;
}

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
  readonly commands?: Commands | undefined;
  readonly limits?: Limits | undefined;
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
  readonly limits?: Limits | undefined;
  /** How media are written and read; left out: plain and whole. */
  readonly media?: MediaSettings;
}

/** Paths in a file start at its directory. */
const absoluteFrom =
  (configFile: string) =>
  (p: string): string =>
    path.resolve(path.dirname(path.resolve(configFile)), p);

const limitsOf = (c: Pick<ClientFields, 'limitRate' | 'nice' | 'ionice'>): Limits => ({
  bytesPerSecond: c.limitRate === undefined ? undefined : (parseRate(c.limitRate) ?? undefined),
  nice: c.nice,
  ionice: c.ionice,
});

/** @throws ConfigurationError naming the field that the file is of */
function keyOf(configFile: string, field: string, keyFile: string): Buffer {
  try {
    return readKeyFile(keyFile);
  } catch (e) {
    if (!(e instanceof ConfigurationError)) throw e;
    throw new ConfigurationError(`${configFile}: ${field}: ${e.message}`);
  }
}

export const rootPath = (root: ClientFields['roots'][number]): string =>
  typeof root === 'string' ? root : root.path;

/** @throws ConfigurationError, a line for each thing that is wrong */
export function loadClientConfig(configFile: string): ClientConfig {
  const c = readConfig(configFile, 'client');
  const absolute = absoluteFrom(configFile);
  const framed = c.roots.flatMap((root) => (typeof root === 'string' ? [] : [root]));
  return {
    name: c.name,
    runDirectory: c.runDirectory === undefined ? undefined : absolute(c.runDirectory),
    address: c.address,
    wkp: c.wkp,
    roots: c.roots.map(rootPath).map(absolute),
    restoreRoots: c.restoreRoots.map(absolute),
    key: c.tls ? keyOf(configFile, 'keyFile', absolute(c.keyFile as string)) : null,
    servers: new Map(
      Object.entries(c.servers).map(([server, at]) => [server, { name: server, ...at }]),
    ),
    ports: { from: c.ports[0], to: c.ports[1] },
    control: c.control === undefined ? undefined : absolute(c.control),
    wal: c.wal,
    commands: {
      before: c.before,
      after: c.after,
      timeoutMs: c.commandSeconds * 1000,
      roots: new Map(
        framed.map(({ path: root, before, after }) => [absolute(root), { before, after }]),
      ),
    },
    limits: limitsOf(c),
  };
}

/** @throws ConfigurationError, a line for each thing that is wrong */
export function loadServerConfig(configFile: string): ServerConfig {
  const c = readConfig(configFile, 'server');
  const absolute = absoluteFrom(configFile);
  const hosts = new Map<string, ClientAddress>();
  for (const [name, { address, wkp, keyFile }] of Object.entries(c.hosts)) {
    const field = `hosts.${name}.keyFile`;
    const key = c.tls ? keyOf(configFile, field, absolute(keyFile as string)) : null;
    hosts.set(name, { name, address, wkp, key });
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
    limits: limitsOf(c),
    media: mediaSettings(configFile, c.media),
  };
}

/** The control socket alone; see control-path.ts. */
export const loadControlPath = (configFile: string): string =>
  absoluteFrom(configFile)(readConfig(configFile, 'server').control);

/** How the server reads media: for verbs that work on its library without it. */
export const loadMediaSettings = (configFile: string): MediaSettings =>
  mediaSettings(configFile, readConfig(configFile, 'server').media);

/** The library alone: for verbs that work on it without the server. */
export const loadLibraryPath = (configFile: string): string =>
  absoluteFrom(configFile)(readConfig(configFile, 'server').library);
