/**
 * Path `tcp`: `node:net` over loopback TCP.
 */
import { serveRole } from '../harness/role.js';
import { tcpSockets } from './node-net.js';
import { socketRole } from './socket-role.js';

serveRole(socketRole(tcpSockets));
