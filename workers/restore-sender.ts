/** Thread of `stpbackup server`: one set, or a part of it, into one storage stream. */
import type { SendSetJob } from '../src/backup/jobs.js';
import { accessFrom } from '../src/backup/media-data.js';
import { runMover } from '../src/backup/mover-thread.js';
import { Library } from '../src/library/library.js';
import { sendSet } from '../src/library/send-set.js';
import { openChain } from '../src/library/set-tree.js';
import { native } from '../src/native.js';

await runMover<SendSetJob, null>((job, stream) => {
  const library = Library.open(job.library, {
    lockFile: (fd) => native().lockFile(fd),
    access: accessFrom(job.access),
  });
  const set = library.openSet(job.set);
  const chain = openChain(library, set);
  const selected = job.selected.map((path) => Buffer.from(path));
  const { progress } = stream;
  const withoutData = job.dryRun;
  const { entries, bytes } = sendSet(stream, set, { chain, selected, progress, withoutData });
  stream.shutdown();
  return { totals: stream.totals(entries, bytes), result: null };
});
