/** Thread of `stpbackup db restore`: the only member of a set into a pipe or a file. */
import type { ReceiveStreamJob } from '../src/backup/jobs.js';
import { runMover } from '../src/backup/mover-thread.js';
import { receiveStream } from '../src/library/stream-set.js';

await runMover<ReceiveStreamJob, null>((job, stream) => {
  const { entries, bytes } = receiveStream(stream, job.fd, stream.progress);
  return { totals: stream.totals(entries, bytes), result: null };
});
