/**
 * A connection on its way to a thread that may block: what `STPConnect.handOver` gives and
 * `BlockingConnect.adopt` takes. Post it with `transferList: given.transfer`.
 */
import type { MessagePort } from 'node:worker_threads';
import type { StreamHandle } from '../socket/stp-socket.js';
import type { Address, Peer } from './endpoint.js';

/** The connection itself, as its mechanism hands it over. */
export type Transfer =
  | {
      readonly mechanism: 'stp';
      readonly stream: StreamHandle;
      readonly transfer: readonly MessagePort[];
    }
  | {
      readonly mechanism: 'inet';
      /** For adoption, once: native/tcp.cc. */
      readonly socket: number;
      /** Bytes that the event loop had read already. */
      readonly leading: Uint8Array;
      readonly transfer: readonly MessagePort[];
    };

/** To be posted to another thread, and adopted there once. */
export type HandedOver = Transfer & {
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  /** Why it is of the network, a REASON_ number. */
  readonly reason: number;
};
