/**
 * Path `stp-duplex`: STP sockets as Node streams, with 'data' events.
 */
import { serveRole } from '../harness/role.js';
import { socketRole } from './socket-role.js';
import { stpSockets } from './stp-adapter.js';

serveRole(socketRole(stpSockets));
