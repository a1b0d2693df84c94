/**
 * A listener on a port of an STG, with the face of `net.Server`.
 *
 * Invariant: one number of the host stands for one `listen`; what the director brings for an
 * earlier one is refused. Event loop's thread.
 */
import { addAbortListener, EventEmitter } from 'node:events';
import { getDefaultHighWaterMark } from 'node:stream';
import { nodeError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { EXPECT_US } from '../limits.js';
import type { DirectorEvent } from '../memory/member-ring.js';
import { native } from '../native.js';
import {
  checkServerOptions,
  isHere,
  type ListenArguments,
  type ListenRequest,
  listenForm,
  listenRequest,
} from './arguments.js';
import type { Host } from './host.js';
import { Liveness } from './liveness.js';
import { type StpAddress, StpSocket } from './stp-socket.js';
import type { StreamEnd } from './stream-end.js';

/** As those of `net.createServer`. */
export interface StpServerOptions {
  readonly allowHalfOpen?: boolean;
  /** Leaves each new socket paused. */
  readonly pauseOnConnect?: boolean;
  /** Of both sides of each new socket. */
  readonly highWaterMark?: number;
  /** Without effect, as for sockets. */
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

/** Ports and STG of a connection that was refused because of `maxConnections`. */
export interface StpDrop {
  readonly localAddress: string;
  readonly localPort: number;
  readonly localFamily: 'stp';
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly remoteFamily: 'stp';
}

interface StpServerEvents {
  connection: [socket: StpSocket];
  listening: [];
  close: [];
  error: [error: Error];
  drop: [data: StpDrop];
}

/** A listener of a port of the STG, with the face of `net.Server`. The thread of its host. */
export class StpServer extends EventEmitter<StpServerEvents> {
  readonly host: Host;
  readonly allowHalfOpen: boolean;
  readonly pauseOnConnect: boolean;
  readonly noDelay: boolean;
  readonly keepAlive: boolean;
  /** Seconds, as `net.Server` shows it. */
  readonly keepAliveInitialDelay: number;
  readonly highWaterMark: number;
  /** Connections beyond these are dropped; none where absent. */
  declare maxConnections?: number;
  /** Of `node:cluster`: without effect. */
  declare dropMaxConnection?: boolean;
  readonly #liveness: Liveness;
  #state: 'closed' | 'starting' | 'listening' = 'closed';
  /** Of the `listen` that counts. */
  #number = 0;
  #port = 0;
  #connections = 0;

  constructor(
    host: Host,
    options?: StpServerOptions | ((socket: StpSocket) => void) | null,
    onConnection?: (socket: StpSocket) => void,
  ) {
    super();
    const given = typeof options === 'function' ? {} : (options ?? {});
    checkServerOptions(given);
    this.host = host;
    this.#liveness = new Liveness(host);
    this.allowHalfOpen = given.allowHalfOpen ?? false;
    this.pauseOnConnect = given.pauseOnConnect === true;
    this.noDelay = given.noDelay === true;
    this.keepAlive = given.keepAlive === true;
    this.keepAliveInitialDelay = Math.trunc(Math.max(0, given.keepAliveInitialDelay ?? 0) / 1000);
    const bytes = given.highWaterMark ?? -1;
    this.highWaterMark = bytes < 0 ? getDefaultHighWaterMark(false) : bytes;
    const listener = typeof options === 'function' ? options : onConnection;
    if (listener !== undefined) this.on('connection', listener);
  }

  // --- listening --------------------------------------------------------------------------------

  /** From 'listening' until `close`. */
  get listening(): boolean {
    return this.#state === 'listening';
  }

  /**
   * Starts listening; 'listening' or 'error' follows. Takes the forms of `net.Server.listen`.
   * @throws ERR_SERVER_ALREADY_LISTEN, ERR_SOCKET_BAD_PORT, ERR_INVALID_ARG_VALUE,
   *   ERR_INVALID_ARG_TYPE
   */
  listen(...args: ListenArguments): this {
    if (this.#state !== 'closed') {
      throw nodeError(
        Error,
        'ERR_SERVER_ALREADY_LISTEN',
        'the server listens already, or is about to: close it before it listens elsewhere',
      );
    }
    const { options, backlog, callback } = listenForm(args);
    if (callback !== undefined) this.once('listening', callback);
    const request = listenRequest(options, backlog);
    if (request.signal !== undefined) this.#closeOn(request.signal);
    this.#start(request);
    return this;
  }

  #start({ port, host, backlog }: ListenRequest): void {
    this.#state = 'starting';
    this.#port = port;
    const number = this.host.newSocketNumber();
    this.#number = number;
    this.#liveness.open();
    if (!isHere(host, this.host.stg)) {
      const why = `'${host}' is not here: a server listens in STG '${this.host.stg}'; leave the host out`;
      process.nextTick(() => this.#fail(number, stpError('EADDRNOTAVAIL', why, 'listen')));
      return;
    }
    this.host.addServer(number, this);
    this.host.ref(); /* until it listens, also where it is not referenced */
    this.host.ask({ op: NUMBERS.OP_LISTEN, port, backlog, socket: number }, (event) => {
      this.host.unref();
      if (event.kind === 0) {
        process.nextTick(() => this.#fail(number, this.host.detached));
      } else if (event.status !== 0) {
        this.#fail(number, this.host.refusal(event, 'listen', port));
      } else this.#onListening(number, event.localPort);
    });
  }

  #onListening(number: number, port: number): void {
    if (this.#number !== number || this.#state !== 'starting') {
      /* Closed meanwhile, when a dynamic port had no number yet. */
      this.host.tell({ op: NUMBERS.OP_UNBIND, port, socket: number });
      return;
    }
    this.#port = port;
    this.#state = 'listening';
    this.emit('listening');
  }

  #fail(number: number, error: Error | undefined): void {
    if (this.#number !== number || this.#state !== 'starting') return;
    this.#state = 'closed';
    this.host.removeServer(number);
    this.#liveness.close();
    this.emit('error', error ?? stpError('ENETDOWN', 'the array is gone', 'listen'));
  }

  #closeOn(signal: AbortSignal): void {
    if (signal.aborted) {
      process.nextTick(() => this.close());
      return;
    }
    const listener = addAbortListener(signal, () => this.close());
    this.once('close', () => listener[Symbol.dispose]());
  }

  /** Where it listens; null before 'listening' and after `close`. */
  address(): StpAddress | null {
    if (this.#state !== 'listening') return null;
    return { address: this.host.stg, family: 'stp', port: this.#port };
  }

  // --- connections ------------------------------------------------------------------------------

  /** For Host: a connection made by the director. */
  onIncoming(event: DirectorEvent): void {
    const { connection, generation } = event;
    this.host.tellLater({ op: NUMBERS.OP_ACCEPT, connection, generation });
    const end = this.host.openEnd(event);
    if (end === undefined) return;
    const { maxConnections } = this;
    if (typeof maxConnections === 'number' && this.#connections >= maxConnections) {
      return this.#drop(end);
    }
    const socket = new StpSocket(this.host, {
      allowHalfOpen: this.allowHalfOpen,
      highWaterMark: this.highWaterMark,
    });
    this.#connections++;
    socket.accepted(end, this);
    native().loopExpect(EXPECT_US); /* whoever connects has something to say */
    this.emit('connection', socket);
  }

  #drop(end: StreamEnd): void {
    const address = this.host.stg;
    this.emit('drop', {
      localAddress: address,
      localPort: end.localPort,
      localFamily: 'stp',
      remoteAddress: address,
      remotePort: end.remotePort,
      remoteFamily: 'stp',
    });
    end.release(end.isTorn());
  }

  /** For StpSocket: one that was accepted is destroyed. */
  onSocketGone(): void {
    this.#connections--;
    this.#closeIfDrained();
  }

  /** How many accepted sockets have not closed yet. */
  getConnections(callback: (error: Error | null, count: number) => void): this {
    process.nextTick(callback, null, this.#connections);
    return this;
  }

  /** With `captureRejections`: a listener of 'connection' that rejects costs its socket. */
  override [EventEmitter.captureRejectionSymbol](
    error: Error,
    event: unknown,
    ...args: unknown[]
  ): void {
    if (event === 'connection') (args[0] as StpSocket).destroy(error);
    else this.emit('error', error);
  }

  // --- the end ----------------------------------------------------------------------------------

  /** Takes no more connections; 'close' when the last one has ended. */
  close(onClose?: (error?: Error) => void): this {
    const open = this.#state !== 'closed';
    if (typeof onClose === 'function') {
      this.once('close', () => {
        if (open) onClose();
        else onClose(nodeError(Error, 'ERR_SERVER_NOT_RUNNING', 'Server is not running.'));
      });
    }
    if (open) {
      /* A dynamic port that has no number yet is given back when it has. */
      if (this.#port > 0) {
        this.host.tell({ op: NUMBERS.OP_UNBIND, port: this.#port, socket: this.#number });
      }
      this.#stop();
    }
    this.#closeIfDrained();
    return this;
  }

  /** For Host: stpd is gone, nobody brings connections any more. 'close' follows as after close(). */
  onLost(): void {
    this.#stop();
    this.#closeIfDrained();
  }

  #stop(): void {
    this.#state = 'closed';
    this.host.removeServer(this.#number);
    this.#liveness.close();
  }

  #closeIfDrained(): void {
    if (this.#state !== 'closed' || this.#connections > 0) return;
    process.nextTick(() => this.emit('close'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'closed') return;
    await new Promise<void>((resolve) => this.close(() => resolve()));
  }

  ref(): this {
    this.#liveness.want(true);
    return this;
  }

  unref(): this {
    this.#liveness.want(false);
    return this;
  }
}
