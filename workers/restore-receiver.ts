/** Thread of `stpbackup client`: one storage stream into one directory. */
import type { RestoreSetJob, RestoreSetResult } from '../src/backup/jobs.js';
import { runMover } from '../src/backup/mover-thread.js';
import { RestoreWriter, restoreSet } from '../src/library/restore.js';
import { native } from '../src/native.js';

await runMover<RestoreSetJob, RestoreSetResult>((job, stream) => {
  const writer = new RestoreWriter(job.target, {
    native: native(),
    onProblem: (problem) => stream.complain(problem),
  });
  const { entries, bytes, ownersNotSet } = restoreSet(stream, writer, stream.progress);
  return { totals: stream.totals(entries, bytes), result: { ownersNotSet } };
});
