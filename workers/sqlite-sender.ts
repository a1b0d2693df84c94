/** Thread of `stpbackup db --sqlite`: a moment of a database into one storage stream. */
import type { SendSqliteJob } from '../src/backup/jobs.js';
import { runMover, TOTAL } from '../src/backup/mover-thread.js';
import { stpError } from '../src/errors.js';
import { fetchList } from '../src/library/list-transfer.js';
import { sendTree } from '../src/library/send-tree.js';
import { copySqlite } from '../src/source/sqlite.js';

await runMover<SendSqliteJob, null>(async (job, stream) => {
  const { file, copy, path, listBytes } = job;
  const { progress } = stream;
  progress[TOTAL] = await copySqlite({ file, to: copy });
  const { entries, bytes, warnings } = sendTree(stream, [copy], {
    progress,
    storedAs: Buffer.from(path),
    ...(listBytes > 0 && { previous: (frames) => fetchList(frames, stream, listBytes) }),
  });
  // A file that fails is filled up with zeros there, which is good for a tree, and for no database.
  if (warnings > 0) throw stpError('EIO', `the copy of ${file} could not be read`);
  stream.shutdown();
  return { totals: stream.totals(entries, bytes), result: null };
});
