/**
 * The streams of this thread that have sent, and whose pages go back once they are idle.
 *
 * Only the thread that has a stream may touch its page list, so each looks after its own: by a timer
 * where it has an event loop, and at the end of a slice where it blocks. A thread that does neither
 * for a while (it computes, or waits for something else) keeps its pages for so long.
 */
import { monotonicMs } from '../clock.js';
import { IDLE_PAGES_MS } from '../limits.js';
import { native } from '../native.js';

export interface PageUser {
  /** Ring that it produces into; negative once that is closed, or another thread's. */
  readonly tx: number;
  /** Stands in the list here. */
  dirty: boolean;
}

const users = new Set<PageUser>();
let timer: NodeJS.Timeout | undefined;
let dueMs = 0;

/** It may hold pages from now on. */
export function watchPages(user: PageUser): void {
  user.dirty = true;
  users.add(user);
  if (timer === undefined) plan();
}

export function forgetPages(user: PageUser): void {
  user.dirty = false;
  users.delete(user);
}

function plan(): void {
  dueMs = monotonicMs() + IDLE_PAGES_MS;
  timer = setTimeout(release, IDLE_PAGES_MS).unref();
}

/** For threads that block: what the timer would have done by now. */
export function releaseIdlePages(): void {
  if (timer === undefined || monotonicMs() < dueMs) return;
  clearTimeout(timer);
  release();
}

function release(): void {
  timer = undefined;
  for (const user of users) {
    if (user.tx < 0 || native().ringReleaseIdle(user.tx) === 0) forgetPages(user);
  }
  if (users.size > 0) plan();
}
