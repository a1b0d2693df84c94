/**
 * Which paths the transport suite has, what each can do, and how often and how large. Pure.
 */
import type { CaseName } from '../harness/cases.js';
import type { Content } from '../harness/content.js';
import type { RingMode } from '../harness/ring-path.js';

export type PathKind =
  /** bench/native/memcpy_2p.c. */
  | { readonly ring: RingMode }
  /** Two processes, or two threads of one, that live through the run. */
  | {
      readonly module: string;
      readonly content: Content;
      readonly array: boolean;
      readonly threads?: true;
      /** Paths of one module with this mark share their processes. */
      readonly shared?: true;
    };

export interface PathSpec {
  readonly name: string;
  readonly cases: readonly CaseName[];
  readonly kind: PathKind;
  /** Largest message, where the path's own rules set one. */
  readonly sizeMax?: number;
}

const ZERO_COPY_BYTES_MAX = 1 << 20;

const SOCKET_CASES: readonly CaseName[] = [
  'stream',
  'ping-pong',
  'ping-pong-rate',
  'message-rate',
  'connect-rate',
  'fairness',
];

const sockets = (module: string, more: readonly CaseName[] = []): PathSpec => ({
  name: module,
  cases: [...SOCKET_CASES, ...more],
  kind: { module, content: 'copied', array: module.startsWith('stp-') },
});

const streamOnly = (module: string, more: { threads?: true } = {}): PathSpec => ({
  name: module,
  cases: ['stream'],
  kind: { module, content: 'copied', array: module.startsWith('stp-'), ...more },
});

const neighbour = (name: string): PathSpec => ({
  name,
  cases: ['neighbour'],
  kind: { module: 'neighbour', content: 'copied', array: true, shared: true },
});

export const PATHS: readonly PathSpec[] = [
  {
    name: 'stp-zero-copy',
    cases: ['stream'],
    kind: { module: 'stp-zero-copy', content: 'filled', array: true },
    sizeMax: ZERO_COPY_BYTES_MAX,
  },
  {
    name: 'stp-copy',
    cases: ['stream', 'ping-pong-spin', 'message-rate', 'message-rate-batch'],
    kind: { module: 'stp-copy', content: 'copied', array: true },
  },
  sockets('stp-duplex', ['ping-pong-nopoll', 'connections', 'idle']),
  streamOnly('stp-onread'),
  sockets('tcp', ['message-rate-batch']),
  sockets('unix', ['message-rate-batch', 'connections']),
  streamOnly('tcp-onread'),
  streamOnly('unix-onread'),
  streamOnly('zeromq-ipc'),
  streamOnly('message-port', { threads: true }),
  { name: 'memcpy', cases: ['stream'], kind: { ring: 'memcpy' } },
  { name: 'memcpy-2p', cases: ['stream', 'ping-pong-spin'], kind: { ring: 'copy' } },
  {
    name: 'memcpy-2p-sum',
    cases: ['stream'],
    kind: { ring: 'sum' },
    sizeMax: ZERO_COPY_BYTES_MAX,
  },
  neighbour('tcp-alone'),
  neighbour('tcp-beside-stp'),
  neighbour('tcp-beside-stp-nopoll'),
];

export const STREAM_SIZES: readonly number[] = [
  64, 1024, 4096, 16384, 65536, 262144, 1048576, 16777216, 268435456,
];
/** A tiny run shows that it works; the largest message takes its time anywhere. */
export const STREAM_SIZES_TINY: readonly number[] = [64, 4096, 65536, 1048576];

/** Message sizes of the rows of each case but `stream`; 0 where there is no message. */
export const SIZES: Readonly<Record<Exclude<CaseName, 'stream'>, readonly number[]>> = {
  'ping-pong': [64, 4096],
  'ping-pong-rate': [64],
  'ping-pong-nopoll': [64],
  'ping-pong-spin': [64],
  'message-rate': [64],
  'message-rate-batch': [64],
  'connect-rate': [0],
  fairness: [64],
  neighbour: [64],
  connections: [0],
  idle: [0],
};

/** A connection without a row's size is used for a message of this. */
export const SMALL_BYTES = 64;
/** `message-rate-batch`: messages a call. */
export const BATCH = 256;
/** `ping-pong-rate`: far below what any path can do, far above what a person notices. */
export const RATE_PER_SECOND = 1000;

/** How many connections a case has; undefined where it has one. */
export const CONNECTIONS: Partial<Record<CaseName, { full: number; tiny: number }>> = {
  /** Modest ones, beside the greedy one. */
  fairness: { full: 32, tiny: 4 },
  connections: { full: 10_000, tiny: 50 },
  idle: { full: 1000, tiny: 20 },
};
export const IDLE_HOSTS = { full: 10, tiny: 2 };

/** Cases that no distance of CPUs changes: after all others, a few rounds, whatever the probe says. */
export const SOLO_ROUNDS: Partial<Record<CaseName, number>> = { connections: 3, idle: 9 };
export const isSoloCase = (name: string): boolean => SOLO_ROUNDS[name as CaseName] !== undefined;
/** Rounds last at most half a second; shorter ones straddle fewer flips of the machine. */
export const ROUND_SECONDS = 0.3;
/** Solo cases: a second and more, or what it takes. */
export const SOLO_SECONDS = 1;
