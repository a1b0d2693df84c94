/** Thread of `stpbackup client`: one data stream into one directory. */
import type { RestoreSetJob, RestoreSetResult } from '../src/backup/jobs.js';
import { PLANNED_BYTES_MAX, PLANNED_LISTED_MAX } from '../src/backup/limits.js';
import { type MoverStream, runMover } from '../src/backup/mover-thread.js';
import { choicesOf, type RestoreOutcome } from '../src/backup/restore-order.js';
import { pathFromBytes } from '../src/backup/wire-path.js';
import {
  type RestoreOptions,
  type RestoreReport,
  RestoreWriter,
  restoreSet,
} from '../src/library/restore.js';
import { RestoreCheck } from '../src/library/restore-verify.js';
import { native } from '../src/native.js';

type Planned = RestoreOutcome['planned'][number];

const outcomeOf = (
  { made, replaced, left, skipped, ownersNotSet }: RestoreReport,
  verified: RestoreOutcome['verified'],
  planned: readonly Planned[],
): RestoreOutcome => ({ made, replaced, left, skipped, ownersNotSet, verified, planned });

function restore(job: RestoreSetJob, stream: MoverStream) {
  const planned: Planned[] = [];
  let plannedBytes = 0;
  const options: RestoreOptions = {
    ...choicesOf(job.options, job.below),
    native: native(),
    onProblem: (problem) => stream.complain(problem),
    onPlan: (action, path) => {
      if (action === 'leave' || planned.length >= PLANNED_LISTED_MAX) return;
      plannedBytes += path.length;
      if (plannedBytes > PLANNED_BYTES_MAX) return;
      planned.push({ action, path: pathFromBytes(path) });
    },
  };
  const { progress } = stream;
  const { dryRun = false, verify = false } = options;
  const writer = new RestoreWriter(job.target, options);
  const check = verify && !dryRun ? new RestoreCheck(job.target, options) : null;
  try {
    const report = restoreSet(stream, writer, {
      progress,
      withoutData: dryRun,
      ...(check !== null && { onRestored: (line, map) => check.expect(line, map) }),
    });
    const verified = check?.verify() ?? null;
    const { entries, bytes } = report;
    return {
      totals: stream.totals(entries, bytes),
      result: outcomeOf(report, verified, planned),
    };
  } finally {
    check?.close();
    writer.close();
  }
}

await runMover<RestoreSetJob, RestoreSetResult>(restore);
