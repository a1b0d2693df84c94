/** Thread of `stpbackup server`: one storage stream into one set of the library. */
import { join } from 'node:path';
import type { StoreSetJob, StoreSetResult } from '../src/backup/jobs.js';
import { accessFrom, planFrom } from '../src/backup/media-data.js';
import { begun, hold, type MoverStream, runMover } from '../src/backup/mover-thread.js';
import { type ByteFile, PlainFile } from '../src/library/bytes.js';
import { KEPT_LIST_FILE } from '../src/library/interrupted.js';
import { Library, type StoredSet } from '../src/library/library.js';
import { ListServer } from '../src/library/list-transfer.js';
import type { FurtherMedium } from '../src/library/manifest.js';
import { chainThrough, openChain, parentListOf } from '../src/library/set-tree.js';
import type { SetWriter } from '../src/library/set-writer.js';
import { receiveDryRun, storeSet } from '../src/library/store-set.js';
import { native } from '../src/native.js';

function beginSet(library: Library, job: StoreSetJob, parent: StoredSet | null): SetWriter {
  const plan = planFrom(job.media.plan);
  const adopted = job.adopted === null ? {} : { adopted: job.adopted };
  if (parent === null) {
    return library.beginSet(job.meta, { hasList: job.hasList, plan, ...adopted });
  }
  const { summary } = parent;
  return library.beginSet(
    { ...job.meta, chain: chainThrough(summary) },
    {
      plan,
      ...adopted,
      parent: parentListOf(parent),
      // Whoever prunes meanwhile must not leave a set without its parents.
      verifyChain: () => void openChain(library, library.openSet(parent.id)),
    },
  );
}

/** What the client compares with; null: there is nothing. The caller closes it. */
function listOf(job: StoreSetJob, parent: StoredSet | null, partial: string): ByteFile | null {
  if (job.adopted !== null) return new PlainFile(join(partial, KEPT_LIST_FILE));
  return parent === null ? null : parent.openList();
}

async function withList<T>(
  from: ByteFile | null,
  library: Library,
  parent: StoredSet | null,
  stream: MoverStream,
  work: (list: ListServer | null) => T | Promise<T>,
): Promise<T> {
  if (from === null) return work(null);
  try {
    const chain = parent === null ? [] : openChain(library, parent);
    const directories = chain.map((set) => set.directory);
    return await work(new ListServer(stream, from, directories));
  } finally {
    from.close();
  }
}

async function store(
  library: Library,
  job: StoreSetJob,
  stream: MoverStream,
  parent: StoredSet | null,
) {
  const set = beginSet(library, job, parent);
  begun({ home: set.home, directory: set.partialDirectory });
  const from = listOf(job, parent, set.partialDirectory);
  const { entries, bytes } = await withList(from, library, parent, stream, (list) =>
    storeSet(stream, set, stream.progress, list),
  );
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
  if (!job.dryRun) return store(library, job, stream, parent);
  const from = listOf(job, parent, '');
  const { entries, bytes } = await withList(from, library, parent, stream, (list) =>
    receiveDryRun(stream, list),
  );
  return { totals: stream.totals(entries, bytes), result: null };
});
