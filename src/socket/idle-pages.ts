/**
 * The streams of this thread that have sent, and whose pages go back once they are idle: after
 * IDLE_PAGES_MS, and sooner while other streams of the STG find no page.
 *
 * Only the thread that has a stream may touch its page list, so each looks after its own: by a timer
 * where it has an event loop, and at the end of a slice where it blocks. A thread that does neither
 * for a while (it computes, or waits for something else) keeps its pages for so long.
 */
import { monotonicMs } from '../clock.js';
import { IDLE_PAGES_MS, WANTED_PAGES_MS } from '../limits.js';
import { native } from '../native.js';

export interface PageUser {
  /** Ring that it produces into; negative once that is closed, or another thread's. */
  readonly tx: number;
  /** Of who takes and gives whole pages: the ring that has one ready for the next. */
  readonly spare?: number;
  /** Number of the STG's native view. */
  readonly view: number;
  /** Stands in the list here. */
  dirty: boolean;
}

/** By the view of their STG. */
const users = new Map<number, Set<PageUser>>();
let timer: NodeJS.Timeout | undefined;
/** When the timer comes, and when it looks at all streams, however much there is. */
let dueMs = 0;
let idleDueMs = 0;

/** It may hold pages from now on. */
export function watchPages(user: PageUser): void {
  user.dirty = true;
  const others = users.get(user.view);
  if (others !== undefined) others.add(user);
  else users.set(user.view, new Set([user]));
  if (timer !== undefined) return;
  idleDueMs = monotonicMs() + IDLE_PAGES_MS;
  plan();
}

export function forgetPages(user: PageUser): void {
  user.dirty = false;
  const others = users.get(user.view);
  others?.delete(user);
  if (others?.size === 0) users.delete(user.view);
}

function plan(): void {
  dueMs = monotonicMs() + WANTED_PAGES_MS;
  timer = setTimeout(look, WANTED_PAGES_MS).unref();
}

/** For threads that block: what the timer would have done by now. */
export function releaseIdlePages(): void {
  if (timer === undefined || monotonicMs() < dueMs) return;
  clearTimeout(timer);
  look();
}

function look(): void {
  timer = undefined;
  const now = monotonicMs();
  const all = now >= idleDueMs;
  if (all) idleDueMs = now + IDLE_PAGES_MS;
  for (const [view, own] of users) {
    if (!all && !native().stgWanted(view)) continue;
    for (const user of own) {
      if (user.spare !== undefined) native().ringReleaseIdle(user.spare);
      if (user.tx < 0 || native().ringReleaseIdle(user.tx) === 0) forgetPages(user);
    }
  }
  if (users.size > 0) plan();
}
