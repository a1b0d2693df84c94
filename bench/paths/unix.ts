/**
 * Path `unix`: `node:net` over a Unix stream socket.
 */
import { serveRole } from '../harness/role.js';
import { netRole } from './node-net.js';

serveRole(
  netRole({
    listen: (server, { directory }) => server.listen(`${directory}/bench.sock`),
    address: (server) => server.address() as string,
  }),
);
