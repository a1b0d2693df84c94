/**
 * What the cases of the suites measure: unit, and what of a round is its value. Pure.
 */
import { type Histogram, microsecondsAt } from './histogram.js';

export type Unit =
  | 'GB/s'
  | 'µs'
  | 'messages/s'
  | 'connections/s'
  | 'bytes'
  | 'cores'
  | 's'
  | 'files/s';

/** What a value is made of. */
export interface Measured {
  readonly bytes: number;
  readonly messages: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly rssAnonBytes: number;
  readonly latencies?: Histogram;
}

export interface CaseSpec {
  readonly unit: Unit;
  /** More is better; else less is. */
  readonly more: boolean;
  readonly valueOf: (round: Measured) => number;
}

const p50 = ({ latencies }: Measured): number =>
  latencies === undefined ? Number.NaN : microsecondsAt(latencies, 50);

const latency: CaseSpec = { unit: 'µs', more: false, valueOf: p50 };

const messageRate: CaseSpec = {
  unit: 'messages/s',
  more: true,
  valueOf: ({ messages, seconds }) => messages / seconds,
};

const duration: CaseSpec = { unit: 's', more: false, valueOf: ({ seconds }) => seconds };

const TRANSPORT_SPECS = {
  stream: {
    unit: 'GB/s',
    more: true,
    valueOf: ({ bytes, seconds }) => bytes / seconds / 1e9,
  },
  'ping-pong': latency,
  'ping-pong-rate': latency,
  'ping-pong-nopoll': latency,
  'ping-pong-spin': latency,
  'message-rate': messageRate,
  'message-rate-batch': messageRate,
  'connect-rate': { ...messageRate, unit: 'connections/s' },
  fairness: latency,
  neighbour: latency,
  connections: { unit: 'bytes', more: false, valueOf: ({ rssAnonBytes }) => rssAnonBytes },
  idle: {
    unit: 'cores',
    more: false,
    valueOf: ({ cpuSeconds, seconds }) => cpuSeconds / seconds,
  },
} as const satisfies Record<string, CaseSpec>;

/** Of the suite `backup`; a message is a file or another entry there. */
const BACKUP_SPECS = {
  'many-small': duration,
  'few-large': duration,
  unchanged: { ...messageRate, unit: 'files/s' },
  postgresql: duration,
} as const satisfies Record<string, CaseSpec>;

export const CASE_SPECS = { ...TRANSPORT_SPECS, ...BACKUP_SPECS };

export type CaseName = keyof typeof TRANSPORT_SPECS;
export type BackupCase = keyof typeof BACKUP_SPECS;

export const CASES = Object.keys(TRANSPORT_SPECS) as readonly CaseName[];
export const BACKUP_CASES = Object.keys(BACKUP_SPECS) as readonly BackupCase[];

/** A row's case may come from a file. */
export const specOf = (name: string): CaseSpec | undefined =>
  (CASE_SPECS as Partial<Record<string, CaseSpec>>)[name];
