/** Thread of `stpbackup db --sqlite`: a moment of a database into one storage stream. */
import { closeSync, fstatSync, openSync, rmSync, statSync } from 'node:fs';
import type { SendSqliteJob } from '../src/backup/jobs.js';
import { runMover, TOTAL } from '../src/backup/mover-thread.js';
import { sendFile } from '../src/library/send-file.js';
import { copySqlite } from '../src/source/sqlite.js';

await runMover<SendSqliteJob, null>(async (job, stream) => {
  const { file, copy, path } = job;
  const { progress } = stream;
  await copySqlite({ file, to: copy });
  const { mode, uid, gid, mtimeMs } = statSync(file);
  const fd = openSync(copy, 'r');
  try {
    // Its room is free again as soon as the descriptor is closed, however this ends.
    rmSync(copy);
    progress[TOTAL] = fstatSync(fd).size;
    const mtimeNs = BigInt(Math.round(mtimeMs)) * 1_000_000n;
    const facts = { mode: mode & 0o7777, uid, gid, mtimeNs };
    const { entries, bytes } = sendFile(stream, fd, path, facts, progress);
    stream.shutdown();
    return { totals: stream.totals(entries, bytes), result: null };
  } finally {
    closeSync(fd);
  }
});
