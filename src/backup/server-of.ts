/** Which server a database session goes to. */
import type { ClientConfig, ServerAddress } from './config.js';
import { ConfigurationError } from './config-error.js';

/**
 * The server of that name, or the only one.
 * @throws ConfigurationError
 */
export function serverOf(config: ClientConfig, name: string | undefined): ServerAddress {
  const servers = config.servers ?? new Map<string, ServerAddress>();
  const only = servers.size === 1 ? [...servers.values()][0] : undefined;
  const server = name === undefined ? only : servers.get(name);
  if (server) return server;
  const known = [...servers.keys()].join(', ') || 'none';
  throw new ConfigurationError(
    `${name === undefined ? 'name a server' : `no server ${name}`}; "servers" has: ${known}`,
  );
}
