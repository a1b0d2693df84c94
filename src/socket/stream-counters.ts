/**
 * What a stream has waited for and whom it has woken: the two rings of one end, added up.
 *
 * Counted since this thread has the stream. Any thread, of its own streams.
 */
import { native } from '../native.js';

/** Of a socket on an event loop, which looks before it sleeps for all its sockets together. */
export type SocketCounters = Omit<StreamCounters, 'pollHits' | 'pollMisses'>;

/** Counts of one end, both directions together. */
export interface StreamCounters {
  /** Bells and futex calls for the peer. */
  readonly wakesSent: number;
  /** Publications that needed no bell: the peer was awake. */
  readonly wakesSuppressed: number;
  /** Waits of a blocking call that ended while it looked, and such that looked in vain and slept. */
  readonly pollHits: number;
  readonly pollMisses: number;
  /** Times that the sender found no empty page: the peer is the slower one. */
  readonly waitsForEmptyPage: number;
  /** Times that the receiver found no full page: the peer, or whoever feeds it, is the slower one. */
  readonly waitsForFullPage: number;
  /**
   * What no wake-up has announced and only the end of a slice, or an event loop's safety timer, has
   * found; expected: 0.
   */
  readonly safetyFirings: number;
}

/**
 * @param tx ring numbers of this thread
 * @param rx the other direction's
 */
export function streamCounters(tx: number, rx: number): StreamCounters {
  const sent = native().ringCounters(tx);
  const received = native().ringCounters(rx);
  return {
    wakesSent: sent.wakesSent + received.wakesSent,
    wakesSuppressed: sent.wakesSuppressed + received.wakesSuppressed,
    pollHits: sent.pollHits + received.pollHits,
    pollMisses: sent.pollMisses + received.pollMisses,
    waitsForEmptyPage: sent.waits,
    waitsForFullPage: received.waits,
    safetyFirings: sent.safetyFirings + received.safetyFirings,
  };
}

/** @param tx ring numbers of this thread */
export function socketCounters(tx: number, rx: number): SocketCounters {
  const { pollHits: _hits, pollMisses: _misses, ...counters } = streamCounters(tx, rx);
  return counters;
}
