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

/** @param family AF_STP where absent */
export const STPsocket = (layer: Layer, family: number = AF_STP): number => layer.socket(family);

/** @param at a port, or `{ host, port }` of a network socket */
export const STPbind = <L extends Layer>(layer: L, fd: number, at: number | Target) =>
  layer.bind(fd, target(at)) as Given<L, void>;

export const STPlisten = <L extends Layer>(layer: L, fd: number, backlog?: number) =>
  layer.listen(fd, backlog) as Given<L, void>;

export const STPgetsockname = (layer: Layer, fd: number): Address => layer.getsockname(fd);

export const STPgetpeername = (layer: Layer, fd: number): Address => layer.getpeername(fd);

export const STPconnect = <L extends Layer>(
  layer: L,
  fd: number,
  to: number | Target,
  options?: Waits<L>,
) => layer.connect(fd, target(to), options) as Given<L, void>;

export const STPaccept = <L extends Layer>(layer: L, fd: number, options?: Waits<L>) =>
  layer.accept(fd, options) as Given<L, number>;

export const STPsend = <L extends Layer>(
  layer: L,
  fd: number,
  data: Uint8Array,
  options?: Waits<L>,
) => layer.send(fd, data, options) as Given<L, number>;

export const STPrecv = <L extends Layer>(
  layer: L,
  fd: number,
  bytesMax: number,
  options?: Waits<L>,
) => layer.receive(fd, bytesMax, options) as Given<L, Buffer>;

export const STPshutdown = <L extends Layer>(
  layer: L,
  fd: number,
  how: 'read' | 'write' | 'both',
) => layer.shutdown(fd, how) as Given<L, void>;

export const STPclose = <L extends Layer>(layer: L, fd: number) =>
  layer.close(fd) as Given<L, void>;

export const STPsetsockopt = (layer: Layer, fd: number, name: string, value: unknown): void =>
  layer.setsockopt(fd, name, value);

export const STPgetsockopt = (layer: Layer, fd: number, name: string): unknown =>
  layer.getsockopt(fd, name);

/** Descriptors of both mechanisms in one set. */
export const STPpoll = <L extends Layer>(
  layer: L,
  entries: readonly PollEntry[],
  timeoutMs: number,
) => layer.poll(entries, timeoutMs) as Given<L, PollResult[]>;

export const STPdial = <L extends Layer>(layer: L, to: DialTarget, options?: DialOptions) =>
  layer.dial(to, options) as Given<L, number>;

export const STPserve = <L extends Layer>(layer: L, at: ServeTarget, options?: ServeOptions) =>
  layer.serve(at, options) as Given<L, number>;
