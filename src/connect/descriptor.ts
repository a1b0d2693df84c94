/**
 * One socket of STPConnect: its state, and the calls as far as they depend on it.
 *
 * Invariant: `state` changes before the first await of a call, so that of two calls made at once
 * the second finds what the first has begun. A close ends every waiting call with ECANCELED; calls
 * made after it find no descriptor (EBADF).
 */
import { type StpError, stpError } from '../errors.js';
import { BACKLOG_DEFAULT, BACKLOG_MAX } from '../limits.js';
import { AcceptQueue } from './accept-queue.js';
import { Channel, POLLHUP, POLLIN } from './channel.js';
import type { Address, Endpoint, StreamOptions, Target } from './endpoint.js';
import { Limit, WaitList, type WaitOptions } from './limit.js';
import { type Call, checkCall, type State } from './states.js';

export interface SocketOptions extends StreamOptions {
  /** Limit of each waiting call that names none, milliseconds; 0: none. */
  timeoutMs: number;
}

export class Descriptor {
  readonly fd: number;
  readonly options: SocketOptions;
  /** Woken when the state changes. */
  readonly changes = new WaitList();
  #state: State = 'unbound';
  #endpoint: Endpoint | undefined;
  #channel: Channel | undefined;
  #queue: AcceptQueue | undefined;
  readonly #underWay = new Set<Limit>();

  /** @param from an endpoint: a new socket; a channel: an accepted one */
  constructor(fd: number, from: Endpoint | Channel, options: SocketOptions) {
    this.fd = fd;
    this.options = { ...options };
    if (from instanceof Channel) {
      this.#channel = from;
      this.#state = 'connected';
      from.link.apply(this.options);
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
      if (!Number.isInteger(backlog) || backlog < 1 || backlog > BACKLOG_MAX) {
        throw stpError('EINVAL', `backlog ${backlog}: must be 1 to ${BACKLOG_MAX}`, 'listen');
      }
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

  /** After a failure the descriptor is as new: unbound, its port released. */
  connect(to: Target, options: WaitOptions): Promise<void> {
    return this.#run('connect', options, async (limit) => {
      await this.#become('connecting', 'connected', async (endpoint) => {
        limit.check();
        const link = await endpoint.connect(to, limit);
        if (limit.expired !== undefined) {
          link.reset();
          throw limit.expired;
        }
        link.apply(this.options);
        this.#channel = new Channel(link);
      });
    });
  }

  send(data: Uint8Array, options: WaitOptions): Promise<void> {
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
  setEndpointOption(name: string, value: unknown): boolean {
    if (this.#endpoint === undefined || !['unbound', 'bound'].includes(this.#state)) {
      throw stpError('EINVAL', `option ${name} is set before connect or listen`, 'setsockopt');
    }
    return this.#endpoint.setOption(name, value);
  }

  applyOptions(): void {
    this.#channel?.link.apply(this.options);
  }

  readiness(events: number): number {
    if (this.#channel !== undefined) return this.#channel.readiness(events);
    if (this.#queue !== undefined) return this.#queue.count > 0 ? events & POLLIN : 0;
    return this.#state === 'connecting' || this.#state === 'binding' ? 0 : POLLHUP;
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
    await this.#channel?.close();
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
    const limit = new Limit(call, { timeoutMs: this.options.timeoutMs, ...options });
    this.#underWay.add(limit);
    try {
      return await body(limit);
    } finally {
      limit.dispose();
      this.#underWay.delete(limit);
    }
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
