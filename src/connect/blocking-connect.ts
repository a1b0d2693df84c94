/**
 * STPConnect for threads that may block: the same calls over both mechanisms, each of which returns
 * its result instead of a promise. The descriptor's value decides here too, states and options are
 * the same tables, and the same situation gives the same code.
 *
 * One instance belongs to one thread; no event loop takes part, in this thread or another, as long
 * as its calls block. They can be made in a worker thread or, if nothing else is to happen
 * meanwhile, in the main thread. A waiting call returns to JavaScript every 50 ms. What the event
 * loop would do in the meantime (timers, promises, signals) waits until the caller is done; so
 * calls take a time limit and no AbortSignal, and `stop` is for another thread to end them.
 *
 * Different from STPConnect: no TLS (`psk` is ENOPROTOOPT), and a descriptor is used by one call at
 * a time, so nothing is ever under way behind another call but a connect that does not block.
 */
import { isCoded, type StpError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { BACKLOG_DEFAULT } from '../limits.js';
import { blockingTurn } from '../memory/event-loop.js';
import { native } from '../native.js';
import { attach, type Host } from '../socket/host.js';
import { reasonOf } from '../socket/reason.js';
import {
  type Armed,
  type BlockingEndpoint,
  type BlockingLink,
  type BlockingOptions,
  END,
  type Sleep,
  spinOf,
  Wait,
} from './blocking-socket.js';
import { BlockingStpEndpoint, BlockingStpLink, handedStream } from './blocking-stp.js';
import { BlockingTcpEndpoint, BlockingTcpLink } from './blocking-tcp.js';
import { RECEIVE_EXACTLY_BYTES_MAX } from './bounds.js';
import {
  AF_STP,
  checkHost,
  checkPoll,
  checkSocket,
  type PollEntry,
  type PollResult,
  SOCK_STREAM,
} from './calls.js';
import { POLLERR, POLLHUP, POLLIN, POLLNVAL } from './channel.js';
import { checkBacklog, checkBytes, checkData, endedEarly, shutDown } from './checks.js';
import { DescriptorTable, type Family, familyOf } from './descriptor-table.js';
import { type Address, networkEntry, type Target } from './endpoint.js';
import { factOf } from './facts.js';
import type { HandedOver } from './hand-over.js';
import {
  defaultOptions,
  inherited,
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
import { type Call, checkCall, type State } from './states.js';
import type { ArrayOptions } from './stp-connect.js';

export type { BlockingOptions } from './blocking-socket.js';

/** What receive() takes at once into a buffer of its own. */
const RECEIVE_BYTES = 65536;
/** A stream whose bells ring in another thread is looked at this often by poll(). */
const LOOK_MS = 1;
const EMPTY = Buffer.alloc(0);

/** One side of a listener: of one mechanism, or the two of serve(). */
interface Side {
  readonly family: Family;
  readonly endpoint: BlockingEndpoint;
}

class Socket {
  readonly fd: number;
  readonly options: SocketOptions;
  readonly reason: number;
  /** None of an accepted socket; of a listener on both the array's first, if it has one. */
  sides: readonly Side[];
  state: State = 'unbound';
  link: BlockingLink | undefined;
  /** Bytes that came with a hand-over, or were given back by a receive that gave up. */
  leading: Uint8Array = EMPTY;
  failure: StpError | undefined;
  /** A send was given up half-way: the link is closed, with a reset. */
  givenUp = false;
  writeShut = false;
  readShut = false;
  /** Of a listener on both: why it is not on the array. */
  listenReason: number = NUMBERS.REASON_NONE;
  /** Takes the connection off its STG's list. */
  unlist: () => void = () => {};

  constructor(fd: number, sides: readonly Side[], options: SocketOptions, reason: number) {
    this.fd = fd;
    this.sides = sides;
    this.options = options;
    this.reason = reason;
  }
}

/** What a layer that blocks works with; all may be absent. */
export interface BlockingConnectOptions {
  /** A host that this thread attached: for AF_STP. */
  readonly host?: Host;
  /** Ends waiting calls when another thread makes it anything but 0: ECANCELED. */
  readonly stop?: Int32Array;
  /** Without a host: why, a REASON_ number that dial() and serve() record. */
  readonly reason?: number;
}

/**
 * The calls of STPConnect for a thread that may block: each gives its result. `timeoutMs` is the
 * whole call's, milliseconds (ETIMEDOUT); `stop` ends any (ECANCELED).
 */
export class BlockingConnect {
  readonly #host: Host | undefined;
  readonly #stop: Int32Array | undefined;
  readonly #reason: number;
  readonly #table = new DescriptorTable<Socket>();
  #ownsHost = false;
  /** Between two slices: the host is turned, so that its control goes on whoever waits for what. */
  readonly #sleep: Sleep;

  constructor(options: BlockingConnectOptions = {}) {
    this.#host = options.host;
    this.#stop = options.stop;
    this.#reason = options.reason ?? NUMBERS.REASON_NOT_HERE;
    const { host } = options;
    this.#sleep = (sliceMs, watched, spinUs) => {
      if (host !== undefined) return host.waitTurn(sliceMs, watched, spinUs);
      const entries = new Int32Array((watched.length / 2) * 3);
      for (let i = 0; i < watched.length; i += 2) {
        entries.set([watched[i] as number, watched[i + 1] as number], (i / 2) * 3);
      }
      blockingTurn(sliceMs, entries, spinUs);
      return Array.from({ length: watched.length / 2 }, (_, i) => entries[i * 3 + 2] as number);
    };
  }

  /**
   * A layer with a host of its own, attached now, as a thread that blocks cannot attach later.
   * Where the array cannot be had the layer is of the network, and remembers why.
   */
  static async open(
    options: Pick<ArrayOptions, 'array'> & { stop?: Int32Array },
  ): Promise<BlockingConnect> {
    const { array, stop } = options;
    const common = stop === undefined ? {} : { stop };
    if (array === undefined) return new BlockingConnect(common);
    try {
      const layer = new BlockingConnect({ ...common, host: await attach(array) });
      layer.#ownsHost = true;
      return layer;
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined) throw error;
      return new BlockingConnect({ ...common, reason });
    }
  }

  // --- making sockets ---------------------------------------------------------------------------

  /** @throws EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT, EMFILE */
  socket(family: number, type = SOCK_STREAM, protocol = 0): number {
    checkSocket(family, type, protocol);
    if (family === AF_STP) {
      const host = checkHost(this.#host);
      return this.#open('stp', (own) => [this.#stp(host, own)], NUMBERS.REASON_NONE);
    }
    return this.#open('inet', (own) => [this.#inet(own)], NUMBERS.REASON_ASKED);
  }

  /** @throws as socket */
  STPsocket(): number {
    return this.socket(AF_STP);
  }

  /**
   * Holds a port; 0 is a dynamic one, which getsockname() tells.
   * @throws EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOBUFS, ENETDOWN, EINVAL
   */
  bind(fd: number, at: Target): void {
    const socket = this.#get('bind', fd);
    this.#become(socket, 'bound', () => this.#side(socket).bind(at, this.#wait('bind', socket)));
  }

  /**
   * @param backlog connections that may wait for accept(), 1 to 4096; further connects wait
   *   themselves
   * @throws EADDRINUSE, EINVAL
   */
  listen(fd: number, backlog = BACKLOG_DEFAULT): void {
    const socket = this.#get('listen', fd);
    checkBacklog(backlog);
    const bound = socket.state === 'bound';
    this.#become(socket, 'listening', () => {
      const wait = this.#wait('listen', socket);
      for (const { endpoint } of socket.sides) {
        if (!bound) endpoint.bind({ port: 0 }, wait);
        endpoint.listen(backlog, wait);
      }
    });
  }

  /**
   * The descriptor of the next connection.
   * @throws EAGAIN, EINVAL (does not listen), ENETDOWN (stpd is gone), ETIMEDOUT, ECANCELED
   */
  accept(fd: number, options: BlockingOptions = {}): number {
    const listener = this.#get('accept', fd);
    const wait = this.#wait('accept', listener, options);
    for (;;) {
      for (const side of listener.sides) {
        const link = this.#next(listener, side);
        if (link !== undefined) return this.#accepted(listener, side.family, link);
      }
      this.#pause(
        wait.next(),
        listener.sides.map(({ endpoint }) => endpoint.armed),
        spinOf(listener.options),
      );
    }
  }

  /** What has arrived on one side. A listener on both goes on where stpd is gone. */
  #next(listener: Socket, side: Side): BlockingLink | undefined {
    try {
      return side.endpoint.accept();
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined || listener.sides.length === 1) throw error;
      side.endpoint.release();
      listener.sides = listener.sides.filter((other) => other !== side);
      listener.listenReason = reason;
      return undefined;
    }
  }

  #accepted(listener: Socket, family: Family, link: BlockingLink): number {
    const own = inherited(listener.options);
    const reason = family === 'stp' ? NUMBERS.REASON_NONE : listener.reason;
    try {
      const fd = this.#table.add(family, (number) => new Socket(number, [], own, reason));
      this.#join(this.#table.get(fd, 'accept'), link);
      return fd;
    } catch (error) {
      link.close(true);
      throw error;
    }
  }

  /**
   * After a failure the descriptor is as new: not bound, and connect may be called again.
   * @throws ECONNREFUSED, EISCONN, ENOTFOUND, ENETDOWN, ETIMEDOUT, ECANCELED; EINPROGRESS where it
   *   may not wait: poll() tells when it is done, option `error` how
   */
  connect(fd: number, to: Target, options: BlockingOptions = {}): void {
    const socket = this.#get('connect', fd);
    const endpoint = this.#side(socket);
    const wait = this.#wait('connect', socket, options);
    socket.failure = undefined;
    socket.state = 'connecting';
    try {
      // A name is looked up before there is anything that could go on by itself.
      endpoint.startConnect(to, this.#wait('connect', socket, options, false));
      while (!this.#finishConnect(socket)) {
        this.#pause(wait.next(), [endpoint.armed], spinOf(socket.options));
      }
    } catch (error) {
      if (isCoded(error) && error.code === 'EAGAIN') {
        throw stpError('EINPROGRESS', `connect on descriptor ${fd} goes on; poll it`, 'connect');
      }
      this.#asNew(socket);
      throw error;
    }
  }

  /** True once it is connected. @throws why it failed, and the descriptor is as new */
  #finishConnect(socket: Socket): boolean {
    const link = this.#side(socket).connected();
    if (link === undefined) return false;
    this.#join(socket, link);
    return true;
  }

  /**
   * Connects to a service that is on the array and on the network, as STPConnect's: through the
   * array if it can, else over the network. The descriptor's value tells which it became.
   */
  dial(to: DialTarget, options: Omit<DialOptions, 'signal' | 'psk'> = {}): number {
    const decision = new Decision(options);
    if (decision.asksArray) {
      try {
        if (this.#host === undefined) throw this.#noArray();
        return this.#dialled(this.socket(AF_STP), { port: to.port }, decision.arrayMs());
      } catch (error) {
        decision.fallBack(error);
      }
    }
    try {
      const fd = this.#open('inet', (own) => [this.#inet(own)], decision.reason);
      return this.#dialled(fd, to.network, decision.networkMs());
    } catch (error) {
      throw decision.bothFailed(error);
    }
  }

  #dialled(fd: number, to: Target, timeoutMs: number): number {
    try {
      this.connect(fd, to, { timeoutMs });
      return fd;
    } catch (error) {
      this.abort(fd);
      throw error;
    }
  }

  /**
   * Listens on the array and on the network at once, as STPConnect's.
   * @throws EADDRINUSE; with `use: 'array'` what the array lacks
   */
  serve(at: ServeTarget, options: Omit<ServeOptions, 'psk'> = {}): number {
    const decision = new Decision(options);
    const needed = options.use === 'array';
    if (decision.asksArray && this.#host === undefined) decision.fallBack(this.#noArray());
    const host = decision.reason === NUMBERS.REASON_NONE ? this.#host : undefined;
    const fd = this.#open(
      'either',
      (own) => [...(host === undefined ? [] : [this.#stp(host, own)]), this.#inet(own)],
      NUMBERS.REASON_PEER_CAME,
    );
    const socket = this.#table.get(fd, 'listen');
    socket.listenReason = decision.reason;
    try {
      if (host !== undefined) this.#serveStorage(socket, at, needed);
      const wait = this.#wait('listen', socket);
      const network = (socket.sides.at(-1) as Side).endpoint;
      network.bind(at.network, wait);
      network.listen(at.backlog ?? BACKLOG_DEFAULT, wait);
      socket.state = 'listening';
      return fd;
    } catch (error) {
      this.abort(fd);
      throw error;
    }
  }

  #serveStorage(socket: Socket, at: ServeTarget, needed: boolean): void {
    const [storage, network] = socket.sides as [Side, Side];
    const wait = this.#wait('listen', socket);
    try {
      storage.endpoint.bind({ port: at.port }, wait);
      storage.endpoint.listen(at.backlog ?? BACKLOG_DEFAULT, wait);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined || needed) throw error;
      storage.endpoint.release();
      socket.sides = [network];
      socket.listenReason = reason;
    }
  }

  #noArray(): StpError {
    const error = stpError('EAFNOSUPPORT', 'this thread is attached to no array', 'attach');
    error.reason = this.#reason;
    return error;
  }

  /** Takes a connection that STPConnect.handOver() gave, in this process or thread: once. */
  adopt(given: HandedOver): number {
    const own = { ...defaultOptions };
    const { local, remote, peer, reason, mechanism } = given;
    const fd = this.#table.add(mechanism, (number) => new Socket(number, [], own, reason));
    try {
      const socket = this.#table.get(fd, 'adopt');
      if (given.mechanism === 'stp') {
        this.#join(socket, new BlockingStpLink(handedStream(given.stream, local, remote, peer)));
        socket.leading = given.stream.leading;
      } else {
        this.#join(socket, new BlockingTcpLink(native().tcpAdopt(given.socket)));
        socket.leading = given.leading;
      }
      return fd;
    } catch (error) {
      this.#table.remove(fd, 'adopt');
      throw error;
    }
  }

  // --- moving bytes -----------------------------------------------------------------------------

  /**
   * Blocks until the kernel, or the array, has all of `data`. One that gives up half-way resets the
   * connection. With `nonBlocking` or `sendTimeoutMs` it takes what there is room for.
   * @returns bytes taken
   * @throws ECONNRESET, EPIPE, EAGAIN, ETIMEDOUT
   */
  send(fd: number, data: Uint8Array, options: BlockingOptions = {}): number {
    const socket = this.#get('send', fd);
    const link = socket.link as BlockingLink;
    checkData(data, 'send');
    if (socket.failure !== undefined) throw socket.failure;
    if (socket.writeShut) throw shutDown(link.remote, 'send');
    const wait = this.#wait('send', socket, options);
    let at = 0;
    while (at < data.length) {
      let sliceMs: number;
      try {
        sliceMs = wait.next();
      } catch (error) {
        if (at === 0) throw error;
        if (isCoded(error) && error.code === 'EAGAIN') return at;
        socket.failure = stpError('ECONNRESET', 'reset: a send was given up half-way', 'send');
        socket.givenUp = true;
        link.close(true);
        throw error;
      }
      at += this.#moving(socket, () => link.send(data, at, data.length - at, sliceMs));
      if (socket.readShut) this.#discard(socket);
    }
    return at;
  }

  /**
   * 1 to `bytesMax` bytes, and 65536 at most; empty is the peer's orderly end.
   * @throws EAGAIN, ECONNRESET, ETIMEDOUT, ECANCELED, EINVAL (bytesMax)
   */
  receive(fd: number, bytesMax: number, options: BlockingOptions = {}): Buffer {
    checkBytes(bytesMax, 1, Number.MAX_SAFE_INTEGER, 'receive');
    const into = Buffer.allocUnsafe(Math.min(bytesMax, RECEIVE_BYTES));
    return into.subarray(0, this.receiveInto(fd, into, options));
  }

  /** As receive, into memory of the caller's. @returns bytes; 0 at the peer's orderly end */
  receiveInto(fd: number, into: Uint8Array, options: BlockingOptions = {}): number {
    const socket = this.#get('receive', fd);
    if (socket.readShut) return 0;
    if (socket.leading.length > 0) return takeLeading(socket, into);
    if (into.length === 0) return 0;
    const wait = this.#wait('receive', socket, options);
    for (;;) {
      const got = this.#receive(socket, into, 0, wait.next());
      if (got !== 0) return got === END ? 0 : got;
    }
  }

  /** Exactly `bytes`; ENODATA if the end comes before. One that gives up has taken nothing. */
  receiveExactly(fd: number, bytes: number, options: BlockingOptions = {}): Buffer {
    const socket = this.#get('receive', fd);
    checkBytes(bytes, 0, RECEIVE_EXACTLY_BYTES_MAX, 'receive');
    const whole = Buffer.allocUnsafe(bytes);
    const wait = this.#wait('receive', socket, options);
    let at = 0;
    try {
      at = takeLeading(socket, whole);
      while (at < bytes && !socket.readShut) {
        const got = this.#receive(socket, whole, at, wait.next());
        if (got === END) break;
        at += got;
      }
    } catch (error) {
      socket.leading = Buffer.concat([whole.subarray(0, at), socket.leading]);
      throw error;
    }
    if (at === bytes) return whole;
    throw endedEarly((socket.link as BlockingLink).remote, at, bytes, 'receive');
  }

  #receive(socket: Socket, into: Uint8Array, at: number, sliceMs: number): number {
    if (socket.failure !== undefined) throw socket.failure;
    const link = socket.link as BlockingLink;
    return this.#moving(socket, () => link.receive(into, at, into.length - at, sliceMs));
  }

  /** A failure of the stream stays one. */
  #moving(socket: Socket, body: () => number): number {
    try {
      return body();
    } catch (error) {
      if (isCoded(error)) socket.failure = error;
      throw error;
    }
  }

  /** What comes after a shutdown of reading is nobody's; the peer must not be held up by it. */
  #discard(socket: Socket): void {
    const scratch = Buffer.allocUnsafe(RECEIVE_BYTES);
    try {
      while ((socket.link as BlockingLink).receive(scratch, 0, scratch.length, 0) > 0);
    } catch {
      /* the next send will say it */
    }
  }

  /**
   * `write`: the peer sees an end behind everything sent. `read`: receives return an end from now
   * on; what still comes is discarded when this thread sends, polls or closes.
   */
  shutdown(fd: number, how: 'read' | 'write' | 'both'): void {
    const socket = this.#get('shutdown', fd);
    if (how !== 'write') {
      socket.readShut = true;
      socket.leading = EMPTY;
      this.#discard(socket);
    }
    if (how === 'read') return;
    if (socket.failure !== undefined) throw socket.failure;
    if (socket.writeShut) return;
    socket.writeShut = true;
    (socket.link as BlockingLink).finish();
  }

  // --- ends -------------------------------------------------------------------------------------

  /** Orderly: what send() has taken arrives, then the end. With unread bytes it is a reset. */
  close(fd: number): void {
    const socket = this.#table.remove(fd, 'close');
    if (socket.readShut && socket.link !== undefined) this.#discard(socket);
    this.#let(socket, socket.options.lingerMs === 0 || socket.leading.length > 0);
  }

  /** Resets: the peer gets ECONNRESET. */
  abort(fd: number): void {
    this.#let(this.#table.remove(fd, 'abort'), true);
  }

  #let(socket: Socket, reset: boolean): void {
    socket.state = 'closed';
    socket.unlist();
    for (const { endpoint } of socket.sides) endpoint.release();
    // After a send that was given up the link is closed already.
    if (socket.link !== undefined && !socket.givenUp) socket.link.close(reset);
    socket.link = undefined;
    this.#host?.hurry();
  }

  /** Closes every descriptor, each as `close` does. */
  closeAll(): void {
    for (const fd of this.#table.numbers()) this.close(fd);
  }

  /** Closes everything, and leaves the array if open() joined it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeAll();
    if (this.#ownsHost) await this.#host?.close();
  }

  // --- names and options ------------------------------------------------------------------------

  /** Where it is bound. @throws EBADF */
  getsockname(fd: number): Address {
    const socket = this.#table.get(fd, 'getsockname');
    return socket.link?.local ?? (socket.sides.at(-1) as Side).endpoint.name();
  }

  /** Where its peer is. @throws ENOTCONN, EBADF */
  getpeername(fd: number): Address {
    return (this.#get('getpeername', fd).link as BlockingLink).remote;
  }

  /** As STPConnect's; `psk` is ENOPROTOOPT. */
  setsockopt(fd: number, name: string, value: unknown): void {
    const socket = this.#table.get(fd, 'setsockopt');
    if (!isSocketOption(name)) throw noOption(familyOf(fd), name, 'setsockopt');
    setOption(familyOf(fd), socket.options, name, value);
    socket.link?.apply(socket.options);
  }

  /** As STPConnect's. */
  getsockopt(fd: number, name: string): unknown {
    const socket = this.#table.get(fd, 'getsockopt');
    const { options, state, failure, link, sides } = socket;
    const either = familyOf(fd) === 'either';
    const storage = either ? sides.find(({ family }) => family === 'stp') : undefined;
    return factOf(familyOf(fd), name, {
      options,
      state,
      reason: either ? socket.listenReason : socket.reason,
      storageName: storage?.endpoint.name() ?? null,
      failure,
      link,
    });
  }

  // --- poll -------------------------------------------------------------------------------------

  /**
   * Blocks until descriptors of the set are ready, of both mechanisms in one; empty when the time
   * is over.
   * @param timeoutMs 0: what is ready now; -1: for ever
   */
  poll(entries: readonly PollEntry[], timeoutMs: number): PollResult[] {
    checkPoll(entries, timeoutMs);
    const soft = timeoutMs < 0 ? undefined : timeoutMs;
    const wait = new Wait('poll', -1, 0, soft, this.#stop);
    let sliceMs = 0;
    for (;;) {
      const ready = this.#look(entries, sliceMs);
      if (ready.length > 0) return ready;
      try {
        sliceMs = wait.next();
      } catch (error) {
        if (isCoded(error) && error.code === 'EAGAIN') return [];
        throw error;
      }
      // The first look waits for nothing, so that what is ready is told without a sleep.
      if (sliceMs === 0) return this.#look(entries, 0);
    }
  }

  /** What is ready, after a sleep of at most `sliceMs` if nothing is. */
  #look(entries: readonly PollEntry[], sliceMs: number): PollResult[] {
    const armed = entries.map(({ fd, events }) => this.#arm(fd, events));
    const revents = this.#pause(
      armed.includes('ready') ? 0 : sliceMs,
      armed,
      Math.max(0, ...entries.map(({ fd }) => this.#spin(fd))),
    );
    return entries
      .map(({ fd, events }, i) => ({ fd, revents: this.#readiness(fd, events, revents[i] ?? 0) }))
      .filter((result) => result.revents !== 0);
  }

  #spin(fd: number): number {
    const socket = this.#table.find(fd);
    return socket === undefined ? 0 : spinOf(socket.options);
  }

  #arm(fd: number, events: number): Armed | undefined {
    const socket = this.#table.find(fd);
    if (socket === undefined || socket.failure !== undefined) return 'ready';
    if (socket.link !== undefined) {
      if (socket.readShut) this.#discard(socket);
      if (socket.readShut && events & POLLIN) return 'ready';
      return socket.leading.length > 0 && events & POLLIN ? 'ready' : socket.link.arm(events);
    }
    if (socket.state === 'connecting') return this.#side(socket).armed;
    if (socket.state !== 'listening') return 'ready';
    // A listener on both is woken by either: the host's turn ends when the array has something.
    const [first, second] = socket.sides.map(({ endpoint }) => endpoint.armed);
    return first === 'host' && second !== undefined ? second : first;
  }

  #readiness(fd: number, events: number, revents: number): number {
    const socket = this.#table.find(fd);
    if (socket === undefined) return POLLNVAL;
    if (socket.state === 'connecting') {
      try {
        if (!this.#finishConnect(socket)) return 0;
      } catch (error) {
        this.#asNew(socket);
        if (isCoded(error)) socket.failure = error;
      }
    }
    if (socket.failure !== undefined) {
      const whileNew = socket.link === undefined ? events : events & POLLIN;
      return POLLERR | POLLHUP | whileNew;
    }
    const { link } = socket;
    if (link === undefined) {
      if (socket.state !== 'listening') return POLLHUP;
      const arrived = socket.sides.some(({ endpoint }) => endpoint.arrived);
      return arrived || revents & POLLIN ? events & POLLIN : 0;
    }
    const own = socket.leading.length > 0 || socket.readShut ? events & POLLIN : 0;
    return link.readiness(events, revents) | own;
  }

  /** Sleeps until one of them may be true; what poll(2) said of each that has a descriptor. */
  #pause(sliceMs: number, armed: readonly (Armed | undefined)[], spinUs: number): number[] {
    const watched: number[] = [];
    const places: number[] = [];
    let ms = sliceMs;
    armed.forEach((one, i) => {
      if (one === 'ready') ms = 0;
      else if (one === 'look') ms = Math.min(ms, LOOK_MS);
      else if (typeof one === 'object') {
        places.push(i);
        watched.push(one.fd, one.events);
      }
    });
    const revents: number[] = new Array(armed.length).fill(0);
    this.#sleep(ms, watched, ms === 0 ? 0 : spinUs).forEach((r, i) => {
      revents[places[i] as number] = r;
    });
    return revents;
  }

  // --- the plain work ---------------------------------------------------------------------------

  #open(
    kind: 'inet' | 'stp' | 'either',
    make: (own: SocketOptions) => readonly Side[],
    reason: number,
  ): number {
    const own = { ...defaultOptions };
    return this.#table.add(kind, (fd) => new Socket(fd, make(own), own, reason));
  }

  #inet(own: SocketOptions): Side {
    return { family: 'inet', endpoint: new BlockingTcpEndpoint(own, this.#sleep) };
  }

  #stp(host: Host, own: SocketOptions): Side {
    return { family: 'stp', endpoint: new BlockingStpEndpoint(host, () => spinOf(own)) };
  }

  #side(socket: Socket): BlockingEndpoint {
    return (socket.sides[0] as Side).endpoint;
  }

  /** @throws EBADF, and what the state table says */
  #get(call: Call, fd: number): Socket {
    const socket = this.#table.get(fd, call);
    if (socket.state === 'connecting') this.#readiness(fd, 0, 0);
    checkCall(call, socket.state, fd);
    return socket;
  }

  /** @param mayBeSoft false: POSIX's limits do not end it */
  #wait(call: Call, socket: Socket, options: BlockingOptions = {}, mayBeSoft = true): Wait {
    const own = socket.options;
    const timeoutMs = options.timeoutMs ?? own.timeoutMs;
    if (!(timeoutMs >= 0)) throw stpError('EINVAL', `timeoutMs is ${timeoutMs}: 0 or more`, call);
    let softMs = 0;
    if (call === 'receive' || call === 'accept') softMs = own.receiveTimeoutMs;
    else if (call === 'send' || call === 'connect') softMs = own.sendTimeoutMs;
    const hard = !mayBeSoft || call === 'bind' || call === 'listen';
    const soft = own.nonBlocking ? 0 : softMs > 0 ? softMs : undefined;
    return new Wait(call, socket.fd, timeoutMs, hard ? undefined : soft, this.#stop);
  }

  #join(socket: Socket, link: BlockingLink): void {
    socket.link = link;
    socket.state = 'connected';
    link.apply(socket.options);
    const entry = networkEntry(link, socket.reason);
    if (entry !== undefined) socket.unlist = this.#host?.listNetwork(entry) ?? socket.unlist;
  }

  #become(socket: Socket, after: State, body: () => void): void {
    try {
      body();
      socket.state = after;
    } catch (error) {
      this.#asNew(socket);
      throw error;
    }
  }

  /** What a failed call has taken meanwhile is given back. */
  #asNew(socket: Socket): void {
    for (const { endpoint } of socket.sides) endpoint.release();
    socket.state = 'unbound';
  }
}

/** Bytes that lie in this process already. */
function takeLeading(socket: Socket, into: Uint8Array): number {
  const bytes = Math.min(into.length, socket.leading.length);
  into.set(socket.leading.subarray(0, bytes));
  socket.leading = socket.leading.subarray(bytes);
  return bytes;
}
