/**
 * A listener on a port of an STG, with the face of `net.Server`. Event loop's thread.
 */
import { EventEmitter } from 'node:events';
import { stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { BACKLOG_DEFAULT } from '../limits.js';
import type { DirectorEvent } from '../memory/member-ring.js';
import type { Host } from './host.js';
import { Liveness } from './liveness.js';
import { type StpAddress, StpSocket, type StpSocketOptions } from './stp-socket.js';

export interface StpServerOptions extends StpSocketOptions {
  readonly pauseOnConnect?: boolean;
}

interface StpServerEvents {
  connection: [socket: StpSocket];
  listening: [];
  close: [];
  error: [error: Error];
}

export class StpServer extends EventEmitter<StpServerEvents> {
  readonly host: Host;
  listening = false;
  readonly #options: StpServerOptions;
  readonly #number: number;
  readonly #connections = new Set<StpSocket>();
  #port = 0;
  #closing = false;
  /** The director has not answered yet. */
  #starting = false;
  readonly #liveness: Liveness;

  constructor(host: Host, options: StpServerOptions) {
    super();
    this.host = host;
    this.#options = options;
    this.#liveness = new Liveness(host);
    this.#number = host.newSocketNumber();
  }

  /**
   * Starts listening; 'listening' or 'error' follows.
   * @param options port 0 takes a dynamic one; `backlog` connections may wait (511)
   */
  listen(options: { port?: number; backlog?: number } | number, onListening?: () => void): this {
    const { port = 0, backlog = BACKLOG_DEFAULT } =
      typeof options === 'number' ? { port: options } : options;
    if (this.listening || this.#starting) {
      throw stpError('ERR_SERVER_ALREADY_LISTEN', 'the server listens already', 'listen');
    }
    if (onListening !== undefined) this.once('listening', onListening);
    this.#starting = true;
    this.#closing = false;
    this.#liveness.open();
    this.host.addServer(this.#number, this);
    this.host.command({ op: NUMBERS.OP_LISTEN, port, backlog, socket: this.#number }).then(
      (event) => {
        if (event.status !== 0) return this.#fail(this.host.refusal(event, 'listen', port));
        this.#port = event.localPort;
        this.#starting = false;
        if (this.#closing) {
          this.host.tell({ op: NUMBERS.OP_UNBIND, port: this.#port });
          this.#stop();
          return;
        }
        this.listening = true;
        this.emit('listening');
      },
      (error: Error) => this.#fail(error),
    );
    return this;
  }

  #fail(error: Error): void {
    this.#starting = false;
    if (this.#closing) return this.#stop();
    this.host.removeServer(this.#number);
    this.#liveness.close();
    this.emit('error', error);
  }

  #stop(): void {
    this.host.removeServer(this.#number);
    this.#liveness.close();
    this.#finish();
  }

  /** For Host: stpd is gone, nobody brings connections any more. 'close' follows as after close(). */
  onLost(): void {
    this.#closing = true;
    this.listening = false;
    if (!this.#starting) this.#stop();
  }

  address(): StpAddress | null {
    if (!this.listening) return null;
    return { port: this.#port, family: 'stp', address: this.host.stg };
  }

  /** For Host: a connection made by the director. */
  onIncoming(event: DirectorEvent): void {
    const { connection, generation } = event;
    this.host.tellLater({ op: NUMBERS.OP_ACCEPT, connection, generation });
    const socket = new StpSocket(this.host, this.#options);
    socket.on('error', () => {
      /* Until the application has its own listener: a peer that is gone before anybody looked is
         no reason to end the process. Node's net does the same for sockets it never handed out. */
    });
    if (!socket.accepted(event, this.#options.pauseOnConnect === true)) return;
    socket.removeAllListeners('error');
    this.#connections.add(socket);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#finish();
    });
    this.emit('connection', socket);
  }

  /** Takes no more connections; 'close' when the last one has ended. */
  close(onClose?: (error?: Error) => void): this {
    if (onClose !== undefined) {
      if (this.listening || this.#starting) this.once('close', () => onClose());
      else
        process.nextTick(() =>
          onClose(stpError('ERR_SERVER_NOT_RUNNING', 'Server is not running.')),
        );
    }
    this.#closing = true;
    if (this.listening) {
      this.listening = false;
      this.host.tell({ op: NUMBERS.OP_UNBIND, port: this.#port });
      this.#stop();
    }
    return this;
  }

  #finish(): void {
    if (!this.#closing || this.listening || this.#starting || this.#connections.size > 0) return;
    process.nextTick(() => this.emit('close'));
  }

  getConnections(callback: (error: Error | null, count: number) => void): void {
    process.nextTick(() => callback(null, this.#connections.size));
  }

  ref(): this {
    this.#liveness.want(true);
    return this;
  }

  unref(): this {
    this.#liveness.want(false);
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return new Promise((resolve) => this.close(() => resolve()));
  }
}
