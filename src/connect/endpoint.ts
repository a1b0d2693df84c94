/**
 * What a mechanism offers to the calls: the contract between STPConnect and its two endpoints.
 *
 * Kept to what TCP and STP do differently: names, ports, and how a stream comes to be. States,
 * queues, waiting and the streaming itself are written once above it (`descriptor.ts`,
 * `accept-queue.ts`, `channel.ts`), so they cannot differ.
 */
import type { Duplex } from 'node:stream';
import type { NetworkEntry } from '../socket/host.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import type { Family, Kind } from './descriptor-table.js';
import type { Transfer } from './hand-over.js';
import type { Limit } from './limit.js';
import { noOption, type SocketOptions } from './options.js';

/** Where a socket is, of either mechanism. */
export type Address =
  | { family: 'inet'; host: string; port: number }
  | { family: 'stp'; stg: string; port: number };
export type { Family, Kind };

/** What stpctl lists of a connection of the network; undefined of one through the array. */
export function networkEntry(
  { local, remote }: { readonly local: Address; readonly remote: Address },
  reason: number,
): NetworkEntry | undefined {
  if (local.family !== 'inet' || remote.family !== 'inet') return undefined;
  const { host: remoteAddress, port: remotePort } = remote;
  return { localPort: local.port, remotePort, remoteAddress, reason };
}

/** Where to bind or connect. `host` is for inet: an address or a name. STP has only ports. */
export interface Target {
  host?: string;
  /** 0 to 65535. */
  port: number;
}

/** Who is at the other end, and who says so. */
export type Peer =
  /** Plain TCP: nobody vouches for anything. */
  | { by: 'nobody' }
  /** TLS: it proved that it has the key of this identity. */
  | { by: 'psk'; identity: string }
  /** STP: as the kernel attested it to stpd. */
  | { by: 'stpd'; hostId: number; uid: number; gid: number; pid: number };

/** What the option `peerCredentials` gives: null while not connected. @throws ENOPROTOOPT */
export function peerCredentials(kind: Kind, peer: Peer | undefined): Credentials | null {
  if (kind !== 'stp') throw noOption(kind, 'peerCredentials', 'getsockopt');
  if (peer?.by !== 'stpd') return null;
  const { hostId, uid, gid, pid } = peer;
  return { hostId, uid, gid, pid };
}

/** As the kernel attested them to stpd; the PID is for display. */
export interface Credentials {
  readonly hostId: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** An established stream: paused, half-open allowed, nothing read yet. */
export interface Link {
  /** Ends by `end()`, like node:net's: finish, then end of both halves, then close. */
  readonly duplex: Duplex;
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  /** Closes the descriptor below as soon as everything written is handed on. */
  endSoon(): void;
  /**
   * Where the mechanism can show a reset as an end: tells which one it was. Absent where it cannot.
   * Called at the end of the readable half, while the writable one is open and idle.
   */
  confirmEnd?(told: (reset: Error | undefined) => void): void;
  /** ECONNRESET for the peer; `duplex` emits close. */
  reset(): void;
  /** Those of the options that the mechanism itself carries out. */
  apply(options: Readonly<SocketOptions>): void;
  /** As it is now; null where the mechanism does not tell. */
  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null;
  /** Gives the stream up to a worker thread. ENOTSUP where the mechanism cannot. */
  detach(): StreamHandle;
  /** The same for BlockingConnect. ENOTSUP over TLS. */
  handOver(): Transfer;
}

/** One socket until it is connected. Each method is called in the states that `states.ts` allows. */
export interface Endpoint {
  readonly family: Kind;
  /** Holds the port: EADDRINUSE if it is taken. Port 0: a free one. */
  bind(at: Target): Promise<void>;
  /** Listens on the bound port. `arrived` gets each connection once it is authenticated. */
  listen(backlog: number, arrived: (link: Link) => void): Promise<void>;
  /** From the bound port, if there is one. Resolves once both sides are authenticated. */
  connect(to: Target, limit: Limit): Promise<Link>;
  /** The name of the socket; port 0 while it has none. */
  name(): Address;
  /** Lets go of port and listener, not of established streams. May be called twice. */
  release(): Promise<void>;
  /** Those of `isEndpointOption` that it has. */
  setOption(name: string, value: unknown): void;
}

/** Bytes that went over a mechanism, both ways. */
export interface Traffic {
  sent: number;
  received: number;
}

interface Counted {
  readonly bytesRead: number | undefined;
  readonly bytesWritten: number | undefined;
  once(event: 'close', listener: () => void): unknown;
}

/** Sums the bytes of all sockets of a mechanism, those that are closed included. */
export class Ledger {
  readonly #live = new Set<Counted>();
  #sent = 0;
  #received = 0;

  add(socket: Counted): void {
    this.#live.add(socket);
    socket.once('close', () => this.settle(socket));
  }

  /** Takes the final figures; for a socket that will not be ours at its close. */
  settle(socket: Counted): void {
    if (!this.#live.delete(socket)) return;
    this.#sent += socket.bytesWritten ?? 0;
    this.#received += socket.bytesRead ?? 0;
  }

  total(): Traffic {
    let sent = this.#sent;
    let received = this.#received;
    for (const socket of this.#live) {
      sent += socket.bytesWritten ?? 0;
      received += socket.bytesRead ?? 0;
    }
    return { sent, received };
  }
}
