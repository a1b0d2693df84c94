/**
 * What the movers are told to do and what they bring back: plain data, posted to workers.
 */
import type { SetMeta } from '../library/library.js';
import type { SetSummary } from '../library/set-writer.js';

export interface SendTreeJob {
  /** Real paths, checked against the client's roots. */
  readonly roots: readonly Uint8Array[];
}

export interface StoreSetJob {
  readonly library: string;
  readonly meta: SetMeta;
}
export type StoreSetResult = SetSummary;

export interface SendSetJob {
  readonly library: string;
  readonly set: string;
  /** Stored paths; empty for all of the set. */
  readonly selected: readonly Uint8Array[];
}

export interface RestoreSetJob {
  /** Checked against the client's restore roots. */
  readonly target: string;
}
export interface RestoreSetResult {
  /** Entries that belong to somebody else now: only root gives files away. */
  readonly ownersNotSet: number;
}
