/**
 * Where one situation is played, over one face: makes servers and sockets, watches them, and clears
 * up behind it.
 */
import { createHash } from 'node:crypto';
import type {
  AddressInfo,
  NetConnectOpts,
  Server,
  ServerOpts,
  Socket,
  SocketConstructorOpts,
  TcpSocketConnectOpts,
} from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child } from './child.js';
import type { Face } from './face.js';
import { Journal } from './journal.js';
import { LOOPBACK } from './loopback.js';
import { type Deed, PromptPeer } from './prompt-peer.js';

export { LOOPBACK };

export type ServerOptions = ServerOpts;
export type ConnectOptions = Partial<TcpSocketConnectOpts> &
  SocketConstructorOpts & {
    readonly timeout?: number;
    readonly readableHighWaterMark?: number;
    readonly writableHighWaterMark?: number;
  };

export interface WatchOptions {
  readonly lane?: string;
  /** Without a listener for 'error': one becomes an uncaught exception, which is noted. */
  readonly unheard?: boolean;
}

export interface Pair {
  readonly server: Server;
  readonly client: Socket;
  readonly accepted: Socket;
  readonly port: number;
}

const stageOfError = new WeakMap<object, { readonly stage: Stage; readonly lane: string }>();

export class Stage {
  readonly face: Face;
  readonly journal = new Journal();
  /** Run directory and STG, for child processes; none over `node:net`. */
  readonly #array: readonly string[];
  readonly #servers: Server[] = [];
  readonly #sockets: Socket[] = [];
  readonly #children: Child[] = [];
  readonly #peers: PromptPeer[] = [];
  #apart = false;
  readonly #closed = new Set<Server | Socket>();

  constructor(face: Face, array: readonly string[]) {
    this.face = face;
    this.#array = array;
  }

  /** Every accepted socket has a lane of its own; else the first is in the one of its server. */
  apart(): void {
    this.#apart = true;
  }

  /** A line in a lane ('client' unless told). */
  log(text: string, lane = 'client'): void {
    this.journal.note(lane, text);
  }

  /** A callback that logs its name and what it was given. */
  callback(name: string, lane = 'client'): (...args: unknown[]) => void {
    return (...args) => {
      const given = args.filter((arg) => arg !== undefined && arg !== null);
      this.log([`${name}()`, ...given.map((arg) => this.journal.show(arg))].join(' '), lane);
    };
  }

  /** Logs what a call throws, or what it returns. */
  try(name: string, call: () => unknown, lane = 'client'): void {
    let result: string;
    try {
      const value = call();
      result = value === undefined ? 'returns' : `returns ${this.journal.show(value)}`;
    } catch (error) {
      result = `throws ${this.journal.show(error)}`;
    }
    this.log(`${name} ${result}`, lane);
  }

  seen(line: string | RegExp): Promise<void> {
    return this.journal.seen(line);
  }

  /** A while in which whatever wants to happen can, also where this process was busy meanwhile. */
  async quiet(ms = 60): Promise<void> {
    for (const part of [ms * 0.75, ms * 0.25]) {
      await sleep(part);
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  // --- servers and sockets ----------------------------------------------------------------------

  watch<T extends Server | Socket>(emitter: T, name: string, options: WatchOptions = {}): T {
    const lane = options.lane ?? (name.startsWith('client') ? 'client' : 'server');
    if (isServer(emitter)) this.#servers.push(emitter);
    else this.#sockets.push(emitter);
    this.journal.watch(lane, name, emitter);
    const emit = emitter.emit;
    emitter.emit = (event: string, ...args: unknown[]): boolean => {
      if (event === 'close') this.#closed.add(emitter);
      if (event === 'error' && options.unheard) {
        stageOfError.set(args[0] as object, { stage: this, lane });
      }
      return emit.apply(emitter, [event, ...args] as never);
    };
    if (options.unheard !== true) emitter.on('error', () => {});
    return emitter;
  }

  /** An error for a listener to throw: that it was not caught is noted. */
  thrown(name: string, lane = 'client'): Error {
    const error = new Error(name);
    stageOfError.set(error, { stage: this, lane });
    return error;
  }

  server(options: ServerOptions = {}, name = 'server'): Server {
    return this.watch(this.face.createServer(options), name);
  }

  /** Listens on a free port of loopback. */
  async listening(
    options: ServerOptions = {},
    name = 'server',
  ): Promise<{ server: Server; port: number }> {
    const server = this.server(options, name);
    let accepted = 0;
    server.on('connection', (socket) => {
      accepted++;
      /* What several of them do is not in any order. */
      if (accepted === 1 && !this.#apart) this.watch(socket, 'accepted');
      else this.watch(socket, 'accepted', { lane: `accepted ${accepted}` });
    });
    server.listen({ port: 0, host: LOOPBACK });
    await this.seen(`${name}: listening`);
    return { server, port: portOf(server) };
  }

  /** Starts connecting. */
  connect(
    port: number,
    options: ConnectOptions = {},
    name = 'client',
    watch?: WatchOptions,
  ): Socket {
    return this.watch(
      this.face.connect({ port, host: LOOPBACK, ...options } as NetConnectOpts),
      name,
      watch,
    );
  }

  /** A connection with both its ends. */
  async pair(
    serverOptions: ServerOptions = {},
    clientOptions: ConnectOptions = {},
    clientWatch?: WatchOptions,
  ): Promise<Pair> {
    const { server, port } = await this.listening(serverOptions);
    const arrived = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const client = this.connect(port, clientOptions, 'client', clientWatch);
    await this.seen('client: ready');
    return { server, client, accepted: await arrived, port };
  }

  /** A port on which nobody listens. */
  async unusedPort(): Promise<number> {
    const server = this.face.createServer();
    await new Promise<void>((resolve) => server.listen({ port: 0, host: LOOPBACK }, resolve));
    const port = portOf(server);
    await new Promise((resolve) => server.close(resolve));
    return port;
  }

  /** Until each has said 'close'. */
  closed(...emitters: (Server | Socket)[]): Promise<void> {
    return this.journal.when('close', () => emitters.every((emitter) => this.#closed.has(emitter)));
  }

  /** What a socket says of itself now. */
  state(
    socket: Socket,
    name = 'client',
    lane = name.startsWith('client') ? 'client' : 'server',
  ): void {
    const is = [
      socket.readyState,
      ...(['pending', 'connecting', 'destroyed', 'closed'] as const).filter((key) => socket[key]),
      ...(
        ['readable', 'readableEnded', 'readableAborted', 'writable', 'writableEnded'] as const
      ).filter((key) => socket[key]),
      ...(['writableFinished', 'writableNeedDrain'] as const).filter((key) => socket[key]),
      `flowing ${socket.readableFlowing}`,
      `errored ${socket.errored === null ? null : this.journal.show(socket.errored)}`,
      `read ${socket.bytesRead}`,
      `written ${socket.bytesWritten}`,
      `unsent ${socket.writableLength}`,
      `unread ${socket.readableLength}`,
      `timeout ${socket.timeout}`,
    ];
    this.log(`${name} is ${is.join(', ')}`, lane);
  }

  // --- processes --------------------------------------------------------------------------------

  /** A process of its own in a role of child.ts; what it says goes into lane 'child'. */
  child(role: string, port = 0): Child {
    const child = new Child(this.#array, role, port, (text) => this.log(text, 'child'));
    this.#children.push(child);
    return child;
  }

  // --- threads ----------------------------------------------------------------------------------

  /**
   * Starts connecting to a peer that has done its deed before this thread looks: it stands still from
   * the next tick on until then.
   */
  async connectToPrompt(
    deed: Deed,
    options: ConnectOptions = {},
    connect: (port: number) => Socket = (port) => this.connect(port, options),
  ): Promise<Socket> {
    const peer = this.#peer(deed);
    const client = connect(await peer.port);
    process.nextTick(() => peer.block());
    return client;
  }

  /** A peer connects, and has done its deed before this thread looks. */
  async promptArrival(deed: Deed, port: number): Promise<void> {
    const peer = this.#peer(deed, port);
    await peer.port;
    peer.block();
  }

  #peer(deed: Deed, port?: number): PromptPeer {
    const peer = new PromptPeer(this.#array, deed, port);
    this.#peers.push(peer);
    return peer;
  }

  // --- the end ----------------------------------------------------------------------------------

  async clear(): Promise<void> {
    await this.quiet(40);
    this.journal.seal();
    for (const child of this.#children) child.end();
    await Promise.all(this.#peers.map((peer) => peer.end()));
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    await sleep(1);
  }
}

/**
 * Notes uncaught exceptions that situations cause on purpose; hands others to `others`. One a process.
 */
export function catchUncaught(others: (error: Error) => void): void {
  process.setUncaughtExceptionCaptureCallback((error) => {
    const from = stageOfError.get(error);
    if (from === undefined) others(error);
    else from.stage.log(`uncaught ${from.stage.journal.show(error)}`, from.lane);
  });
}

export const portOf = (server: Server): number => (server.address() as AddressInfo).port;

export const digest = (...parts: Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 16);
};

let bytesOfPattern = Buffer.alloc(0);

/** The same bytes each time; no two KiB of a page are alike. */
export function pattern(bytes: number): Buffer {
  if (bytes > bytesOfPattern.length) {
    const page = Buffer.alloc(65521); /* a prime: no page is at its place by chance */
    for (let i = 0; i < page.length; i++) page[i] = (i * 31 + (i >>> 8) * 7) & 0xff;
    bytesOfPattern = Buffer.alloc(Math.max(bytes, 32 << 20), page);
  }
  return bytesOfPattern.subarray(0, bytes);
}

function isServer(emitter: Server | Socket): emitter is Server {
  return 'getConnections' in emitter;
}
