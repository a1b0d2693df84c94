/**
 * The thread of a walk and those of its further streams: jobs one way, results the other.
 *
 * Both ends block, so messages are looked for and not waited for with an event loop: word n of a
 * shared array counts what was posted to lane n, word 0 what all lanes posted to the walk. A post is
 * the message, then the count, then the wake; a wait begins with the count that was read before the
 * look. So no wake is lost. Worker threads; `openLanes` on the event loop.
 */
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  type Transferable,
} from 'node:worker_threads';
import type { Lane, LaneJob, LaneResult, Lanes } from '../library/spread.js';
import type { LaneEnd } from './jobs.js';

/** To a lane: a job, or null when there are no more. */
type ToLane = LaneJob | null;

/**
 * For `count` further streams: what the thread of the walk gets, and what each lane does.
 * @param firstMedium number of the walk's own
 */
export function openLanes(count: number, firstMedium = 0): { walk: LaneEnd[]; lanes: LaneEnd[] } {
  const words = new Int32Array(new SharedArrayBuffer((1 + count) * 4));
  const walk: LaneEnd[] = [];
  const lanes: LaneEnd[] = [];
  for (let lane = 1; lane <= count; lane++) {
    const { port1, port2 } = new MessageChannel();
    const medium = firstMedium + lane;
    walk.push({ words, port: port1, lane, medium });
    lanes.push({ words, port: port2, lane, medium });
  }
  return { walk, lanes };
}

function post(port: MessagePort, message: unknown, words: Int32Array, word: number): void {
  port.postMessage(message, [] as Transferable[]);
  Atomics.add(words, word, 1);
  Atomics.notify(words, word);
}

/** The walk's end. */
export function lanesOf(ends: readonly LaneEnd[]): Lanes {
  const laneOf = ({ words, port, lane }: LaneEnd): Lane => ({
    give: (job: LaneJob) => post(port, job satisfies ToLane, words, lane),
    take: () => (receiveMessageOnPort(port)?.message as LaneResult | undefined) ?? null,
    end: () => post(port, null satisfies ToLane, words, lane),
  });
  const [first] = ends;
  let seen = 0;
  return {
    lanes: ends.map(laneOf),
    wait: () => {
      if (first === undefined) return;
      Atomics.wait(first.words, 0, seen);
      seen = Atomics.load(first.words, 0);
    },
  };
}

/** A lane's end: does jobs until there are no more. */
export function serveLane(end: LaneEnd, work: (job: LaneJob) => LaneResult): void {
  const { words, port, lane } = end;
  for (;;) {
    const seen = Atomics.load(words, lane);
    const found = receiveMessageOnPort(port);
    if (found === undefined) {
      Atomics.wait(words, lane, seen);
      continue;
    }
    const job = found.message as ToLane;
    if (job === null) return;
    post(port, work(job), words, 0);
  }
}
