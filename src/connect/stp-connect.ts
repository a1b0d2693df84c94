/**
 * STPConnect: one set of socket calls over the network and over the array (the seed's layer 54
 * between its mechanisms 58 and 60).
 *
 * A program opens a socket of one family or the other, and from then on does not know which: the
 * descriptor's value decides (`descriptor-table.ts`). States, waiting and streaming are written
 * once for both (`descriptor.ts`, `channel.ts`), so the same situation gives the same POSIX code.
 * What differs, and cannot be hidden: STP has ports but no host names; a detached stream
 * (`detach`) exists on STP only, the option `psk` on inet only; a peer that was killed is
 * ECONNRESET on STP, and on TCP often a plain end.
 *
 * Waiting calls end with ECANCELED when their descriptor is closed or aborted under them; calls
 * made afterwards get EBADF. `signal` gives an AbortError (code ABORT_ERR; ETIMEDOUT for
 * AbortSignal.timeout), `timeoutMs` gives ETIMEDOUT.
 *
 * One instance belongs to one thread. It holds no resources of its own beyond its descriptors.
 */
import type { Duplex } from 'node:stream';
import { stpError } from '../errors.js';
import type { Host } from '../socket/host.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import { POLLIN, POLLNVAL, POLLOUT } from './channel.js';
import { Descriptor, type SocketOptions } from './descriptor.js';
import { DescriptorTable, familyOf } from './descriptor-table.js';
import { type Address, type Endpoint, Ledger, type Target, type Traffic } from './endpoint.js';
import { Limit, type WaitList, type WaitOptions, waitAny } from './limit.js';
import { StpEndpoint } from './stp-endpoint.js';
import { TcpEndpoint } from './tcp-endpoint.js';

export { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT } from './channel.js';
export { familyOf } from './descriptor-table.js';
export type { Address, Family, Peer, Target, Traffic } from './endpoint.js';
export type { WaitOptions } from './limit.js';
export type { PskClient, PskServer } from './tls-psk.js';

/** The kernel's number. */
export const AF_INET = 2;
/** Linux's AF_IB, which nothing opens as a stream socket; the number never reaches the kernel. */
export const AF_STP = 27;
export const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;

export interface PollEntry {
  fd: number;
  /** POLLIN, POLLOUT, or both. */
  events: number;
}

export interface PollResult {
  fd: number;
  /** Of `events`; and POLLERR, POLLHUP, POLLNVAL without being asked. */
  revents: number;
}

const defaults: SocketOptions = {
  // Small requests and answers is what runs over inet here; Nagle would add 40 ms to some.
  noDelay: true,
  keepAlive: false,
  timeoutMs: 0,
};

export class STPConnect {
  readonly #host: Host | undefined;
  readonly #table = new DescriptorTable();
  readonly #ledgers = { inet: new Ledger(), stp: new Ledger() };

  /** @param options `host`: the attached host for AF_STP; without it there is only AF_INET */
  constructor(options: { host?: Host } = {}) {
    this.#host = options.host;
  }

  /** @throws EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT, EMFILE */
  socket(family: number, type = SOCK_STREAM, protocol = 0): number {
    if (type !== SOCK_STREAM) {
      throw stpError('EPROTOTYPE', `socket type ${type}: only SOCK_STREAM (1)`, 'socket');
    }
    if (protocol !== 0 && !(family === AF_INET && protocol === IPPROTO_TCP)) {
      throw stpError('EPROTONOSUPPORT', `protocol ${protocol}: must be 0`, 'socket');
    }
    const endpoint = this.#endpoint(family);
    return this.#table.add(endpoint.family, (fd) => new Descriptor(fd, endpoint, defaults));
  }

  STPsocket(): number {
    return this.socket(AF_STP, SOCK_STREAM);
  }

  /** Holds a port; 0 is a dynamic one, which getsockname() tells. */
  async bind(fd: number, at: Target): Promise<void> {
    await this.#table.get(fd, 'bind').bind(at);
  }

  /**
   * @param backlog connections that may wait for accept(); one more is reset. Without a bind
   *   before, a dynamic port is taken.
   */
  async listen(fd: number, backlog?: number): Promise<void> {
    await this.#table.get(fd, 'listen').listen(backlog);
  }

  /** The descriptor of the next connection; over TLS, one whose peer has proved its identity. */
  async accept(fd: number, options: WaitOptions = {}): Promise<number> {
    const listener = this.#table.get(fd, 'accept');
    const channel = await listener.accept(options);
    try {
      const make = (fdNew: number): Descriptor => new Descriptor(fdNew, channel, listener.options);
      return this.#table.add(familyOf(fd), make);
    } catch (error) {
      channel.abort();
      throw error;
    }
  }

  /** After a failure the descriptor is as new: not bound, and connect may be called again. */
  async connect(fd: number, to: Target, options: WaitOptions = {}): Promise<void> {
    await this.#table.get(fd, 'connect').connect(to, options);
  }

  /**
   * All of `data`, which must stay unchanged until this resolves: then the kernel, or the array,
   * has it. A send that is given up half-way resets the connection.
   */
  async send(fd: number, data: Uint8Array, options: WaitOptions = {}): Promise<void> {
    await this.#table.get(fd, 'send').send(data, options);
  }

  /** 1 to `bytesMax` bytes; empty is the peer's orderly end. */
  async receive(fd: number, bytesMax: number, options: WaitOptions = {}): Promise<Buffer> {
    return this.#table.get(fd, 'receive').receive(bytesMax, options);
  }

  /** Exactly `bytes`; ENODATA if the end comes before. One that gives up has taken nothing. */
  async receiveExactly(fd: number, bytes: number, options: WaitOptions = {}): Promise<Buffer> {
    return this.#table.get(fd, 'receive').receiveExactly(bytes, options);
  }

  getsockname(fd: number): Address {
    return this.#table.get(fd, 'getsockname').getsockname();
  }

  getpeername(fd: number): Address {
    return this.#table.get(fd, 'getpeername').getpeername();
  }

  /**
   * `write`: the peer sees an end behind everything sent; resolves when it is on its way.
   * `read`: receives return an end from now on, what still comes is discarded.
   */
  async shutdown(
    fd: number,
    how: 'read' | 'write' | 'both',
    options: WaitOptions = {},
  ): Promise<void> {
    await this.#table.get(fd, 'shutdown').shutdown(how, options);
  }

  /**
   * Orderly: what send() has accepted arrives, then the end. Only a send that still waits makes it
   * a reset. A listener's waiting connections are reset. The number is gone at once.
   */
  async close(fd: number): Promise<void> {
    await this.#table.remove(fd, 'close').close();
  }

  /** Resets: the peer gets ECONNRESET. The number is gone at once. */
  abort(fd: number): void {
    this.#table.remove(fd, 'abort').abort();
  }

  /**
   * - `timeoutMs`: limit of each waiting call that names none; 0: none
   * - `noDelay` (on), `keepAlive` (off): as on a TCP socket; without effect on STP
   * - `psk`, inet, before connect or listen: TLS 1.3 with a pre-shared key, `{ identity, key }` of
   *   32 bytes on the connecting side, `{ lookup(identity), refused?(error) }` on the listening one
   *
   * Accepted sockets inherit the first three.
   */
  setsockopt(fd: number, name: string, value: unknown): void {
    const descriptor = this.#table.get(fd, 'setsockopt');
    if (name === 'noDelay' || name === 'keepAlive') {
      if (typeof value !== 'boolean') throw invalidOption(name, 'true or false');
      descriptor.options[name] = value;
      descriptor.applyOptions();
    } else if (name === 'timeoutMs') {
      const ms = value as number;
      if (!Number.isInteger(ms) || ms < 0 || ms > 0x7fff_ffff) {
        throw invalidOption(name, 'an integer from 0 to 2147483647');
      }
      descriptor.options.timeoutMs = ms;
    } else if (!descriptor.setEndpointOption(name, value)) {
      throw stpError('ENOPROTOOPT', `${familyOf(fd)} sockets have no option ${name}`, 'setsockopt');
    }
  }

  /**
   * The options of setsockopt (not `psk`, which holds a secret), and: `type`, `family`, `state`,
   * `error` (why the stream broke, null if it did not), `peer` (who is at the other end and who
   * says so, null if not connected), `backlogCount`, `overflowCount` (of a listener).
   */
  getsockopt(fd: number, name: string): unknown {
    const descriptor = this.#table.get(fd, 'getsockopt');
    switch (name) {
      case 'noDelay':
      case 'keepAlive':
      case 'timeoutMs':
        return descriptor.options[name];
      case 'type':
        return SOCK_STREAM;
      case 'family':
        return familyOf(fd) === 'stp' ? AF_STP : AF_INET;
      case 'state':
        return descriptor.state;
      case 'error':
        return descriptor.channel?.failure ?? null;
      case 'peer':
        return descriptor.channel?.link.peer ?? null;
      case 'backlogCount':
        return descriptor.queue?.count ?? 0;
      case 'overflowCount':
        return descriptor.queue?.overflows ?? 0;
      default:
        throw stpError('ENOPROTOOPT', `sockets have no option ${name} to read`, 'getsockopt');
    }
  }

  /**
   * Descriptors of both mechanisms in one set. Resolves with those that are ready, empty when the
   * time is over. POLLIN may take bytes into the process (not out of the stream), as a receive does.
   * @param timeoutMs 0: what is ready now, after one turn of the event loop; -1: for ever
   */
  async poll(
    entries: readonly PollEntry[],
    timeoutMs: number,
    options: { signal?: AbortSignal } = {},
  ): Promise<PollResult[]> {
    if (!Number.isInteger(timeoutMs) || timeoutMs < -1) {
      throw stpError('EINVAL', `timeoutMs is ${timeoutMs}: must be -1 or more`, 'poll');
    }
    for (const { fd, events } of entries) {
      if ((events & ~(POLLIN | POLLOUT)) !== 0) {
        throw stpError('EINVAL', `events ${events} of descriptor ${fd}: POLLIN, POLLOUT`, 'poll');
      }
    }
    const limit = new Limit('poll', { ...options, timeoutMs: Math.max(timeoutMs, 0) });
    try {
      for (;;) {
        const { ready, lists } = this.#ready(entries);
        if (ready.length > 0) return ready;
        if (limit.expired?.code === 'ETIMEDOUT' && !options.signal?.aborted) return [];
        limit.check();
        if (timeoutMs === 0) {
          // Bytes that lie in the kernel come in with the next turn of the loop.
          await new Promise((resolve) => setImmediate(resolve));
          await new Promise((resolve) => setImmediate(resolve));
          return this.#ready(entries).ready;
        }
        await waitAny(lists, limit);
      }
    } finally {
      limit.dispose();
    }
  }

  /**
   * The connection as a Node stream: paused, half-open allowed, errors are the caller's to listen
   * for. The calls that move bytes are EBUSY from then on; names, options, close and abort stay.
   */
  stream(fd: number): Duplex {
    return this.#table.get(fd, 'stream').connected().lend('stream');
  }

  /**
   * Gives an STP stream up to a worker thread; the descriptor is closed. ENOTSUP on inet, EBUSY
   * while a send or receive is under way. What the worker moves is not in `traffic()`.
   */
  detach(fd: number): StreamHandle {
    const descriptor = this.#table.get(fd, 'detach');
    const handle = descriptor.connected().detach('detach');
    this.#table.remove(fd, 'detach').leave();
    return handle;
  }

  /**
   * Bytes that went over each mechanism, of all descriptors, closed ones too. For inet they are
   * the bytes on the wire above TCP: TLS handshakes, records and failed connections count.
   */
  traffic(): { inet: Traffic; stp: Traffic } {
    return { inet: this.#ledgers.inet.total(), stp: this.#ledgers.stp.total() };
  }

  /** Closes every descriptor. The host stays attached: it belongs to whoever attached it. */
  async closeAll(): Promise<void> {
    await Promise.all(this.#table.numbers().map((fd) => this.close(fd)));
  }

  #endpoint(family: number): Endpoint {
    if (family === AF_INET) return new TcpEndpoint(this.#ledgers.inet);
    if (family !== AF_STP) {
      throw stpError('EAFNOSUPPORT', `family ${family}: AF_INET (2) or AF_STP (27)`, 'socket');
    }
    if (this.#host === undefined) {
      throw stpError(
        'EAFNOSUPPORT',
        'no array is attached: give STPConnect the host that attach() returned',
        'socket',
      );
    }
    return new StpEndpoint(this.#host, this.#ledgers.stp);
  }

  #ready(entries: readonly PollEntry[]): { ready: PollResult[]; lists: WaitList[] } {
    const ready: PollResult[] = [];
    const lists: WaitList[] = [];
    for (const { fd, events } of entries) {
      const descriptor = this.#table.find(fd);
      const revents = descriptor === undefined ? POLLNVAL : descriptor.readiness(events);
      if (revents !== 0) ready.push({ fd, revents });
      else if (descriptor !== undefined) lists.push(...descriptor.changeLists());
    }
    return { ready, lists };
  }
}

const invalidOption = (name: string, rule: string): Error =>
  stpError('EINVAL', `option ${name}: must be ${rule}`, 'setsockopt');
