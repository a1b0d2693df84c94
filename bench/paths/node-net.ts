/**
 * `node:net` as a path, over loopback TCP and over Unix stream sockets.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as netConnect } from 'node:net';
import type { OpenSockets } from './socket-kind.js';

/** As many may wait as for an STP listener by default. */
const BACKLOG = 511;

export const tcpSockets: OpenSockets = () => ({
  async listen(take) {
    const server = createServer(take).listen(0, '127.0.0.1', BACKLOG);
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  },
  connect: (port, onread) =>
    netConnect({ port: Number(port), host: '127.0.0.1', ...(onread && { onread }) }),
});

export const unixSockets: OpenSockets = ({ directory }) => ({
  async listen(take) {
    const path = `${directory}/${randomUUID()}`;
    await once(createServer(take).listen({ path, backlog: BACKLOG }), 'listening');
    return path;
  },
  connect: (path, onread) => netConnect({ path: String(path), ...(onread && { onread }) }),
});
