/**
 * `node:net` as a path: a server that takes one connection, and a client.
 */
import { once } from 'node:events';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import type { Address, OpenRequest } from '../harness/protocol.js';
import type { PathRole } from '../harness/role.js';
import { DuplexParticipant } from './duplex-participant.js';

/** Where a server listens, and what its clients are told. */
export interface NetListener {
  listen(server: Server, open: OpenRequest): void;
  address(server: Server): Address;
}

export function netRole(listener: NetListener): PathRole {
  return {
    async receive(open, listening) {
      const server = createServer();
      listener.listen(server, open);
      await once(server, 'listening');
      listening(listener.address(server));
      const [socket] = (await once(server, 'connection')) as [Socket];
      server.close();
      return new DuplexParticipant(socket, 'receiver');
    },
    async send(_open, address) {
      const socket =
        typeof address === 'number'
          ? netConnect({ port: address, host: '127.0.0.1' })
          : netConnect({ path: address });
      await once(socket, 'connect');
      return new DuplexParticipant(socket, 'sender');
    },
  };
}
