/** Thread of `stpbackup db --command`: what a pipe gives into one storage stream. */
import type { SendStreamJob } from '../src/backup/jobs.js';
import { hold, runMover } from '../src/backup/mover-thread.js';
import { sendStream } from '../src/library/stream-set.js';

await runMover<SendStreamJob, null>(async (job, stream) => {
  const { bytes, finish } = sendStream(stream, job.fd, job.path, stream.progress);
  // Only the event loop can know how the program ended: until then nothing is said to be whole.
  await hold(stream.totals(1, bytes));
  const totals = finish();
  stream.shutdown();
  return { totals: stream.totals(totals.entries, totals.bytes), result: null };
});
