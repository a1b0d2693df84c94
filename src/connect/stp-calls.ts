/**
 * The seed's calls by the seed's names: each is the layer's call of the same kind and nothing else.
 * The descriptor's value decides the mechanism, so that a program calls STPsend on whatever it has
 * (the seed does, in step 210, on a network connection). The layer decides how to wait: with
 * STPConnect each call gives a promise, with BlockingConnect the result itself.
 *
 * The seed names STPsocket, STPbind, STPlisten, STPgetsockname, STPconnect, STPaccept and STPsend;
 * the others complete the set. STPdial and STPserve take array first, else network.
 */
import type { BlockingConnect, BlockingOptions } from './blocking-connect.js';
import { AF_STP, type PollEntry, type PollResult } from './calls.js';
import type { Address, Target } from './endpoint.js';
import type { WaitOptions } from './limit.js';
import type { DialOptions, DialTarget, ServeOptions, ServeTarget } from './policy.js';
import type { STPConnect } from './stp-connect.js';

type Layer = STPConnect | BlockingConnect;
/** What a call gives: at once from a layer that blocks, else a promise. */
type Given<L, T> = L extends BlockingConnect ? T : Promise<T>;
type Waits<L> = L extends BlockingConnect ? BlockingOptions : WaitOptions;

const target = (at: number | Target): Target => (typeof at === 'number' ? { port: at } : at);

/**
 * A socket, not bound (seed steps 142, 162, 202, 240).
 * @param family AF_STP where absent
 * @throws EAFNOSUPPORT (no host for AF_STP), EMFILE
 */
export const STPsocket = (layer: Layer, family: number = AF_STP): number => layer.socket(family);

/**
 * Holds a port (144, 162, 204, 242).
 * @param at a port, 0 to 65535 (0: a dynamic one), or `{ host, port }` of a network socket
 * @throws EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOBUFS, ENETDOWN, EINVAL (out of turn)
 */
export const STPbind = <L extends Layer>(layer: L, fd: number, at: number | Target) =>
  layer.bind(fd, target(at)) as Given<L, void>;

/**
 * Listens (164, 206). Without a bind before, a dynamic port is taken.
 * @param backlog connections that may wait for accept, 1 to 4096; 511 where absent
 * @throws EADDRINUSE, EINVAL
 */
export const STPlisten = <L extends Layer>(layer: L, fd: number, backlog?: number) =>
  layer.listen(fd, backlog) as Given<L, void>;

/** Where it is bound (166, 208). @throws EBADF */
export const STPgetsockname = (layer: Layer, fd: number): Address => layer.getsockname(fd);

/** Where its peer is. @throws ENOTCONN, EBADF */
export const STPgetpeername = (layer: Layer, fd: number): Address => layer.getpeername(fd);

/**
 * Connects (146, 240). After a failure the descriptor is as new.
 * @param to a port, or `{ host, port }` of a network socket
 * @throws ECONNREFUSED, EINPROGRESS, EALREADY, EISCONN, ETIMEDOUT, ENOTFOUND, ENETDOWN
 */
export const STPconnect = <L extends Layer>(
  layer: L,
  fd: number,
  to: number | Target,
  options?: Waits<L>,
) => layer.connect(fd, target(to), options) as Given<L, void>;

/**
 * Waits for a connection (172, 212).
 * @returns its descriptor
 * @throws EAGAIN, ETIMEDOUT, EINVAL (does not listen), ENETDOWN (a layer that blocks, stpd gone)
 */
export const STPaccept = <L extends Layer>(layer: L, fd: number, options?: Waits<L>) =>
  layer.accept(fd, options) as Given<L, number>;

/**
 * Sends, and waits where there is no room (210).
 * @param data must stay as it is until the call is done
 * @returns bytes taken; fewer than there are only with `nonBlocking` or `sendTimeoutMs`
 * @throws EAGAIN, EPIPE, ECONNRESET, ETIMEDOUT
 */
export const STPsend = <L extends Layer>(
  layer: L,
  fd: number,
  data: Uint8Array,
  options?: Waits<L>,
) => layer.send(fd, data, options) as Given<L, number>;

/**
 * Waits for bytes.
 * @param bytesMax 1 or more
 * @returns 1 to `bytesMax` bytes; none is the peer's orderly end
 * @throws EAGAIN, ECONNRESET, ETIMEDOUT
 */
export const STPrecv = <L extends Layer>(
  layer: L,
  fd: number,
  bytesMax: number,
  options?: Waits<L>,
) => layer.receive(fd, bytesMax, options) as Given<L, Buffer>;

/**
 * `write`: the peer sees an end behind all that was sent. `read`: what still comes is discarded.
 * @throws ENOTCONN
 */
export const STPshutdown = <L extends Layer>(
  layer: L,
  fd: number,
  how: 'read' | 'write' | 'both',
) => layer.shutdown(fd, how) as Given<L, void>;

/** In order; a reset with unread bytes. The number is not given out again. @throws EBADF */
export const STPclose = <L extends Layer>(layer: L, fd: number) =>
  layer.close(fd) as Given<L, void>;

/** Names and values: docs/stpconnect.md. @throws ENOPROTOOPT, EINVAL */
export const STPsetsockopt = (layer: Layer, fd: number, name: string, value: unknown): void =>
  layer.setsockopt(fd, name, value);

/** @throws ENOPROTOOPT */
export const STPgetsockopt = (layer: Layer, fd: number, name: string): unknown =>
  layer.getsockopt(fd, name);

/**
 * Waits until descriptors are ready, of both mechanisms in one set; none when the time is over.
 * @param timeoutMs 0: what is ready now; -1: for ever
 * @throws EINVAL
 */
export const STPpoll = <L extends Layer>(
  layer: L,
  entries: readonly PollEntry[],
  timeoutMs: number,
) => layer.poll(entries, timeoutMs) as Given<L, PollResult[]>;

/** Connects through the array if it can, else over the network: the layer's `dial`. */
export const STPdial = <L extends Layer>(layer: L, to: DialTarget, options?: DialOptions) =>
  layer.dial(to, options) as Given<L, number>;

/** Listens on the array and on the network: the layer's `serve`. @throws EADDRINUSE */
export const STPserve = <L extends Layer>(layer: L, at: ServeTarget, options?: ServeOptions) =>
  layer.serve(at, options) as Given<L, number>;
