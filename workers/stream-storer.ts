/** Thread of `stpbackup server`: one stream of unknown length into one set of the library. */
import { join } from 'node:path';
import type { StoreSetJob, StoreSetResult } from '../src/backup/jobs.js';
import { planFrom } from '../src/backup/media-data.js';
import { hold, runMover } from '../src/backup/mover-thread.js';
import { Library } from '../src/library/library.js';
import { storeStream } from '../src/library/stream-set.js';
import { native } from '../src/native.js';

await runMover<StoreSetJob, StoreSetResult>(async (job, stream) => {
  const library = Library.open(job.library, { lockFile: (fd) => native().lockFile(fd) });
  const set = library.beginSet(job.meta, {
    hasList: job.hasList,
    plan: planFrom(job.media.plan),
  });
  // Below the set's own directory: whatever happens to the one happens to the other.
  const spool = join(library.directory, 'tmp', `${set.id}.partial`, 'spool');
  const { entries, bytes } = storeStream(stream, set, spool, stream.progress);
  const totals = stream.totals(entries, bytes);
  await hold(totals);
  return { totals, result: set.commit() };
});
