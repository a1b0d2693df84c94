/**
 * What a backup takes over from an interrupted one, decided before its session begins.
 *
 * The lock of the interrupted one is held from the first look until the new set has its files, or
 * the session is over: nobody removes or takes it meanwhile. Event loop only; the look at all its
 * bytes is a thread's.
 */
import { Worker } from 'node:worker_threads';
import { stpError } from '../errors.js';
import { findInterrupted, type ResumeKey, removeFound } from '../library/interrupted.js';
import type { Adopted } from '../library/kept-lines.js';
import type { Library } from '../library/library.js';
import { MEDIA_MAX } from '../library/manifest.js';
import type { ParentList } from '../library/tree-merge.js';
import { workerFile } from '../package-files.js';
import type { AdoptJob, AdoptMessage } from './jobs.js';

export interface Resumed {
  readonly adopted: Adopted;
  /** Lets go of what is left of it; again is no error. */
  release(): void;
}

export interface ResumeOptions {
  readonly key: ResumeKey;
  readonly parent: ParentList | null;
  readonly streams: number;
  readonly signal: AbortSignal;
  /** Told what people should know. */
  readonly say: (text: string) => void;
}

/** Null if there is nothing to take over. @throws the signal's reason; EIO */
export async function resumeFrom(
  library: Library,
  options: ResumeOptions,
): Promise<Resumed | null> {
  const { key, parent, streams, signal, say } = options;
  const found = findInterrupted(library, key);
  if (found === null) return null;
  const release = library.takeLock(found.id);
  // Another backup of the same trees is at it.
  if (release === null) return null;
  let isReleased = false;
  const releaseOnce = (): void => {
    if (!isReleased) release();
    isReleased = true;
  };
  try {
    say(`looking at what the backup of ${found.startedAt} left when it was interrupted`);
    const message = await runChecker({ found, parent }, signal);
    const refusal =
      message.type === 'refused' ? message.reason : refusalOf(message.adopted, streams);
    if (message.type === 'adopted' && refusal === null) {
      return { adopted: message.adopted, release: releaseOnce };
    }
    say(`nothing of it is taken over: ${refusal}`);
    removeFound(found);
    releaseOnce();
    return null;
  } catch (e) {
    releaseOnce();
    throw e;
  }
}

function refusalOf(adopted: Adopted, streams: number): string | null {
  if (adopted.media.length + streams <= MEDIA_MAX) return null;
  return `a set has at most ${MEDIA_MAX} media`;
}

function runChecker(job: AdoptJob, signal: AbortSignal): Promise<AdoptMessage> {
  signal.throwIfAborted();
  const worker = new Worker(workerFile('interrupted-checker'), {
    workerData: job,
    name: 'interrupted-checker',
  });
  return new Promise<AdoptMessage>((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason);
      void worker.terminate();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => {
      signal.removeEventListener('abort', onAbort);
      reject(stpError('ECANCELED', 'the look at the interrupted backup was stopped'));
    });
  });
}
