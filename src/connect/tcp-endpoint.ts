/**
 * A network socket: TCP, or TLS with a pre-shared key over it once the option `psk` is set.
 *
 * Node cannot bind without listening, so a bound port is held by a listener that resets whoever
 * connects to it; listen() lets that same listener take connections, connect() closes it and binds
 * the port again at once. Two differences from the kernel's own bind follow: a peer that is early
 * gets ECONNRESET instead of ECONNREFUSED, and between release and connect another process could
 * take the port (then connect fails with EADDRINUSE).
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { isCoded, stpError } from '../errors.js';
import { BACKLOG_DEFAULT, PORT_MAX } from '../limits.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import type { Address, Endpoint, Ledger, Link, Peer, StreamOptions, Target } from './endpoint.js';
import type { Limit } from './limit.js';
import { failed, settle } from './settle.js';
import { connectPsk, PskAcceptor, type PskOption, parsePskOption } from './tls-psk.js';

const WILDCARD = '0.0.0.0';
const LOOPBACK = '127.0.0.1';

export class TcpEndpoint implements Endpoint {
  readonly family = 'inet';
  readonly #ledger: Ledger;
  #server: net.Server | undefined;
  #bound: { host: string; port: number } | undefined;
  #arrived: ((raw: net.Socket) => void) | undefined;
  #acceptor: PskAcceptor | undefined;
  #psk: PskOption | undefined;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  async bind(at: Target): Promise<void> {
    const host = at.host ?? WILDCARD;
    checkPort(at.port, 0, 'bind');
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (raw) => {
      this.#ledger.add(raw);
      raw.on('error', ignore);
      if (this.#arrived === undefined) raw.resetAndDestroy();
      else this.#arrived(raw);
    });
    server.listen({ host, port: at.port, backlog: BACKLOG_DEFAULT, exclusive: true });
    try {
      await settle(server, 'listening');
    } catch (error) {
      throw failed('bind', `${host}:${at.port}`, error);
    }
    // A listener that fails later (out of descriptors) loses one connection, not the process.
    server.on('error', ignore);
    const { address, port } = server.address() as net.AddressInfo;
    this.#bound = { host: address, port };
    this.#server = server;
  }

  async listen(_backlog: number, arrived: (link: Link) => void): Promise<void> {
    const psk = this.#psk;
    if (psk === undefined) {
      this.#arrived = (raw) => arrived(new TcpLink(raw, raw, { by: 'nobody' }));
      return;
    }
    if (!('lookup' in psk)) {
      throw stpError('EINVAL', 'option psk of a listener is { lookup }, not { identity, key }');
    }
    const acceptor = new PskAcceptor(psk, (raw, secure, identity) => {
      arrived(new TcpLink(raw, secure, { by: 'psk', identity }));
    });
    this.#acceptor = acceptor;
    this.#arrived = (raw) => acceptor.admit(raw);
  }

  async connect(to: Target, limit: Limit): Promise<Link> {
    const host = to.host ?? LOOPBACK;
    checkPort(to.port, 1, 'connect');
    const psk = this.#psk;
    if (psk !== undefined && 'lookup' in psk) {
      throw stpError('EINVAL', 'option psk of a connecting socket is { identity, key }', 'connect');
    }
    const from = this.#bound;
    await this.release();
    const raw = new net.Socket({ allowHalfOpen: true });
    this.#ledger.add(raw);
    raw.pause();
    // For what comes between two waits; whoever waits has its own listener.
    raw.on('error', ignore);
    const local = from && {
      localPort: from.port,
      ...(from.host !== WILDCARD && { localAddress: from.host }),
    };
    raw.connect({ host, port: to.port, ...local });
    try {
      await settle(raw, 'connect', { limit, giveUp: () => raw.destroy() });
    } catch (error) {
      throw failed('connect', `${host}:${to.port}`, error);
    }
    if (raw.localPort === raw.remotePort && raw.localAddress === raw.remoteAddress) {
      // A dynamic port that met itself: TCP's simultaneous open, and nobody is there.
      raw.destroy();
      throw failed(
        'connect',
        `${host}:${to.port}`,
        stpError('ECONNREFUSED', 'connected to itself'),
      );
    }
    if (psk === undefined) return new TcpLink(raw, raw, { by: 'nobody' });
    const secure = await connectPsk(raw, psk, `${host}:${to.port}`, limit);
    return new TcpLink(raw, secure, { by: 'psk', identity: psk.identity });
  }

  name(): Address {
    return { family: 'inet', ...(this.#bound ?? { host: WILDCARD, port: 0 }) };
  }

  async release(): Promise<void> {
    this.#bound = undefined;
    this.#arrived = undefined;
    this.#acceptor?.close();
    this.#acceptor = undefined;
    // Frees the port at once. Its callback would also wait for the connections it accepted.
    this.#server?.close();
    this.#server = undefined;
  }

  setOption(name: string, value: unknown): boolean {
    if (name !== 'psk') return false;
    this.#psk = parsePskOption(value);
    return true;
  }
}

// The channel, or the call under way, has its own listener for what concerns it.
const ignore = (): void => {};

function checkPort(port: number, min: number, call: string): void {
  if (!Number.isInteger(port) || port < min || port > PORT_MAX) {
    throw stpError('EINVAL', `port ${port}: must be ${min} to ${PORT_MAX}`, call);
  }
}

class TcpLink implements Link {
  readonly duplex: Duplex;
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  readonly #raw: net.Socket;
  readonly #stream: net.Socket;

  /** @param stream what carries the data: `raw` itself, or TLS over it */
  constructor(raw: net.Socket, stream: net.Socket, peer: Peer) {
    this.#raw = raw;
    this.#stream = stream;
    this.duplex = stream;
    this.peer = peer;
    this.local = { family: 'inet', host: raw.localAddress ?? '', port: raw.localPort ?? 0 };
    this.remote = { family: 'inet', host: raw.remoteAddress ?? '', port: raw.remotePort ?? 0 };
  }

  endSoon(): void {
    this.#stream.destroySoon();
  }

  /**
   * libuv reports a reset that comes together with bytes as the end of these bytes. Writing nothing
   * asks the kernel again: ECONNRESET if there was no FIN (behind a FIN it says EPIPE). On the raw
   * socket, as TLS keeps an empty write to itself.
   */
  confirmEnd(told: (reset: Error | undefined) => void): void {
    this.#raw.write('', (error) => {
      told(isCoded(error) && error.code === 'ECONNRESET' ? error : undefined);
    });
  }

  reset(): void {
    // Of the raw socket: TLS has no reset, and would say an orderly goodbye.
    if (!this.#raw.destroyed) this.#raw.resetAndDestroy();
    this.#stream.destroy();
  }

  apply(options: StreamOptions): void {
    this.#raw.setNoDelay(options.noDelay);
    this.#raw.setKeepAlive(options.keepAlive);
  }

  detach(): StreamHandle {
    throw stpError('ENOTSUP', 'a network socket cannot be moved to another thread', 'detach');
  }
}
