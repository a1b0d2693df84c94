/** Thread of `stpbackup client`: files that the walk gives away into a storage stream of their own. */
import type { ReadLaneJob } from '../src/backup/jobs.js';
import { serveLane } from '../src/backup/lanes.js';
import { runMover } from '../src/backup/mover-thread.js';
import { ReadLane } from '../src/library/read-lane.js';
import { native } from '../src/native.js';

await runMover<ReadLaneJob, null>((job, stream) => {
  const { progress } = stream;
  const { medium, deltaFrom } = job;
  const lane = new ReadLane(stream, { medium, progress, native: native(), deltaFrom });
  serveLane(job, (next) => lane.do(next));
  lane.finish();
  stream.shutdown();
  // Entries and bytes are counted by the walk, which has the lines.
  return { totals: stream.totals(0, 0), result: null };
});
