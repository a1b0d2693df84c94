/**
 * Path `stp-onread`: STP sockets as Node streams, read into the caller's buffer.
 */
import { serveRole } from '../harness/role.js';
import { onreadRole } from './onread.js';
import { stpSockets } from './stp-adapter.js';

serveRole(onreadRole(stpSockets));
