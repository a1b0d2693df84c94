/**
 * What one end of a connection of the stress test has seen, and how its direction's pieces are cut.
 */
import type { ConnectionPlan, Plan } from './plan.js';

export interface EndReport {
  readonly id: number;
  readonly end: 0 | 1;
  readonly sent: number;
  readonly received: number;
  /**
   * How it came to its end: 'end' (the peer's orderly end was read), 'own' (this end reset or
   * closed it first, as planned), 'left' (its process let go of it, as planned), or a POSIX code.
   */
  readonly heard: string;
  /** Of a write, where that failed. */
  readonly writeCode?: string;
}

export interface ThreadCounters {
  /** Time that the thread was ready and did not run, ms. */
  readonly delayedMs: number;
  readonly safetyFirings: number;
}

/** One end of one connection, as whoever carries it out needs it. */
export interface EndTask {
  readonly seed: number;
  readonly plan: ConnectionPlan;
  readonly end: 0 | 1;
  readonly polls: boolean;
  /** Where files may be made. */
  readonly directory: string;
}

/** What end `end` is told to break, if it is this one. */
export function breakOf({ plan, end }: EndTask): { how: string; at: number } | undefined {
  return plan.breaks?.end === end ? plan.breaks : undefined;
}

/** Bytes that it sends before it ends or aborts. */
export function bytesToSend(task: EndTask): number {
  const broken = breakOf(task);
  if (broken?.how === 'abort') return broken.at;
  return task.plan.directions[task.end]?.bytes ?? 0;
}

/** Bytes after which it receives no more. */
export function bytesToReceive(task: EndTask): number {
  const broken = breakOf(task);
  return broken?.how === 'refuse' || broken?.how === 'terminate'
    ? broken.at
    : Number.POSITIVE_INFINITY;
}

/** A seed for the dice of one end: pieces and pauses. */
export const seedOfEnd = ({ seed, plan, end }: EndTask): number =>
  (Math.imul(seed, 31) + plan.id * 2 + end) >>> 0;

/** The port that end 0 connects from: it tells end 1 which connection it is. */
export const PORT_OF_FIRST = 2000;
export const portOf = (plan: ConnectionPlan): number => PORT_OF_FIRST + plan.id;
export const listeningPort = (process: number): number => 1000 + process;

export const codeOf = (error: unknown): string =>
  (error as { code?: string }).code ?? (error as Error).name;

/** Largest piece that is sent or received at once. */
export const PIECE_BYTES_MAX = 200_000;
/** Longest record. */
export const RECORD_BYTES = 30_000;
/** Longest pause, ms: longer than polls, than a slice of a wait, than what makes pages idle. */
export const PAUSE_MS_MAX = 8;
export const LONG_PAUSE_MS = 300;

export function connectionById(plan: Plan, id: number): ConnectionPlan {
  const connection = plan.connections[id];
  if (connection === undefined) throw new Error(`a connection that nobody planned: ${id}`);
  return connection;
}
