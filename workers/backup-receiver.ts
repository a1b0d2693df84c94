/** Thread of `stpbackup server`: one storage stream into one set of the library. */
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import type { StoreSetJob, StoreSetResult } from '../src/backup/jobs.js';
import { begun, hold, type MoverStream, runMover } from '../src/backup/mover-thread.js';
import { KEPT_LIST_FILE } from '../src/library/interrupted.js';
import { Library, type StoredSet } from '../src/library/library.js';
import { ListServer } from '../src/library/list-transfer.js';
import type { FurtherMedium } from '../src/library/manifest.js';
import { chainThrough, indexPathOf, openChain } from '../src/library/set-tree.js';
import type { SetWriter } from '../src/library/set-writer.js';
import { receiveDryRun, storeSet } from '../src/library/store-set.js';
import { native } from '../src/native.js';

function beginSet(library: Library, job: StoreSetJob, parent: StoredSet | null): SetWriter {
  const adopted = job.adopted === null ? {} : { adopted: job.adopted };
  if (parent === null) return library.beginSet(job.meta, { hasList: job.hasList, ...adopted });
  const { summary } = parent;
  return library.beginSet(
    { ...job.meta, chain: chainThrough(summary) },
    {
      ...adopted,
      parent: { path: indexPathOf(parent), blake3: summary.indexBlake3 ?? '' },
      // Whoever prunes meanwhile must not leave a set without its parents.
      verifyChain: () => void openChain(library, library.openSet(parent.id)),
    },
  );
}

/** The list that the client compares with; null: there is none. */
function listOf(job: StoreSetJob, parent: StoredSet | null, partial: string): string | null {
  if (job.adopted !== null) return join(partial, KEPT_LIST_FILE);
  return parent === null ? null : indexPathOf(parent);
}

async function withList<T>(
  path: string | null,
  stream: MoverStream,
  work: (list: ListServer | null) => T | Promise<T>,
): Promise<T> {
  if (path === null) return work(null);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await work(new ListServer(stream, fd));
  } finally {
    closeSync(fd);
  }
}

async function store(
  library: Library,
  job: StoreSetJob,
  stream: MoverStream,
  parent: StoredSet | null,
) {
  const set = beginSet(library, job, parent);
  const { id, partialDirectory: directory } = set;
  begun({ set: id, directory });
  const path = listOf(job, parent, directory);
  const { entries, bytes } = await withList(path, stream, (list) =>
    storeSet(stream, set, stream.progress, list),
  );
  const totals = stream.totals(entries, bytes);
  // The client has its own account of what it sent: no set appears before the two agree.
  const more = await hold<readonly FurtherMedium[] | null>(totals);
  return { totals, result: set.commit(more ?? []) };
}

await runMover<StoreSetJob, StoreSetResult>(async (job, stream) => {
  const library = Library.open(job.library, { lockFile: (fd) => native().lockFile(fd) });
  const parent = job.parent === null ? null : library.openSet(job.parent);
  if (!job.dryRun) return store(library, job, stream, parent);
  const { entries, bytes } = await withList(listOf(job, parent, ''), stream, (list) =>
    receiveDryRun(stream, list),
  );
  return { totals: stream.totals(entries, bytes), result: null };
});
