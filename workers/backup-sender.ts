/** Thread of `stpbackup client`: one file tree into one storage stream. */

import type { SendTreeJob } from '../src/backup/jobs.js';
import { lanesOf } from '../src/backup/lanes.js';
import { runMover } from '../src/backup/mover-thread.js';
import { fetchPrevious } from '../src/library/list-transfer.js';
import { sendTree } from '../src/library/send-tree.js';
import { native } from '../src/native.js';

await runMover<SendTreeJob, null>((job, stream) => {
  const roots = job.roots.map((root) => Buffer.from(root));
  const { entries, bytes } = sendTree(stream, roots, {
    progress: stream.progress,
    onWarning: (warning) => stream.complain(warning),
    native: native(),
    selection: job.selection,
    dryRun: job.dryRun,
    isIncremental: job.incremental,
    firstMedium: job.firstMedium,
    deltaFrom: job.deltaFrom,
    ...(job.lanes.length > 0 && { lanes: lanesOf(job.lanes) }),
    ...(job.listBytes > 0 && {
      previous: (frames) => fetchPrevious(frames, stream, job.listBytes),
    }),
  });
  stream.shutdown();
  return { totals: stream.totals(entries, bytes), result: null };
});
