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
import { NUMBERS } from '../layout/tables.js';
import type { AttachOptions, Host } from '../socket/host.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import { ArrayAccess } from './array-access.js';
import {
  AF_STP,
  checkHost,
  checkPoll,
  checkSocket,
  type PollEntry,
  type PollResult,
  SOCK_STREAM,
} from './calls.js';
import { POLLNVAL } from './channel.js';
import { Descriptor } from './descriptor.js';
import { DescriptorTable, familyOf } from './descriptor-table.js';
import { EitherEndpoint } from './either-endpoint.js';
import {
  type Address,
  type Endpoint,
  Ledger,
  type Link,
  networkEntry,
  type Target,
  type Traffic,
} from './endpoint.js';
import { factOf } from './facts.js';
import type { HandedOver } from './hand-over.js';
import { Limit, type WaitList, type WaitOptions, waitAny } from './limit.js';
import {
  defaultOptions,
  inherited,
  isEndpointOption,
  isSocketOption,
  noOption,
  type SocketOptions,
  setOption,
} from './options.js';
import {
  Decision,
  type DialOptions,
  type DialTarget,
  type ServeOptions,
  type ServeTarget,
} from './policy.js';
import { StpEndpoint } from './stp-endpoint.js';
import { TcpEndpoint } from './tcp-endpoint.js';

export { reasonText } from '../memory/reason-text.js';
export { AF_INET, AF_STP, type PollEntry, type PollResult, SOCK_STREAM } from './calls.js';
export { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT } from './channel.js';
export { familyOf } from './descriptor-table.js';
export type { Address, Family, Kind, Peer, Target, Traffic } from './endpoint.js';
export type { HandedOver } from './hand-over.js';
export type { WaitOptions } from './limit.js';
export {
  O_NONBLOCK,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_MECHANISM,
  SO_PEERCRED,
  SO_RCVBUF,
  SO_RCVTIMEO,
  SO_REASON,
  SO_REUSEADDR,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_SPIN,
  SO_TYPE,
  TCP_NODELAY,
} from './options.js';
export type { DialOptions, DialTarget, ServeOptions, ServeTarget, Use } from './policy.js';
export type { PskClient, PskServer } from './tls-psk.js';

/** What is known of an array: neither gives a layer of the network alone. */
export interface ArrayOptions {
  /** An attached host; it stays its owner's. */
  readonly host?: Host;
  /** The STG to attach to when dial() or serve() first need it. */
  readonly array?: AttachOptions;
}

/** One set of socket calls over TCP and over the array, for event loops: each gives a promise. */
export class STPConnect {
  readonly #access: ArrayAccess;
  readonly #table = new DescriptorTable<Descriptor>();
  readonly #ledgers = { inet: new Ledger(), stp: new Ledger() };
  readonly #joined = (link: Link, reason: number): void => this.#list(link, reason);

  /** @param options `host`: for AF_STP; without it socket() gives AF_INET only */
  constructor(options: ArrayOptions = {}) {
    this.#access = new ArrayAccess(options.host, options.array);
  }

  /** @throws EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT, EMFILE */
  socket(family: number, type = SOCK_STREAM, protocol = 0): number {
    checkSocket(family, type, protocol);
    if (family === AF_STP)
      return this.#open(this.#stp(checkHost(this.#access.current)), NUMBERS.REASON_NONE);
    return this.#open((options) => this.#inet(options), NUMBERS.REASON_ASKED);
  }

  /** @throws as socket */
  STPsocket(): number {
    return this.socket(AF_STP, SOCK_STREAM);
  }

  /**
   * Holds a port; 0 is a dynamic one, which getsockname() tells.
   * @throws EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOBUFS, ENETDOWN, EINVAL
   */
  async bind(fd: number, at: Target): Promise<void> {
    await this.#table.get(fd, 'bind').bind(at);
  }

  /**
   * @param backlog connections that may wait for accept(), 1 to 4096, 511 where absent; one more
   *   is reset. Without a bind before, a dynamic port is taken.
   * @throws EADDRINUSE, EINVAL
   */
  async listen(fd: number, backlog?: number): Promise<void> {
    await this.#table.get(fd, 'listen').listen(backlog);
  }

  /**
   * Connects to a service that is on the array and on the network: through the array if it can,
   * else over the network. Decided once, here; the descriptor's value tells which it became, the
   * option `reason` why.
   * @throws what the network said, and what the array lacked; ETIMEDOUT, ABORT_ERR of the whole
   */
  async dial(to: DialTarget, options: DialOptions = {}): Promise<number> {
    const { signal, psk } = options;
    const decision = new Decision(options);
    const waits = signal === undefined ? {} : { signal };
    if (decision.asksArray) {
      try {
        const host = await this.#access.host(decision.arrayMs());
        const fd = this.#open(this.#stp(host), NUMBERS.REASON_NONE);
        return await this.#dialled(fd, { port: to.port }, decision.arrayMs(), waits);
      } catch (error) {
        // The caller's own limit, and not what the array lacks, ends it in both cases.
        new Limit('connect', waits).check();
        decision.fallBack(error);
      }
    }
    const fd = this.#open((own) => this.#inet(own), decision.reason);
    if (psk !== undefined) this.setsockopt(fd, 'psk', psk);
    try {
      return await this.#dialled(fd, to.network, decision.networkMs(), waits);
    } catch (error) {
      throw decision.bothFailed(error);
    }
  }

  async #dialled(fd: number, to: Target, timeoutMs: number, waits: WaitOptions): Promise<number> {
    try {
      await this.connect(fd, to, { ...waits, timeoutMs });
      return fd;
    } catch (error) {
      this.abort(fd);
      throw error;
    }
  }

  /**
   * Listens on the array and on the network at once. accept() on it gives whichever comes, and the
   * value of what it gives tells which. Where there is no array it listens on the network alone;
   * the option `reason` says why.
   * @throws EADDRINUSE; with `use: 'array'` what the array lacks
   */
  async serve(at: ServeTarget, options: ServeOptions = {}): Promise<number> {
    const decision = new Decision(options);
    let storage: ((own: SocketOptions) => Endpoint) | number = decision.reason;
    if (decision.asksArray) {
      try {
        storage = this.#stp(await this.#access.host(decision.arrayMs()));
      } catch (error) {
        decision.fallBack(error);
        storage = decision.reason;
      }
    }
    const fd = this.#open((own) => {
      const first = typeof storage === 'number' ? storage : storage(own);
      return new EitherEndpoint(first, this.#inet(own), at, options.use === 'array');
    }, NUMBERS.REASON_PEER_CAME);
    if (options.psk !== undefined) this.setsockopt(fd, 'psk', options.psk);
    try {
      await this.bind(fd, at);
      await this.listen(fd, at.backlog);
      return fd;
    } catch (error) {
      this.abort(fd);
      throw error;
    }
  }

  /**
   * The descriptor of the next connection; over TLS, one whose peer has proved its identity.
   * @throws EAGAIN, EINVAL (does not listen), ECANCELED (closed meanwhile), ETIMEDOUT, ABORT_ERR
   */
  async accept(fd: number, options: WaitOptions = {}): Promise<number> {
    const listener = this.#table.get(fd, 'accept');
    const channel = await listener.accept(options);
    try {
      const { family } = channel.link.local;
      const reason = family === 'stp' ? NUMBERS.REASON_NONE : listener.reason;
      return this.#table.add(
        family,
        (fdNew) =>
          new Descriptor(fdNew, channel, inherited(listener.options), reason, this.#joined),
      );
    } catch (error) {
      channel.abort();
      throw error;
    }
  }

  /**
   * After a failure the descriptor is as new: not bound, and connect may be called again.
   * @throws ECONNREFUSED, EINPROGRESS, EALREADY, EISCONN, ETIMEDOUT, ENOTFOUND, ENETDOWN, ABORT_ERR
   */
  async connect(fd: number, to: Target, options: WaitOptions = {}): Promise<void> {
    await this.#table.get(fd, 'connect').connect(to, options);
  }

  /**
   * All of `data`, which must stay unchanged until this resolves: then the kernel, or the array,
   * has it. A send that is given up half-way resets the connection. With `nonBlocking` or
   * `sendTimeoutMs` it takes a copy of what there is room for, and never resets.
   * @returns bytes taken
   * @throws EAGAIN, EPIPE, ECONNRESET, ETIMEDOUT, ABORT_ERR
   */
  async send(fd: number, data: Uint8Array, options: WaitOptions = {}): Promise<number> {
    return this.#table.get(fd, 'send').send(data, options);
  }

  /**
   * 1 to `bytesMax` bytes; empty is the peer's orderly end.
   * @throws EAGAIN, ECONNRESET, ETIMEDOUT, ABORT_ERR, EINVAL (bytesMax)
   */
  async receive(fd: number, bytesMax: number, options: WaitOptions = {}): Promise<Buffer> {
    return this.#table.get(fd, 'receive').receive(bytesMax, options);
  }

  /** Exactly `bytes`; ENODATA if the end comes before. One that gives up has taken nothing. */
  async receiveExactly(fd: number, bytes: number, options: WaitOptions = {}): Promise<Buffer> {
    return this.#table.get(fd, 'receive').receiveExactly(bytes, options);
  }

  /** Where it is bound. @throws EBADF */
  getsockname(fd: number): Address {
    return this.#table.get(fd, 'getsockname').getsockname();
  }

  /** Where its peer is. @throws ENOTCONN, EBADF */
  getpeername(fd: number): Address {
    return this.#table.get(fd, 'getpeername').getpeername();
  }

  /**
   * `write`: the peer sees an end behind everything sent; resolves when it is on its way.
   * `read`: receives return an end from now on, what still comes is discarded.
   * @throws ENOTCONN, ECONNRESET
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
   * Options, their values and where they mean something: docs/stpconnect.md. Where one means
   * nothing it is ENOPROTOOPT. An accepted socket has its listener's, but for `nonBlocking`.
   * `psk`, inet, before connect or listen: TLS 1.3 with a pre-shared key, `{ identity, key }` of 32
   * bytes on the connecting side, `{ lookup(identity), refused?(error) }` on the listening one.
   * @throws EINVAL, ENOPROTOOPT
   */
  setsockopt(fd: number, name: string, value: unknown): void {
    const descriptor = this.#table.get(fd, 'setsockopt');
    if (isSocketOption(name)) {
      setOption(familyOf(fd), descriptor.options, name, value);
      descriptor.applyOptions();
    } else if (!isEndpointOption(familyOf(fd), name)) {
      throw noOption(familyOf(fd), name, 'setsockopt');
    } else {
      descriptor.setEndpointOption(name, value);
    }
  }

  /**
   * The options of setsockopt (not `psk`, which holds a secret), and: `type`, `family`, `state`,
   * `mechanism`, `reason` (why it is of the network, for reasonText()), `error` (why the stream
   * broke, null if it did not), `peer` (who is at the other end and who says so, null if not
   * connected), `peerCredentials` (STP: the same as stpd attests it), of a listener `backlogCount`,
   * `overflowCount` and, if it is on both mechanisms, `storageName`.
   * @throws ENOPROTOOPT
   */
  getsockopt(fd: number, name: string): unknown {
    const descriptor = this.#table.get(fd, 'getsockopt');
    const { endpoint, channel, queue, options, state, failure } = descriptor;
    if (name === 'backlogCount') return queue?.count ?? 0;
    if (name === 'overflowCount') return queue?.overflows ?? 0;
    const either = endpoint instanceof EitherEndpoint ? endpoint : undefined;
    return factOf(familyOf(fd), name, {
      options,
      state,
      reason: either?.reason ?? descriptor.reason,
      storageName: either?.storageName ?? null,
      failure,
      link: channel?.link,
    });
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
    checkPoll(entries, timeoutMs);
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
   * Gives a connection up to a thread that may block, where BlockingConnect.adopt() takes it; the
   * descriptor is closed. ENOTSUP over TLS, EBUSY while a send or receive is under way. What the
   * other thread moves is not in `traffic()`.
   */
  handOver(fd: number): HandedOver {
    const descriptor = this.#table.get(fd, 'handOver');
    const { reason } = descriptor;
    const channel = descriptor.connected();
    const { local, remote, peer } = channel.link;
    const given = channel.handOver('handOver');
    this.#table.remove(fd, 'handOver').leave();
    return { ...given, local, remote, peer, reason };
  }

  /**
   * Bytes that went over each mechanism, of all descriptors, closed ones too. For inet they are
   * the bytes on the wire above TCP: TLS handshakes, records and failed connections count.
   */
  traffic(): { inet: Traffic; stp: Traffic } {
    return { inet: this.#ledgers.inet.total(), stp: this.#ledgers.stp.total() };
  }

  /** Closes every descriptor. A host that was given stays attached: it is its owner's. */
  async closeAll(): Promise<void> {
    await Promise.all(this.#table.numbers().map((fd) => this.close(fd)));
  }

  /** Closes everything, and leaves the array if dial() or serve() joined it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeAll();
    await this.#access.close();
  }

  #open(make: (own: SocketOptions) => Endpoint, reason: number): number {
    const own = { ...defaultOptions };
    const endpoint = make(own);
    return this.#table.add(
      endpoint.family,
      (fd) => new Descriptor(fd, endpoint, own, reason, this.#joined),
    );
  }

  #inet(own: SocketOptions): Endpoint {
    return new TcpEndpoint(this.#ledgers.inet, own);
  }

  #stp(host: Host): () => Endpoint {
    return () => new StpEndpoint(host, this.#ledgers.stp);
  }

  /** A network connection of a host is shown in its STG, as long as it lives. */
  #list(link: Link, reason: number): void {
    const entry = networkEntry(link, reason);
    if (entry === undefined) return;
    const unlist = this.#access.current?.listNetwork(entry);
    if (unlist === undefined) return;
    if (link.duplex.closed) unlist();
    else link.duplex.once('close', unlist);
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
