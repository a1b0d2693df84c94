/**
 * Where the time of a mover goes: who waits for whom, as NetBackup's oldest advice has it.
 *
 *   wall     from the first byte (who receives) or the start (who sends) to the last
 *   peer     no empty page, or no full one: the other side has not come so far
 *   array    calls of the stream that did not wait for the peer: claims, copies, wake-ups, no page left
 *   rate     slept for a limit of bytes a second
 *   user     CPU of the thread outside of the kernel: hashing, headers, looking before it sleeps
 *   system   CPU in the kernel: the file system, copies between page cache and pages
 *
 * What is left of wall is this side's own work: scanning, reading, hashing, writing. They stand behind
 * the numbers of the progress, in memory that the event loop sees. Times are ms.
 */
import { readFileSync } from 'node:fs';

export const TIME_NAMES = ['wall', 'peer', 'array', 'rate', 'user', 'system'] as const;
export type TimeName = (typeof TIME_NAMES)[number];
export type MoverTimes = Readonly<Record<TimeName, number>>;

/** Before them: entries, bytes, bytes moved, and one that somebody else may use. */
const TIMES_AT = 4;
export const MOVER_NUMBERS = TIMES_AT + TIME_NAMES.length;
const [WALL, PEER, ARRAY, RATE, USER, SYSTEM] = TIME_NAMES.map((_, i) => TIMES_AT + i) as [
  number,
  number,
  number,
  number,
  number,
  number,
];

export const timesOf = (numbers: Float64Array): MoverTimes =>
  Object.fromEntries(TIME_NAMES.map((name, i) => [name, numbers[TIMES_AT + i] ?? 0])) as MoverTimes;

/** Of several movers of one side. */
export const sumTimes = (all: readonly MoverTimes[]): MoverTimes =>
  Object.fromEntries(
    TIME_NAMES.map((name) => [name, all.reduce((sum, times) => sum + times[name], 0)]),
  ) as MoverTimes;

/** A call that takes longer may have slept: less is a claim, a copy of a few words, a short look. */
const HAND_OVER_MS = 0.02;

/** USER_HZ, which Linux has everywhere. */
const TICKS_PER_SECOND = 100;

/** CPU of the calling thread, ms: see proc_pid_stat(5). */
function threadCpu(): { user: number; system: number } {
  const text = readFileSync('/proc/thread-self/stat', 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ms = (field: string | undefined): number => (Number(field) * 1000) / TICKS_PER_SECOND;
  return { user: ms(fields[11]), system: ms(fields[12]) };
}

/** Of one mover's thread; each call of the stream is followed by one of these. */
export class Stopwatch {
  readonly #numbers: Float64Array;
  readonly #cpu = threadCpu();
  #startMs = performance.now();
  #waits = 0;
  #hasMoved = false;

  constructor(numbers: Float64Array) {
    this.#numbers = numbers;
  }

  /**
   * A call that may wait for the peer, begun at `fromMs`.
   * @param waits how often the stream has waited so far; asked only if it may have
   */
  waited(fromMs: number, waits: () => number): void {
    const nowMs = performance.now();
    const ms = nowMs - fromMs;
    if (ms < HAND_OVER_MS) {
      this.#add(ARRAY, ms);
      return;
    }
    const before = this.#waits;
    this.#waits = waits();
    // Until the first byte the peer sets the session up: commands, handshakes, threads.
    if (!this.#hasMoved) this.#startMs = nowMs;
    else this.#add(this.#waits > before ? PEER : ARRAY, ms);
  }

  /** A call that published bytes, begun at `fromMs`. */
  moved(fromMs: number): void {
    this.#hasMoved = true;
    const nowMs = performance.now();
    this.#add(ARRAY, nowMs - fromMs);
    this.#numbers[WALL] = nowMs - this.#startMs;
  }

  slowed(ms: number): void {
    this.#add(RATE, ms);
  }

  /** All has moved. */
  end(): void {
    const { user, system } = threadCpu();
    this.#numbers[USER] = user - this.#cpu.user;
    this.#numbers[SYSTEM] = system - this.#cpu.system;
    this.#numbers[WALL] = performance.now() - this.#startMs;
  }

  #add(at: number, ms: number): void {
    this.#numbers[at] = (this.#numbers[at] as number) + ms;
  }
}

/** Shares of the time of both sides' movers, 0 to 1, in which somebody waited for that part. */
export interface Waited {
  readonly clientDisk: number;
  readonly serverDisk: number;
  readonly array: number;
  readonly rateLimit: number;
}

export type Slowest = keyof Waited | null;

/** Less of its time nobody notices. */
const NOTICED_SHARE = 0.1;

const share = (part: number, times: MoverTimes): number =>
  times.wall > 0 ? Math.min(1, part / times.wall) : 0;

/** Which side waited for which. The client's disk is what the server waits for. */
export function waitedOf(client: MoverTimes, server: MoverTimes): Waited {
  return {
    clientDisk: share(server.peer, server),
    serverDisk: share(client.peer, client),
    array: Math.max(share(client.array, client), share(server.array, server)),
    rateLimit: Math.max(share(client.rate, client), share(server.rate, server)),
  };
}

/** The part that held the others up most; null where none did. */
export function slowestOf(waited: Waited): Slowest {
  const { rateLimit, ...parts } = waited;
  // Who is slowed down makes the other side wait.
  if (rateLimit >= NOTICED_SHARE) return 'rateLimit';
  const [first] = (Object.entries(parts) as [keyof Waited, number][]).sort((a, b) => b[1] - a[1]);
  return first && first[1] >= NOTICED_SHARE ? first[0] : null;
}
