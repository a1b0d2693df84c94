/** Thread of `stpbackup server`: looks at all that an interrupted backup left. */
import { parentPort, workerData } from 'node:worker_threads';
import type { AdoptJob, AdoptMessage } from '../src/backup/jobs.js';
import { adopt } from '../src/library/adopt.js';
import { NotAdopted } from '../src/library/kept-lines.js';

const { found, parent } = workerData as AdoptJob;
const post = (message: AdoptMessage): void => parentPort?.postMessage(message);

try {
  post({ type: 'adopted', adopted: adopt(found, parent) });
} catch (e) {
  if (!(e instanceof NotAdopted)) throw e;
  post({ type: 'refused', reason: e.message });
}
