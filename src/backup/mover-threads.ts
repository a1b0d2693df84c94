/**
 * The threads of movers that have no job yet: mover.ts gives them one.
 *
 * Loads little, so that a program may have its thread started before anything else: the two then load
 * what they need side by side. Event loop only.
 */
import { Worker } from 'node:worker_threads';
import { workerFile } from '../package-files.js';

/** Entry points in workers/. */
export type MoverEntry =
  | 'backup-sender'
  | 'lane-reader'
  | 'medium-storer'
  | 'backup-receiver'
  | 'restore-sender'
  | 'restore-receiver'
  | 'stream-sender'
  | 'stream-storer'
  | 'stream-receiver'
  | 'base-backup-sender'
  | 'sqlite-sender';

/** A thread that nobody has used for so long ends. */
const IDLE_MS = 10 * 60_000;

/**
 * Threads that wait for a job, at most one an entry: loading takes longer than a handshake, and code
 * that has run before is compiled. They keep no process alive.
 */
const idle = new Map<MoverEntry, { readonly worker: Worker; readonly forget: () => void }>();

/** The first message of each thread: it has loaded what it runs. */
export const LOADED = { type: 'loaded' } as const;

/** Resolves when a thread has loaded, or is no more. */
const loading = new WeakMap<Worker, Promise<void>>();

function startThread(entry: MoverEntry): Worker {
  const worker = new Worker(workerFile(entry), { name: entry });
  const loaded = new Promise<void>((resolve) => {
    const onLoaded = (): void => {
      worker.off('message', onLoaded).off('exit', onLoaded);
      resolve();
    };
    worker.on('message', onLoaded).on('exit', onLoaded);
  });
  loading.set(worker, loaded);
  return worker;
}

/** Ends a thread. One that is ended while it loads leaves the file open, in Node 20 to 26. */
export async function endThread(worker: Worker): Promise<void> {
  await loading.get(worker);
  await worker.terminate();
}

/** Has a thread ready for the next job of this entry. */
export function prepareThread(entry: MoverEntry): void {
  if (!idle.has(entry)) keepThread(entry, startThread(entry));
}

/** Takes back a thread whose job is done. */
export function keepThread(entry: MoverEntry, worker: Worker): void {
  if (idle.has(entry)) {
    void worker.terminate();
    return;
  }
  worker.unref();
  const timer = setTimeout(() => void worker.terminate(), IDLE_MS).unref();
  const forget = (): void => {
    clearTimeout(timer);
    worker.off('error', forget).off('exit', forget);
    if (idle.get(entry)?.worker === worker) idle.delete(entry);
  };
  worker.on('error', forget).on('exit', forget);
  idle.set(entry, { worker, forget });
}

/** A thread for one job: the one that waits, or a new one. */
export function takeThread(entry: MoverEntry): Worker {
  const found = idle.get(entry);
  if (found === undefined) return startThread(entry);
  found.forget();
  found.worker.ref();
  return found.worker;
}
