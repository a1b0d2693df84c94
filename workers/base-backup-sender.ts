/** Thread of `stpbackup db --postgresql`: a base backup into one storage stream. */
import type { SendBaseBackupJob } from '../src/backup/jobs.js';
import { runMover } from '../src/backup/mover-thread.js';
import { sendBaseBackup } from '../src/library/send-base-backup.js';

await runMover<SendBaseBackupJob, null>(async (job, stream) => {
  const { entries, bytes } = await sendBaseBackup(stream, job, stream.progress);
  stream.shutdown();
  return { totals: stream.totals(entries, bytes), result: null };
});
