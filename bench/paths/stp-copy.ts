/**
 * Path `stp-copy`: blocking calls in a worker thread, copied in and copied out.
 */
import { serveRole } from '../harness/role.js';
import { workerRole } from './stp-worker-role.js';

serveRole(workerRole('copy'));
