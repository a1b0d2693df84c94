/**
 * Path `unix`: `node:net` over a Unix stream socket.
 */
import { serveRole } from '../harness/role.js';
import { unixSockets } from './node-net.js';
import { socketRole } from './socket-role.js';

serveRole(socketRole(unixSockets));
