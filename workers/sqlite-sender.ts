/** Thread of `stpbackup db --sqlite`: a moment of a database into one storage stream. */
import type { SendSqliteJob } from '../src/backup/jobs.js';
import { runMover, TOTAL } from '../src/backup/mover-thread.js';
import { stpError } from '../src/errors.js';
import { fetchPrevious } from '../src/library/list-transfer.js';
import { sendTree } from '../src/library/send-tree.js';
import { copySqlite, pageBytesOf } from '../src/source/sqlite.js';

await runMover<SendSqliteJob, null>(async (job, stream) => {
  const { file, copy, path, listBytes } = job;
  const { progress } = stream;
  const copyBytes = await copySqlite({ file, to: copy });
  // How much of it changed is known at the end only.
  if (listBytes === 0) progress[TOTAL] = copyBytes;
  const { entries, bytes, warnings } = sendTree(stream, [copy], {
    progress,
    storedAs: Buffer.from(path),
    deltaFrom: 1,
    blockBytes: pageBytesOf(copy),
    ...(listBytes > 0 && { previous: (frames) => fetchPrevious(frames, stream, listBytes) }),
  });
  // A file that fails is filled up with zeros there, which is good for a tree, and for no database.
  if (warnings > 0) throw stpError('EIO', `the copy of ${file} could not be read`);
  stream.shutdown();
  return { totals: stream.totals(entries, bytes), result: null };
});
