/**
 * The calls that a situation is written against, in the types of `node:net`: once as Node has them,
 * over loopback, and once as a host has them, through the array.
 */
import net from 'node:net';
import type { Host } from '../../src/index.js';

export interface Face {
  readonly name: 'net' | 'stp';
  readonly createServer: typeof net.createServer;
  readonly connect: typeof net.connect;
  readonly createConnection: typeof net.createConnection;
  readonly Socket: typeof net.Socket;
  readonly Server: typeof net.Server;
}

export const netFace: Face = {
  name: 'net',
  createServer: net.createServer,
  connect: net.connect,
  createConnection: net.createConnection,
  Socket: net.Socket,
  Server: net.Server,
};

/** Servers of one host, sockets that connect of another; they may be the same. */
export function stpFace(serving: Host, connecting: Host): Face {
  const server = serving as unknown as typeof net;
  const client = connecting as unknown as typeof net;
  return {
    name: 'stp',
    createServer: server.createServer.bind(server),
    connect: client.connect.bind(client),
    createConnection: client.createConnection.bind(client),
    Socket: client.Socket,
    Server: server.Server,
  };
}
