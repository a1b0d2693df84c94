/**
 * A network socket: TCP, or TLS with a pre-shared key over it once the option `psk` is set.
 *
 * Node cannot bind without listening, so a port is held by a descriptor of our own (`tcp-port.ts`),
 * which node:net takes over when the socket listens or connects.
 */
import { lookup } from 'node:dns/promises';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { isCoded, stpError } from '../errors.js';
import { native } from '../native.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import type { Address, Endpoint, Ledger, Link, Peer, Target } from './endpoint.js';
import type { Transfer } from './hand-over.js';
import type { Limit } from './limit.js';
import type { SocketOptions } from './options.js';
import { failed, settle } from './settle.js';
import {
  checkPort,
  type HeldPort,
  holdPort,
  LOOPBACK,
  setBuffers,
  TCP_OPTION,
  usePort,
  WILDCARD,
} from './tcp-port.js';
import { connectPsk, PskAcceptor, type PskOption, parsePskOption } from './tls-psk.js';

export class TcpEndpoint implements Endpoint {
  readonly family = 'inet';
  readonly #ledger: Ledger;
  readonly #options: Readonly<SocketOptions>;
  #held: HeldPort | undefined;
  /** The name of a listener, which has taken its held port over. */
  #listening: { host: string; port: number } | undefined;
  #server: net.Server | undefined;
  #acceptor: PskAcceptor | undefined;
  #psk: PskOption | undefined;
  /** Counts releases: what a look-up finds after one is not held any more. */
  #released = 0;

  /** @param options of the descriptor, read when a call needs them */
  constructor(ledger: Ledger, options: Readonly<SocketOptions>) {
    this.#ledger = ledger;
    this.#options = options;
  }

  async bind(at: Target): Promise<void> {
    const host = at.host ?? WILDCARD;
    checkPort(at.port, 0, 'bind');
    const released = this.#released;
    try {
      const address = net.isIP(host) ? host : (await lookup(host)).address;
      if (released !== this.#released) return;
      this.#held = holdPort(address, at.port, this.#options.reuseAddress);
    } catch (error) {
      throw failed('bind', `${host}:${at.port}`, error);
    }
  }

  async listen(backlog: number, arrived: (link: Link) => void): Promise<void> {
    const held = this.#held as HeldPort;
    const psk = this.#psk;
    if (psk !== undefined && !('lookup' in psk)) {
      throw stpError('EINVAL', 'option psk of a listener is { lookup }, not { identity, key }');
    }
    if (psk !== undefined) {
      this.#acceptor = new PskAcceptor(psk, (raw, secure, identity) => {
        arrived(new TcpLink(raw, secure, { by: 'psk', identity }));
      });
    }
    const acceptor = this.#acceptor;
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (raw) => {
      this.#ledger.add(raw);
      raw.on('error', ignore);
      if (acceptor !== undefined) acceptor.admit(raw);
      else arrived(new TcpLink(raw, raw, { by: 'nobody' }));
    });
    usePort(held, this.#options);
    native().tcpRelease(held.fd);
    this.#held = undefined;
    this.#listening = { host: held.host, port: held.port };
    this.#server = server;
    server.listen({ fd: held.fd, backlog, exclusive: true });
    try {
      await settle(server, 'listening');
    } catch (error) {
      throw failed('listen', `${held.host}:${held.port}`, error);
    }
    // A listener that fails later (out of descriptors) loses one connection, not the process.
    server.on('error', ignore);
  }

  async connect(to: Target, limit: Limit): Promise<Link> {
    const host = to.host ?? LOOPBACK;
    checkPort(to.port, 1, 'connect');
    const psk = this.#psk;
    if (psk !== undefined && 'lookup' in psk) {
      throw stpError('EINVAL', 'option psk of a connecting socket is { identity, key }', 'connect');
    }
    const where = await this.#from(host, limit);
    const raw = new net.Socket({ allowHalfOpen: true, ...where.socket });
    this.#ledger.add(raw);
    raw.pause();
    // For what comes between two waits; whoever waits has its own listener.
    raw.on('error', ignore);
    raw.connect({ host, port: to.port, ...where.connect });
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

  /** How to connect to `host` from the port that is held, if one is. */
  async #from(
    host: string,
    limit: Limit,
  ): Promise<{ socket?: net.SocketConstructorOpts; connect?: object }> {
    if (this.#held === undefined) return {};
    const found = await lookup(host).catch((error: unknown) => {
      throw failed('connect', host, error);
    });
    limit.check();
    const held = this.#held;
    if (held === undefined) throw stpError('ECANCELED', 'the port was let go', 'connect');
    this.#held = undefined;
    if (net.isIP(held.host) === found.family) {
      // With more than one address to try Node would open another descriptor for the second.
      return {
        socket: taken(held, this.#options),
        connect: { host: found.address, family: found.family, autoSelectFamily: false },
      };
    }
    // Bound for the other family: let go, and taken again at once.
    native().tcpClose(held.fd, false);
    return {
      connect: {
        host: found.address,
        localPort: held.port,
        ...(held.host !== WILDCARD && { localAddress: held.host }),
      },
    };
  }

  name(): Address {
    const { host, port } = this.#listening ?? this.#held ?? { host: WILDCARD, port: 0 };
    return { family: 'inet', host, port };
  }

  async release(): Promise<void> {
    this.#released++;
    if (this.#held !== undefined) native().tcpClose(this.#held.fd, false);
    this.#held = undefined;
    this.#listening = undefined;
    this.#acceptor?.close();
    this.#acceptor = undefined;
    // Frees the port at once. Its callback would also wait for the connections it accepted.
    this.#server?.close();
    this.#server = undefined;
  }

  setOption(_name: string, value: unknown): void {
    this.#psk = parsePskOption(value);
  }
}

// The channel, or the call under way, has its own listener for what concerns it.
const ignore = (): void => {};

/** node:net takes the descriptor over, bound as it is, and connects it. */
function taken(held: HeldPort, options: Readonly<SocketOptions>): net.SocketConstructorOpts {
  usePort(held, options);
  native().tcpRelease(held.fd);
  // manualStart: it must not read before it is connected. Node has it for its own use, all lines.
  return { fd: held.fd, readable: true, writable: true, manualStart: true } as object;
}

/** -1 where Node has let go of it already. */
function descriptorOf(raw: net.Socket): number {
  const { _handle } = raw as { _handle?: { fd?: number } | null };
  return _handle?.fd ?? -1;
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

  apply(options: Readonly<SocketOptions>): void {
    this.#raw.setNoDelay(options.noDelay);
    this.#raw.setKeepAlive(options.keepAlive);
    setBuffers(descriptorOf(this.#raw), options);
  }

  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null {
    const fd = descriptorOf(this.#raw);
    const bytes = fd < 0 ? -1 : native().tcpGetOption(fd, TCP_OPTION[name]);
    return bytes < 0 ? null : bytes;
  }

  detach(): StreamHandle {
    throw stpError('ENOTSUP', 'a network socket has no pages: use handOver()', 'detach');
  }

  handOver(): Transfer {
    if (this.#stream !== this.#raw) {
      throw stpError('ENOTSUP', 'TLS stays with the thread that has its keys', 'handOver');
    }
    const fd = descriptorOf(this.#raw);
    if (fd < 0 || this.#raw.destroyed) {
      throw stpError('ENOTCONN', 'the connection has ended', 'handOver');
    }
    if (this.#raw.writableLength > 0) {
      throw stpError('EBUSY', 'writes are still waiting', 'handOver');
    }
    const parts: Buffer[] = [];
    for (let part = this.#raw.read(); part !== null; part = this.#raw.read()) parts.push(part);
    const socket = native().tcpDispatch(fd);
    // The connection lives on in the second descriptor: nothing is said to the peer.
    this.#raw.destroy();
    return { mechanism: 'inet', socket, leading: Buffer.concat(parts), transfer: [] };
  }
}
