/**
 * Path `tcp`: `node:net` over loopback TCP.
 */
import type { AddressInfo } from 'node:net';
import { serveRole } from '../harness/role.js';
import { netRole } from './node-net.js';

serveRole(
  netRole({
    listen: (server) => server.listen(0, '127.0.0.1'),
    address: (server) => (server.address() as AddressInfo).port,
  }),
);
