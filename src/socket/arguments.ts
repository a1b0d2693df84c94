/**
 * What programs pass to `connect` and `listen`, in each of the forms that `node:net` takes, brought
 * into one; what cannot be is refused with Node's own codes. No state; any thread.
 */
import { hostname } from 'node:os';
import { nodeError } from '../errors.js';
import { BACKLOG_DEFAULT, POLL_US_MAX, PORT_MAX } from '../limits.js';
import type { OnReadOptions } from './onread.js';

/** As those of `new net.Socket`. */
export interface StpSocketOptions {
  /** True: the peer's end does not end this side. */
  readonly allowHalfOpen?: boolean;
  /** Bytes that may wait in the socket, in both directions; as `stream.Duplex` has it. */
  readonly highWaterMark?: number;
  readonly readableHighWaterMark?: number;
  readonly writableHighWaterMark?: number;
  /** Destroys the socket when aborted, at any time. */
  readonly signal?: AbortSignal;
  /** Reads go into a buffer of the caller, and no 'data' is emitted. */
  readonly onread?: OnReadOptions;
  /** Without effect: small writes are never delayed. */
  readonly noDelay?: boolean;
  /** Without effect: the peer's death is noticed without probes. */
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

/** As those of `net.connect`. */
export interface ConnectOptions extends StpSocketOptions {
  /** Of the STG, 1 to 65535. */
  readonly port: number | string;
  /** Name of the STG or of this machine, for programs that pass one; any other is EHOSTUNREACH. */
  readonly host?: string;
  /** The port to come from: one that `bind` reserved, or one that is free. Dynamic where absent. */
  readonly localPort?: number;
  /** As `setTimeout`, in milliseconds. */
  readonly timeout?: number;
}

export type ConnectArguments =
  | [options: ConnectOptions, onConnect?: (() => void) | undefined]
  | [port: number | string, host: string, onConnect?: () => void]
  | [port: number | string, onConnect?: () => void];

/** As those of `net.Server.listen`. */
export interface ListenOptions {
  /** 0, the default, for a dynamic one. */
  readonly port?: number | string | null;
  /** Name of the STG or of this machine, for programs that pass one; others are EADDRNOTAVAIL. */
  readonly host?: string;
  /** Connections that may wait to be accepted, up to 4096: 511. */
  readonly backlog?: number;
  /** Without effect: a port has one owner. */
  readonly exclusive?: boolean;
  /** Closes the server when aborted. */
  readonly signal?: AbortSignal;
}

export type ListenArguments =
  | [options: ListenOptions, onListening?: () => void]
  | [port?: number | string | null, host?: string, backlog?: number, onListening?: () => void]
  | [port: number | string | null, host: string, onListening?: () => void]
  | [port: number | string | null, backlog: number, onListening?: () => void]
  | [port: number | string | null, onListening?: () => void]
  | [onListening?: () => void];

export interface ConnectRequest {
  readonly port: number;
  readonly host: string | undefined;
  readonly localPort: number;
}

export interface ListenRequest {
  readonly port: number;
  readonly host: string | undefined;
  readonly backlog: number;
  readonly signal: AbortSignal | undefined;
}

type Callback = () => void;

const shown = (value: unknown): string =>
  typeof value === 'string' ? `'${value}'` : typeof value === 'object' ? typeof value : `${value}`;

const wrongType = (name: string, wanted: string, value: unknown): Error =>
  nodeError(TypeError, 'ERR_INVALID_ARG_TYPE', `${name} is ${shown(value)}: it must be ${wanted}`);

/** @throws ERR_SOCKET_BAD_PORT */
function portNumber(value: number | string, name: string): number {
  const port = typeof value === 'string' && value.trim() === '' ? Number.NaN : Number(value);
  if (Number.isInteger(port) && port >= 0 && port <= PORT_MAX) return port;
  throw nodeError(
    RangeError,
    'ERR_SOCKET_BAD_PORT',
    `${name} is ${shown(value)}: a port is a number from 0 to ${PORT_MAX}`,
  );
}

export function checkSignal(signal: unknown, name: string): asserts signal is AbortSignal {
  if (typeof signal !== 'object' || signal === null || !('aborted' in signal)) {
    throw wrongType(name, 'an AbortSignal', signal);
  }
}

/** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
export function checkTimeout(ms: unknown): asserts ms is number {
  if (typeof ms !== 'number') throw wrongType('msecs', 'a number of milliseconds', ms);
  if (ms >= 0 && Number.isFinite(ms)) return;
  throw nodeError(
    RangeError,
    'ERR_OUT_OF_RANGE',
    `msecs is ${ms}: it must be 0 for no time-out, or more`,
  );
}

/** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
export function checkSpin(us: unknown): asserts us is number | null {
  if (us === null) return;
  if (typeof us !== 'number') throw wrongType('microseconds', 'a number, or null', us);
  if (Number.isInteger(us) && us >= 0 && us <= POLL_US_MAX) return;
  throw nodeError(
    RangeError,
    'ERR_OUT_OF_RANGE',
    `microseconds is ${us}: it must be a whole number, 0 for no look to ${POLL_US_MAX}, or null`,
  );
}

export function checkFunction(value: unknown, name: string): asserts value is Callback {
  if (typeof value !== 'function') throw wrongType(name, 'a function', value);
}

function checkNumber(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'number') throw wrongType(name, 'a number', value);
}

/** @throws what `new net.Socket` throws for them */
export function checkSocketOptions(options: StpSocketOptions): void {
  for (const mode of ['objectMode', 'readableObjectMode', 'writableObjectMode']) {
    if ((options as Record<string, unknown>)[mode]) {
      throw nodeError(
        TypeError,
        'ERR_INVALID_ARG_VALUE',
        `options.${mode}: a socket carries bytes, not objects`,
      );
    }
  }
  checkNumber(options.keepAliveInitialDelay, 'options.keepAliveInitialDelay');
  if (options.signal !== undefined) checkSignal(options.signal, 'options.signal');
}

/** @throws what `net.createServer` throws for them */
export function checkServerOptions(options: object): void {
  if (typeof options !== 'object') throw wrongType('options', 'an object', options);
  const { keepAliveInitialDelay, highWaterMark } = options as StpSocketOptions;
  checkNumber(keepAliveInitialDelay, 'options.keepAliveInitialDelay');
  checkNumber(highWaterMark, 'options.highWaterMark');
}

const isPort = (value: unknown): boolean =>
  typeof value === 'number' || (typeof value === 'string' && !Number.isNaN(Number(value)));

/** The options and the callback of a call of `connect`. */
export function connectForm(args: readonly unknown[]): {
  options: ConnectOptions;
  callback: Callback | undefined;
} {
  const [first, second] = args;
  const last = args[args.length - 1];
  const callback = typeof last === 'function' ? (last as Callback) : undefined;
  if (typeof first === 'object' && first !== null) {
    return { options: first as ConnectOptions, callback };
  }
  if (typeof first === 'string' && !isPort(first)) {
    return { options: { path: first } as unknown as ConnectOptions, callback };
  }
  const host = typeof second === 'string' ? { host: second } : {};
  return { options: { port: first as number, ...host }, callback };
}

/** @throws ERR_MISSING_ARGS, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_SOCKET_BAD_PORT */
export function connectRequest(options: ConnectOptions): ConnectRequest {
  const { port, host, localPort } = options;
  checkNoPath(options);
  if (port === undefined) {
    throw nodeError(TypeError, 'ERR_MISSING_ARGS', 'connect needs the port to connect to');
  }
  if (localPort !== undefined) checkNumber(localPort, 'options.localPort');
  if (typeof port !== 'number' && typeof port !== 'string') {
    throw wrongType('options.port', 'a number or a string', port);
  }
  return {
    port: portNumber(port, 'options.port'),
    host,
    localPort: localPort === undefined ? 0 : portNumber(localPort, 'options.localPort'),
  };
}

/** The options, and the callback, of a call of `listen`. */
export function listenForm(args: readonly unknown[]): {
  options: ListenOptions;
  backlog: number;
  callback: Callback | undefined;
} {
  const [first, second, third] = args;
  const last = args[args.length - 1];
  const callback = typeof last === 'function' ? (last as Callback) : undefined;
  const backlog = [second, third].map(Number).find((n) => n > 0) ?? BACKLOG_DEFAULT;
  if (typeof first === 'object' && first !== null) {
    const options = first as ListenOptions;
    return { options, backlog: options.backlog || backlog, callback };
  }
  if (typeof first === 'string' && !isPort(first)) {
    return { options: { path: first } as ListenOptions, backlog, callback };
  }
  const port = typeof first === 'function' ? undefined : (first as number | undefined);
  const host = typeof second === 'string' ? { host: second } : {};
  return { options: { port: port ?? 0, ...host }, backlog, callback };
}

/** @throws ERR_INVALID_ARG_VALUE, ERR_SOCKET_BAD_PORT, ERR_INVALID_ARG_TYPE */
export function listenRequest(options: ListenOptions, backlog: number): ListenRequest {
  const { port, host, signal } = options;
  if (signal !== undefined) checkSignal(signal, 'options.signal');
  checkNoPath(options);
  const asked = 'port' in options ? (port ?? 0) : undefined;
  if (typeof asked !== 'number' && typeof asked !== 'string') {
    throw nodeError(
      TypeError,
      'ERR_INVALID_ARG_VALUE',
      `options.port is ${shown(asked)}: listen needs a port, 0 for a dynamic one`,
    );
  }
  return { port: portNumber(asked, 'options.port'), host, backlog, signal };
}

function checkNoPath(options: object): void {
  if (!('path' in options) || options.path === undefined || options.path === null) return;
  throw nodeError(
    TypeError,
    'ERR_INVALID_ARG_VALUE',
    `options.path is ${shown(options.path)}: an STG has ports; for a Unix socket use node:net`,
  );
}

/** True for the names under which a program reaches the sockets of its own STG. */
export function isHere(host: string | undefined, stg: string): boolean {
  if (host === undefined || host === '' || host === stg || host === 'localhost') return true;
  return /^(127(\.\d{1,3}){3}|0\.0\.0\.0|::|::1)$/.test(host) || host === hostname();
}
