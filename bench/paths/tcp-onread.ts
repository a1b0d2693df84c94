/**
 * Path `tcp-onread`: `node:net` over loopback TCP, read into the caller's buffer.
 */
import { serveRole } from '../harness/role.js';
import { tcpSockets } from './node-net.js';
import { onreadRole } from './onread.js';

serveRole(onreadRole(tcpSockets));
