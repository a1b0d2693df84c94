/**
 * Path `unix-onread`: `node:net` over a Unix stream socket, read into the caller's buffer.
 */
import { serveRole } from '../harness/role.js';
import { unixSockets } from './node-net.js';
import { onreadRole } from './onread.js';

serveRole(onreadRole(unixSockets));
