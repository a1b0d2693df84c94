/**
 * A socket through the array: the second implementation of `Endpoint`, over one attached host.
 *
 * A bound port is reserved with the channel director, which refuses an early peer itself. The
 * peer's identity comes from stpd, so there is nothing to prove and no option of its own.
 */
import { assert } from '../assert.js';
import { stpError } from '../errors.js';
import { WINDOW_BYTES } from '../layout/tables.js';
import { PORT_MAX } from '../limits.js';
import type { Host } from '../socket/host.js';
import type { StpServer } from '../socket/stp-server.js';
import type { StpSocket, StreamHandle } from '../socket/stp-socket.js';
import type { Address, Endpoint, Ledger, Link, Peer, Target } from './endpoint.js';
import type { Transfer } from './hand-over.js';
import type { Limit } from './limit.js';
import type { SocketOptions } from './options.js';
import { failed, settle } from './settle.js';

export class StpEndpoint implements Endpoint {
  readonly family = 'stp';
  readonly #host: Host;
  readonly #ledger: Ledger;
  #server: StpServer | undefined;
  #port = 0;

  constructor(host: Host, ledger: Ledger) {
    this.#host = host;
    this.#ledger = ledger;
  }

  async bind(at: Target): Promise<void> {
    checkStpTarget(at, 0, 'bind');
    try {
      this.#port = await this.#host.bind(at.port);
    } catch (error) {
      throw failed('bind', `${this.#host.stg}:${at.port}`, error);
    }
  }

  async listen(backlog: number, arrived: (link: Link) => void): Promise<void> {
    const server = this.#host.createServer(
      { allowHalfOpen: true, pauseOnConnect: true },
      (socket: StpSocket) => {
        this.#ledger.add(socket);
        arrived(new StpLink(socket));
      },
    );
    server.listen({ port: this.#port, backlog });
    try {
      await settle(server, 'listening');
    } catch (error) {
      throw failed('listen', `${this.#host.stg}:${this.#port}`, error);
    }
    // One that fails later loses a connection, or says that stpd is gone, which `detached` says too.
    server.on('error', () => {});
    this.#server = server;
  }

  async connect(to: Target, limit: Limit): Promise<Link> {
    checkStpTarget(to, 1, 'connect');
    const socket = this.#host.connect({
      port: to.port,
      allowHalfOpen: true,
      ...(this.#port > 0 && { localPort: this.#port }),
    });
    this.#ledger.add(socket);
    socket.pause();
    // For what comes between two waits; whoever waits has its own listener.
    socket.on('error', () => {});
    try {
      await settle(socket, 'connect', { limit, giveUp: () => socket.destroy() });
    } catch (error) {
      throw failed('connect', `${this.#host.stg}:${to.port}`, error);
    }
    return new StpLink(socket);
  }

  name(): Address {
    return { family: 'stp', stg: this.#host.stg, port: this.#port };
  }

  async release(): Promise<void> {
    const port = this.#port;
    this.#port = 0;
    this.#server?.close();
    this.#server = undefined;
    // Commands of one host are obeyed in order, so the listener is gone when this is answered. An
    // error means that the port is free already: the director freed it, or is gone itself.
    if (port > 0) await this.#host.unbind(port).catch(() => {});
  }

  setOption(): void {
    assert(false, 'an STP socket has no option of its own');
  }
}

/** @throws EINVAL */
export function checkStpTarget(target: Target, min: number, call: string): void {
  const { host, port } = target;
  if (!Number.isInteger(port) || port < min || port > PORT_MAX) {
    throw stpError('EINVAL', `port ${port}: must be ${min} to ${PORT_MAX}`, call);
  }
  if (host !== undefined) {
    throw stpError(
      'EINVAL',
      `host '${host}': an STP socket has only a port, its STG is given`,
      call,
    );
  }
}

class StpLink implements Link {
  readonly duplex: StpSocket;
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  #window = WINDOW_BYTES;
  #spin: number | null = null;

  constructor(socket: StpSocket) {
    const { peer, localPort, remotePort } = socket;
    assert(
      peer !== undefined && localPort !== undefined && remotePort !== undefined,
      'a link is made of a connected socket',
    );
    const { hostId, uid, gid, pid } = peer;
    this.duplex = socket;
    this.peer = { by: 'stpd', hostId, uid, gid, pid };
    this.local = { family: 'stp', stg: socket.stg, port: localPort };
    this.remote = { family: 'stp', stg: socket.stg, port: remotePort };
  }

  endSoon(): void {
    this.duplex.destroySoon();
  }

  reset(): void {
    if (!this.duplex.destroyed) this.duplex.resetAndDestroy();
  }

  apply(options: Readonly<SocketOptions>): void {
    this.duplex.setNoDelay(options.noDelay);
    this.duplex.setKeepAlive(options.keepAlive);
    if (options.sendBufferBytes !== null && this.#window !== options.sendBufferBytes) {
      this.#window = options.sendBufferBytes;
      this.duplex.setWindow(options.sendBufferBytes);
    }
    if (this.#spin !== options.spinMicroseconds) {
      this.#spin = options.spinMicroseconds;
      this.duplex.setSpin(this.#spin);
    }
  }

  /** The window of this side; what may lie unread here is the peer's window. */
  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null {
    return name === 'sendBufferBytes' ? this.#window : null;
  }

  detach(): StreamHandle {
    return this.duplex.detach();
  }

  handOver(): Transfer {
    const stream = this.duplex.detach();
    return { mechanism: 'stp', stream, transfer: [stream.port] };
  }
}
