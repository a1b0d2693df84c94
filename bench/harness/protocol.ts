/**
 * What the benchmark asks of a path, and what the two processes of a path say to it.
 *
 * Both processes of a path are children that live through the whole run. Requests go to the
 * receiver first; when it says `armed` the sender is started. Every duration is taken by the
 * sender's clock, from its first message to the receiver's acknowledgement over the path itself.
 */

import type { CaseName } from './cases.js';

export interface RoundRequest {
  readonly case: CaseName;
  /** Name of the path: which of the ways to do this case that one pair of processes has. */
  readonly variant: string;
  /** Bytes of a message. */
  readonly size: number;
  /** Messages of one call. */
  readonly batch: number;
  readonly seconds: number;
  /** Compare every byte, not samples: for rounds that do not count. */
  readonly verify: boolean;
  /** `ping-pong-rate`: messages offered a second. */
  readonly ratePerSecond: number;
  /** Cases of many connections: how many. */
  readonly connections: number;
}

export interface RoundReport {
  readonly bytes: number;
  readonly messages: number;
  /** The sender's; 0 from a receiver. */
  readonly seconds: number;
  /** CPU seconds of the process during the round. */
  readonly cpuSeconds: number;
  /** Of what arrived at this side; absent where nothing but an acknowledgement did. */
  readonly digest?: string;
  /** Encoded latencies of the sender, in cases that take them. */
  readonly histogram?: string;
  /** `fairness`: what the greedy connection moved meanwhile, and how even the modest ones were. */
  readonly greedy?: Greedy;
}

export interface Greedy {
  readonly bytes: number;
  /** Least messages of a modest connection, as a share of their mean. */
  readonly shareMin: number;
}

export type Side = 'receiver' | 'sender';

/** How a receiver can be reached: a TCP port, a socket's path, an STP port. */
export type Address = string | number;

export interface OpenRequest {
  readonly op: 'open';
  readonly side: Side;
  /** A private directory for sockets. */
  readonly directory: string;
  /** Run directory of the private array, for STP paths. */
  readonly runDirectory?: string;
  readonly stg: string;
  /** Sender: where the receiver is. */
  readonly address?: Address;
  /** Sender of an idle path: how many connections it makes. */
  readonly connections?: number;
}

export type ToChild =
  | OpenRequest
  | { readonly op: 'round'; readonly request: RoundRequest }
  /** After `paused`. */
  | { readonly op: 'go-on' };

export type FromChild =
  /** Receiver: listening. */
  | { readonly op: 'listening'; readonly address: Address }
  /** Both: the connection stands. */
  | { readonly op: 'connected' }
  | { readonly op: 'armed' }
  /** In the middle of a round: everything stands still, look at us, then say `go-on`. */
  | { readonly op: 'paused' }
  | { readonly op: 'done'; readonly report: RoundReport }
  | { readonly op: 'failed'; readonly message: string };
