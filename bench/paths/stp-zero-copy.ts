/**
 * Path `stp-zero-copy`: blocking calls in a worker thread, filled in place and summed in place.
 */
import { serveRole } from '../harness/role.js';
import { workerRole } from './stp-worker-role.js';

serveRole(workerRole('zero-copy'));
