/**
 * The options of a socket: their names, what they may be, and where they mean something. One table
 * for both mechanisms and both forms of the calls.
 *
 * An option is taken by a mechanism if its promise holds there, also where nothing needs to be done
 * for it (a small write is never delayed on STP, so `noDelay` holds). What cannot be promised is
 * ENOPROTOOPT, not ignored.
 */
import { stpError } from '../errors.js';
import { PAGE_BYTES, WINDOW_BYTES } from '../layout/tables.js';
import { POLL_US_MAX } from '../limits.js';
import { MS_MAX } from './bounds.js';
import type { Family, Kind } from './descriptor-table.js';

/** The names by which POSIX programs know them. */
export const SO_RCVTIMEO = 'receiveTimeoutMs';
export const SO_SNDTIMEO = 'sendTimeoutMs';
export const SO_LINGER = 'lingerMs';
export const SO_SNDBUF = 'sendBufferBytes';
export const SO_RCVBUF = 'receiveBufferBytes';
export const SO_REUSEADDR = 'reuseAddress';
export const SO_KEEPALIVE = 'keepAlive';
export const TCP_NODELAY = 'noDelay';
export const O_NONBLOCK = 'nonBlocking';
export const SO_SPIN = 'spinMicroseconds';
/** To read only. */
export const SO_ERROR = 'error';
export const SO_TYPE = 'type';
export const SO_PEERCRED = 'peerCredentials';
export const SO_MECHANISM = 'mechanism';
export const SO_REASON = 'reason';

/** What a descriptor remembers of them; an accepted socket begins with its listener's. */
export interface SocketOptions {
  /** Limit of each waiting call that names none, milliseconds; 0: none. ETIMEDOUT. */
  timeoutMs: number;
  /** Limit of accept and receive, milliseconds; 0: none. EAGAIN, as POSIX has it. */
  receiveTimeoutMs: number;
  /** Limit of send (EAGAIN, or fewer bytes) and connect (EINPROGRESS), milliseconds; 0: none. */
  sendTimeoutMs: number;
  /** Calls do not wait: EAGAIN, fewer bytes, EINPROGRESS. */
  nonBlocking: boolean;
  /** close: null waits up to 2 s for what is unsent, 0 resets, n waits n ms and then resets. */
  lingerMs: number | null;
  noDelay: boolean;
  keepAlive: boolean;
  /** A port may be bound again while connections of its last holder fade away. */
  reuseAddress: boolean;
  /** Most bytes on their way from here; null: the mechanism's own. */
  sendBufferBytes: number | null;
  receiveBufferBytes: number | null;
  /**
   * How long who waits for the socket looks before it sleeps: a blocking call, or the event loop on
   * its account. null: 50; 0 for a blocking call with less than two cores.
   */
  spinMicroseconds: number | null;
}

export const defaultOptions: Readonly<SocketOptions> = {
  timeoutMs: 0,
  receiveTimeoutMs: 0,
  sendTimeoutMs: 0,
  nonBlocking: false,
  lingerMs: null,
  // Small requests and answers is what runs over inet here; Nagle would add 40 ms to some.
  noDelay: true,
  keepAlive: false,
  reuseAddress: true,
  sendBufferBytes: null,
  receiveBufferBytes: null,
  spinMicroseconds: null,
};

interface Rule {
  readonly families: readonly Family[];
  readonly rule: string;
  readonly holds: (value: unknown) => boolean;
}

const integer = (min: number, max: number): Pick<Rule, 'rule' | 'holds'> => ({
  rule: `an integer from ${min} to ${max}`,
  holds: (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
});
const boolean: Pick<Rule, 'rule' | 'holds'> = {
  rule: 'true or false',
  holds: (value) => typeof value === 'boolean',
};
const orNull = ({ rule, holds }: Pick<Rule, 'rule' | 'holds'>): Pick<Rule, 'rule' | 'holds'> => ({
  rule: `${rule}, or null`,
  holds: (value) => value === null || holds(value),
});
const both: readonly Family[] = ['inet', 'stp'];

const rules: Readonly<Record<keyof SocketOptions, Rule>> = {
  timeoutMs: { families: both, ...integer(0, MS_MAX) },
  receiveTimeoutMs: { families: both, ...integer(0, MS_MAX) },
  sendTimeoutMs: { families: both, ...integer(0, MS_MAX) },
  nonBlocking: { families: both, ...boolean },
  lingerMs: { families: both, ...orNull(integer(0, MS_MAX)) },
  noDelay: { families: both, ...boolean },
  keepAlive: { families: both, ...boolean },
  reuseAddress: { families: both, ...boolean },
  // On STP a window is whole pages, and no larger than a page list.
  sendBufferBytes: { families: both, ...integer(PAGE_BYTES, WINDOW_BYTES) },
  // What may lie unread on STP is the sender's to say: its sendBufferBytes.
  receiveBufferBytes: { families: ['inet'], ...integer(PAGE_BYTES, WINDOW_BYTES) },
  spinMicroseconds: { families: ['stp'], ...orNull(integer(0, POLL_US_MAX)) },
};

const means = (kind: Kind, families: readonly Family[]): boolean =>
  kind === 'either' || families.includes(kind);

/** True if it is one of these options; others are the endpoint's, or read-only, or unknown. */
export const isSocketOption = (name: string): name is keyof SocketOptions => name in rules;

/** True for what is set before connect or listen, and is the endpoint's own: TLS. */
export const isEndpointOption = (kind: Kind, name: string): boolean =>
  name === 'psk' && kind !== 'stp';

/**
 * Sets one of them.
 * @throws ENOPROTOOPT where it means nothing, EINVAL with the rule that the value breaks
 */
export function setOption(
  kind: Kind,
  options: SocketOptions,
  name: keyof SocketOptions,
  value: unknown,
): void {
  const { families, rule, holds } = rules[name];
  if (!means(kind, families)) throw noOption(kind, name, 'setsockopt');
  if (!holds(value)) throw stpError('EINVAL', `option ${name}: must be ${rule}`, 'setsockopt');
  (options as unknown as Record<string, unknown>)[name] = value;
}

/** @throws ENOPROTOOPT where it means nothing */
export function getOption(
  kind: Kind,
  options: SocketOptions,
  name: keyof SocketOptions,
): SocketOptions[keyof SocketOptions] {
  if (!means(kind, rules[name].families)) throw noOption(kind, name, 'getsockopt');
  return options[name];
}

/** What an accepted socket has: its listener's, but for `nonBlocking`. */
export const inherited = (listener: Readonly<SocketOptions>): SocketOptions => ({
  ...listener,
  nonBlocking: false,
});

export const noOption = (kind: Kind, name: string, call: string): Error =>
  stpError('ENOPROTOOPT', `${kind} sockets have no option ${name}`, call);
