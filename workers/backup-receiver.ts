/** Thread of `stpbackup server`: one storage stream into one set of the library. */
import type { StoreSetJob, StoreSetResult } from '../src/backup/jobs.js';
import { hold, runMover } from '../src/backup/mover-thread.js';
import { Library } from '../src/library/library.js';
import { storeSet } from '../src/library/store-set.js';
import { native } from '../src/native.js';

await runMover<StoreSetJob, StoreSetResult>(async (job, stream) => {
  const library = Library.open(job.library, { lockFile: (fd) => native().lockFile(fd) });
  const set = library.beginSet(job.meta);
  const { entries, bytes } = storeSet(stream, set, stream.progress);
  const totals = stream.totals(entries, bytes);
  // The client has its own account of what it sent: no set appears before the two agree.
  await hold(totals);
  return { totals, result: set.commit() };
});
