/**
 * One connection slot, read from an STG's memory.
 *
 * Its hosts can write every byte of it, so each word is loaded once, clamped, and believed for
 * display only: a lie shows wrong figures of that STG, and nothing else. Any thread.
 */
import { connectionOffset } from '../layout/geometry.js';
import {
  CONNECTION,
  DIRECTION,
  NUMBERS,
  PAGE_LIST_ENTRIES,
  WINDOW_BYTES,
} from '../layout/tables.js';
import { PORT_MAX } from '../limits.js';
import { addressText } from '../memory/address-words.js';
import { reasonText } from '../memory/reason-text.js';
import type { Segment } from '../memory/segment.js';
import type { SocketState } from './figures.js';
import type { StgPlace } from './places.js';

export type Waiter = 'nobody' | 'thread' | 'event loop';

/** What one end of a direction has counted. */
export interface DirectionCounts {
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly safetyFirings: number;
}

/** One direction: what the end of its number sends. */
export interface DirectionSample {
  /** Bytes between the cursors, at most the window. */
  readonly queuedBytes: number;
  readonly bytesProduced: number;
  readonly bytesConsumed: number;
  readonly fin: boolean;
  readonly reset: boolean;
  readonly closed: 'no' | 'orderly' | 'reset';
  /** Microseconds since 1970, as the hosts stamped them; 0 not yet. */
  readonly finishedAtUs: number;
  readonly closedAtUs: number;
  readonly producerWaits: number;
  readonly consumerWaits: number;
  readonly producerCounts: DirectionCounts;
  readonly consumerCounts: DirectionCounts;
  readonly producerSleeps: Waiter;
  readonly consumerSleeps: Waiter;
  readonly pages: number;
}

export interface ConnectionSample {
  readonly slot: number;
  readonly generation: number;
  /** Bit e: the host of end e has let go. */
  readonly closedEnds: number;
  readonly members: readonly [number, number];
  readonly ports: readonly [number, number];
  readonly mechanism: 'stp' | 'tcp';
  readonly reason: string | null;
  readonly remoteAddress: string | null;
  readonly openedAtUs: number;
  readonly directions: readonly [DirectionSample, DirectionSample];
}

const waiterOf = (word: number): Waiter =>
  word === NUMBERS.WAIT_FUTEX ? 'thread' : word === NUMBERS.WAIT_LOOP ? 'event loop' : 'nobody';

function closedOf(word: number): DirectionSample['closed'] {
  if (word === 0) return 'no';
  return word === NUMBERS.CLOSED_RESET ? 'reset' : 'orderly';
}

function pagesOf(segment: Segment, list: number): number {
  let pages = 0;
  for (let i = 0; i < PAGE_LIST_ENTRIES; i++) if (segment.load(list + i * 4) !== 0) pages++;
  return pages;
}

function readCounts(segment: Segment, base: number): DirectionCounts {
  const count = (which: number): number => segment.load(base + which * 4);
  return {
    wakesSent: count(NUMBERS.COUNT_WAKES_SENT),
    wakesSuppressed: count(NUMBERS.COUNT_WAKES_SUPPRESSED),
    pollHits: count(NUMBERS.COUNT_POLL_HITS),
    pollMisses: count(NUMBERS.COUNT_POLL_MISSES),
    safetyFirings: count(NUMBERS.COUNT_SAFETY_FIRINGS),
  };
}

function readDirection(segment: Segment, base: number): DirectionSample {
  const { at } = DIRECTION;
  const fin = segment.load(base + at.fin) !== 0;
  const reset = segment.load(base + at.reset) !== 0;
  /* Head first: read the other way round, a stream on the move could seem to hold too much. */
  const head = segment.load(base + at.head);
  const tail = segment.load(base + at.tail);
  return {
    queuedBytes: Math.min((tail - head) >>> 0, WINDOW_BYTES),
    bytesProduced: segment.counter(base + at.bytesProduced),
    bytesConsumed: segment.counter(base + at.bytesConsumed),
    fin,
    reset,
    closed: closedOf(segment.load(base + at.closed)),
    finishedAtUs: segment.counter(base + at.finishedAt),
    closedAtUs: segment.counter(base + at.closedAt),
    producerWaits: segment.load(base + at.producerWaits),
    consumerWaits: segment.load(base + at.consumerWaits),
    producerCounts: readCounts(segment, base + at.producerCounts),
    consumerCounts: readCounts(segment, base + at.consumerCounts),
    producerSleeps: waiterOf(segment.load(base + at.producerWait)),
    consumerSleeps: waiterOf(segment.load(base + at.consumerWait)),
    pages: pagesOf(segment, base + at.pages),
  };
}

type Mechanism = Pick<ConnectionSample, 'mechanism' | 'reason' | 'remoteAddress'>;

function readMechanism(segment: Segment, base: number): Mechanism {
  const { at } = CONNECTION;
  if (segment.load(base + at.mechanism) !== NUMBERS.MECHANISM_NETWORK) {
    return { mechanism: 'stp', reason: null, remoteAddress: null };
  }
  const words = [0, 4, 8, 12].map((word) => segment.load(base + at.remoteAddress + word));
  return {
    mechanism: 'tcp',
    reason: reasonText(segment.load(base + at.reason)),
    remoteAddress: addressText(words),
  };
}

/** The connection of a slot; undefined where it is free, or changed hands meanwhile. */
export function readConnection(
  segment: Segment,
  stg: StgPlace,
  slot: number,
): ConnectionSample | undefined {
  const { at } = CONNECTION;
  const base = connectionOffset(stg.extents, slot);
  if (segment.load(base + at.state) === NUMBERS.CONNECTION_FREE) return undefined;
  const generation = segment.load(base + at.generation);
  const port = (end: 0 | 1): number => Math.min(segment.load(base + at.ports + end * 4), PORT_MAX);
  const sample: ConnectionSample = {
    slot,
    generation,
    closedEnds: segment.load(base + at.closedEnds) & 3,
    members: [segment.load(base + at.members), segment.load(base + at.members + 4)],
    ports: [port(0), port(1)],
    ...readMechanism(segment, base),
    openedAtUs: segment.counter(base + at.openedAt),
    directions: [
      readDirection(segment, base + at.directions),
      readDirection(segment, base + at.directions + DIRECTION.bytes),
    ],
  };
  const same =
    segment.load(base + at.generation) === generation &&
    segment.load(base + at.state) !== NUMBERS.CONNECTION_FREE;
  return same ? sample : undefined;
}

/** The state as the end sees it. */
export function stateOf(sample: ConnectionSample, end: 0 | 1): SocketState {
  if (sample.mechanism === 'tcp') return 'ESTABLISHED';
  const out = sample.directions[end];
  const inn = sample.directions[end === 0 ? 1 : 0];
  const peerGone = (sample.closedEnds & (end === 0 ? 2 : 1)) !== 0;
  if (out.reset || inn.reset || out.closed === 'reset' || inn.closed === 'reset') return 'RESET';
  const receivesNoMore = inn.fin || peerGone;
  if (out.fin) return receivesNoMore ? 'CLOSING' : 'FIN-WAIT';
  return receivesNoMore ? 'CLOSE-WAIT' : 'ESTABLISHED';
}
