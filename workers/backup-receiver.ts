/** Thread of `stpbackup server`: one storage stream into one set of the library. */
import type { StoreSetJob, StoreSetResult } from '../src/backup/jobs.js';
import { accessFrom, planFrom } from '../src/backup/media-data.js';
import { begun, hold, type MoverStream, runMover } from '../src/backup/mover-thread.js';
import { Library, type StoredSet } from '../src/library/library.js';
import { ListServer } from '../src/library/list-transfer.js';
import type { FurtherMedium } from '../src/library/manifest.js';
import { chainThrough, openChain, parentListOf } from '../src/library/set-tree.js';
import type { SetWriter } from '../src/library/set-writer.js';
import { receiveDryRun, storeSet } from '../src/library/store-set.js';
import { native } from '../src/native.js';

function beginSet(library: Library, job: StoreSetJob, parent: StoredSet | null): SetWriter {
  const plan = planFrom(job.media.plan);
  if (parent === null) return library.beginSet(job.meta, { hasList: job.hasList, plan });
  const { summary } = parent;
  return library.beginSet(
    { ...job.meta, chain: chainThrough(summary) },
    {
      plan,
      parent: parentListOf(parent),
      // Whoever prunes meanwhile must not leave a set without its parents.
      verifyChain: () => void openChain(library, library.openSet(parent.id)),
    },
  );
}

async function store(
  library: Library,
  job: StoreSetJob,
  stream: MoverStream,
  parent: StoredSet | null,
  list: ListServer | null,
) {
  if (job.dryRun) {
    const { entries, bytes } = receiveDryRun(stream, list);
    return { totals: stream.totals(entries, bytes), result: null };
  }
  const set = beginSet(library, job, parent);
  begun({ home: set.home, directory: set.partialDirectory });
  const { entries, bytes } = storeSet(stream, set, stream.progress, list);
  const totals = stream.totals(entries, bytes);
  // The client has its own account of what it sent: no set appears before the two agree.
  const more = await hold<readonly FurtherMedium[] | null>(totals);
  return { totals, result: set.commit(more ?? []) };
}

await runMover<StoreSetJob, StoreSetResult>(async (job, stream) => {
  const library = Library.open(job.library, {
    lockFile: (fd) => native().lockFile(fd),
    access: accessFrom(job.media.access),
  });
  const parent = job.parent === null ? null : library.openSet(job.parent);
  if (parent === null) return store(library, job, stream, null, null);
  const list = parent.openList();
  try {
    const directories = openChain(library, parent).map((set) => set.directory);
    return await store(library, job, stream, parent, new ListServer(stream, list, directories));
  } finally {
    list.close();
  }
});
