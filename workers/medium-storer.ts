/** Thread of `stpbackup server`: one storage stream into one further medium of a set. */
import type { StoreMediumJob, StoreMediumResult } from '../src/backup/jobs.js';
import { planFrom } from '../src/backup/media-data.js';
import { runMover } from '../src/backup/mover-thread.js';
import { storeMedium } from '../src/library/store-medium.js';

await runMover<StoreMediumJob, StoreMediumResult>((job, stream) => {
  const result = storeMedium(stream, { ...job, plan: planFrom(job.plan) });
  return { totals: stream.totals(0, 0), result };
});
