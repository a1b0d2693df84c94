/** Thread of `stpbackup db --postgresql`: a base backup into one storage stream. */
import type { SendBaseBackupJob } from '../src/backup/jobs.js';
import { runMover } from '../src/backup/mover-thread.js';
import { sendBaseBackup } from '../src/library/send-base-backup.js';
import { native } from '../src/native.js';
import { BaseBackup } from '../src/source/base-backup.js';

/** Half a window: PostgreSQL fills a page in some 50 µs, about what a wake-up costs both sides. */
const PAGES_AT_ONCE = 32;

// PostgreSQL sends 8 KiB at a time, and each wakes who waits. It should go on until its socket is full.
native().setBatchScheduling();

// The settings of a job were looked up where its user is: what this process was started with is not.
for (const name of Object.keys(process.env)) if (name.startsWith('PG')) delete process.env[name];

await runMover<SendBaseBackupJob, null, BaseBackup>(
  async (job, stream, early = new BaseBackup(job)) => {
    stream.gather(PAGES_AT_ONCE);
    const { entries, bytes } = await sendBaseBackup(stream, early, stream.progress);
    stream.shutdown();
    return { totals: stream.totals(entries, bytes), result: null };
  },
  // Its checkpoint is made while the session is still being set up.
  (job) => new BaseBackup(job),
);
