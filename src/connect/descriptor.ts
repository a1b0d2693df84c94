/**
 * One socket of STPConnect: its state, and the calls as far as they depend on it.
 *
 * Invariant: `state` changes before the first await of a call, so that of two calls made at once
 * the second finds what the first has begun. A close ends every waiting call with ECANCELED; calls
 * made after it find no descriptor (EBADF).
 *
 * A descriptor that does not block (`nonBlocking`), or has a time limit of POSIX's kind
 * (`receiveTimeoutMs`, `sendTimeoutMs`), does what can be done without waiting longer and says
 * EAGAIN where that is nothing; its connect goes on behind EINPROGRESS.
 */
import { isCoded, type StpError, stpError } from '../errors.js';
import { BACKLOG_DEFAULT } from '../limits.js';
import { AcceptQueue } from './accept-queue.js';
import { Channel, POLLERR, POLLHUP, POLLIN, POLLOUT } from './channel.js';
import { checkBacklog } from './checks.js';
import type { Address, Endpoint, Link, Target } from './endpoint.js';
import { Limit, type SoftLimit, WaitList, type WaitOptions } from './limit.js';
import type { SocketOptions } from './options.js';
import { type Call, checkCall, type State } from './states.js';

export class Descriptor {
  readonly fd: number;
  readonly options: SocketOptions;
  readonly reason: number;
  readonly #joined: (link: Link, reason: number) => void;
  /** Woken when the state changes. */
  readonly changes = new WaitList();
  #state: State = 'unbound';
  #endpoint: Endpoint | undefined;
  #channel: Channel | undefined;
  #queue: AcceptQueue | undefined;
  #connectError: StpError | undefined;
  /** A connect goes on whose caller was told EINPROGRESS. */
  #connectsBehind = false;
  readonly #underWay = new Set<Limit>();

  /**
   * @param from an endpoint: a new socket; a channel: an accepted one
   * @param options its own from now on: the endpoint reads them too
   * @param reason why it is of the network, a REASON_ number; 0 for storage
   * @param joined called once with the link that it gets
   */
  constructor(
    fd: number,
    from: Endpoint | Channel,
    options: SocketOptions,
    reason: number,
    joined: (link: Link, reason: number) => void,
  ) {
    this.fd = fd;
    this.options = options;
    this.reason = reason;
    this.#joined = joined;
    if (from instanceof Channel) {
      this.#channel = from;
      this.#state = 'connected';
      from.link.apply(options);
      joined(from.link, reason);
    } else {
      this.#endpoint = from;
    }
  }

  get state(): State {
    return this.#state;
  }

  get channel(): Channel | undefined {
    return this.#channel;
  }

  /** Why the stream broke, or a connect behind EINPROGRESS failed. */
  get failure(): StpError | undefined {
    return this.#channel?.failure ?? this.#connectError;
  }

  get endpoint(): Endpoint | undefined {
    return this.#endpoint;
  }

  get queue(): AcceptQueue | undefined {
    return this.#queue;
  }

  bind(at: Target): Promise<void> {
    return this.#run('bind', {}, async () => {
      await this.#become('binding', 'bound', (endpoint) => endpoint.bind(at));
    });
  }

  /** Binds a dynamic port first if none is bound. */
  listen(backlog = BACKLOG_DEFAULT): Promise<void> {
    return this.#run('listen', {}, async () => {
      checkBacklog(backlog);
      const queue = new AcceptQueue(backlog);
      const bound = this.#state === 'bound';
      await this.#become('binding', 'listening', async (endpoint) => {
        if (!bound) await endpoint.bind({ port: 0 });
        // From here on connections may arrive, also before the caller's await returns.
        this.#queue = queue;
        await endpoint.listen(backlog, (link) => queue.push(link));
      });
    });
  }

  /** The next connection of the queue, as a channel: the caller gives it a number. */
  accept(options: WaitOptions): Promise<Channel> {
    return this.#run('accept', options, (limit) => (this.#queue as AcceptQueue).take(limit));
  }

  /**
   * After a failure the descriptor is as new: unbound, its port released.
   * @throws EINPROGRESS where it may not wait: poll() tells when it is done, `failure` how
   */
  async connect(to: Target, options: WaitOptions): Promise<void> {
    const { sendTimeoutMs, nonBlocking } = this.options;
    const done = this.#run('connect', options, (limit) => this.#connect(to, limit));
    if (!nonBlocking && sendTimeoutMs === 0) return done;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, nonBlocking ? 0 : sendTimeoutMs, 'late');
    });
    try {
      if ((await Promise.race([done, late])) !== 'late') return;
    } finally {
      clearTimeout(timer);
    }
    this.#connectsBehind = true;
    done.catch(() => {});
    throw stpError('EINPROGRESS', `connect on descriptor ${this.fd} goes on; poll it`, 'connect');
  }

  async #connect(to: Target, limit: Limit): Promise<void> {
    this.#connectError = undefined;
    this.#connectsBehind = false;
    await this.#become('connecting', 'connected', async (endpoint) => {
      limit.check();
      const link = await endpoint.connect(to, limit);
      if (limit.expired !== undefined) {
        link.reset();
        throw limit.expired;
      }
      link.apply(this.options);
      this.#channel = new Channel(link);
      this.#joined(link, this.reason);
    });
  }

  /** @returns bytes taken: all, where it may wait */
  send(data: Uint8Array, options: WaitOptions): Promise<number> {
    return this.#run('send', options, (limit) => this.#stream().send(data, limit));
  }

  receive(bytesMax: number, options: WaitOptions): Promise<Buffer> {
    return this.#run('receive', options, (limit) => this.#stream().receive(bytesMax, limit));
  }

  receiveExactly(bytes: number, options: WaitOptions): Promise<Buffer> {
    return this.#run('receive', options, (limit) => this.#stream().receiveExactly(bytes, limit));
  }

  shutdown(how: 'read' | 'write' | 'both', options: WaitOptions): Promise<void> {
    return this.#run('shutdown', options, (limit) => this.#stream().shutdown(how, limit));
  }

  getsockname(): Address {
    return this.#channel?.link.local ?? (this.#endpoint as Endpoint).name();
  }

  getpeername(): Address {
    checkCall('getpeername', this.#state, this.fd);
    return this.#stream().link.remote;
  }

  /** The channel of a connected socket, for stream() and detach(). */
  connected(): Channel {
    checkCall('stream', this.#state, this.fd);
    return this.#stream();
  }

  /** Options of the mechanism; those of every socket are in `options`. */
  setEndpointOption(name: string, value: unknown): void {
    if (this.#endpoint === undefined || !['unbound', 'bound'].includes(this.#state)) {
      throw stpError('EINVAL', `option ${name} is set before connect or listen`, 'setsockopt');
    }
    this.#endpoint.setOption(name, value);
  }

  applyOptions(): void {
    this.#channel?.link.apply(this.options);
  }

  readiness(events: number): number {
    if (this.#channel !== undefined) return this.#channel.readiness(events);
    if (this.#queue !== undefined) return this.#queue.count > 0 ? events & POLLIN : 0;
    if (this.#state === 'connecting' || this.#state === 'binding') return 0;
    if (this.#connectError !== undefined) return POLLERR | POLLHUP | (events & (POLLIN | POLLOUT));
    return POLLHUP;
  }

  /** What poll() waits for. */
  changeLists(): WaitList[] {
    const lists = [this.changes];
    if (this.#channel !== undefined) lists.push(this.#channel.changes);
    if (this.#queue !== undefined) lists.push(this.#queue.changes);
    return lists;
  }

  async close(): Promise<void> {
    this.#end('the descriptor was closed while the call waited');
    this.#queue?.close();
    await this.#channel?.close(this.options.lingerMs);
    await this.#endpoint?.release();
  }

  abort(): void {
    this.#end('the descriptor was aborted while the call waited');
    this.#queue?.close();
    this.#channel?.abort();
    void this.#endpoint?.release();
  }

  /** After detach(): the stream lives on elsewhere. */
  leave(): void {
    this.#end('the stream was detached while the call waited');
    void this.#endpoint?.release();
  }

  #stream(): Channel {
    return this.#channel as Channel;
  }

  #end(why: string): void {
    this.#state = 'closed';
    for (const limit of this.#underWay) {
      limit.expire(
        stpError('ECANCELED', `${limit.call} on descriptor ${this.fd}: ${why}`, limit.call),
      );
    }
    this.changes.wakeAll();
  }

  async #run<T>(call: Call, options: WaitOptions, body: (limit: Limit) => Promise<T>): Promise<T> {
    checkCall(call, this.#state, this.fd);
    const timeoutMs = options.timeoutMs ?? this.options.timeoutMs;
    const limit = new Limit(call, { ...options, timeoutMs }, this.#soft(call));
    this.#underWay.add(limit);
    try {
      return await body(limit);
    } finally {
      limit.dispose();
      this.#underWay.delete(limit);
    }
  }

  /** POSIX's limits: of what waits for the peer's bytes or connections, and of what sends. */
  #soft(call: Call): SoftLimit | undefined {
    const receives = call === 'receive' || call === 'accept';
    if (!receives && call !== 'send') return undefined;
    const { nonBlocking, receiveTimeoutMs, sendTimeoutMs } = this.options;
    const ms = receives ? receiveTimeoutMs : sendTimeoutMs;
    if (!nonBlocking && ms === 0) return undefined;
    const why = nonBlocking ? 'it does not block' : `its limit of ${ms} ms is over`;
    const error = stpError('EAGAIN', `${call} on descriptor ${this.fd} would wait: ${why}`, call);
    return { ms: nonBlocking ? 0 : ms, error };
  }

  /** `meanwhile` until `body` is done, then `after`; back to unbound if it fails. */
  async #become(
    meanwhile: State,
    after: State,
    body: (endpoint: Endpoint) => Promise<void>,
  ): Promise<void> {
    const endpoint = this.#endpoint as Endpoint;
    this.#state = meanwhile;
    let error: unknown;
    try {
      await body(endpoint);
      if (!this.#gone()) {
        this.#state = after;
        this.changes.wakeAll();
        return;
      }
    } catch (thrown) {
      error = thrown;
    }
    // Failed, or closed under the call: what it has taken meanwhile is given back.
    this.#queue?.close();
    this.#queue = undefined;
    this.#channel?.abort();
    await endpoint.release();
    if (this.#gone()) throw this.#canceled();
    this.#state = 'unbound';
    if (this.#connectsBehind && isCoded(error)) this.#connectError = error;
    this.changes.wakeAll();
    throw error;
  }

  #gone(): boolean {
    return this.#state === 'closed';
  }

  #canceled(): StpError {
    return stpError('ECANCELED', `descriptor ${this.fd} was closed while the call waited`);
  }
}
