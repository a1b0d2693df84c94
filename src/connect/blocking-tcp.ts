/**
 * TCP for threads that block: the kernel's calls by native/tcp.cc, in slices.
 *
 * The whole socket belongs to the thread: nobody's event loop takes part, so a server that answers
 * from a thread of its own does so also while the main thread computes. TLS needs OpenSSL's state,
 * which node:tls keeps on an event loop: `psk` is ENOPROTOOPT here.
 */
import { isIP } from 'node:net';
import { assert } from '../assert.js';
import { codeOfErrno, errnoOfCode, stpError } from '../errors.js';
import { native } from '../native.js';
import {
  type Armed,
  type BlockingEndpoint,
  type BlockingLink,
  END,
  type Sleep,
  type Wait,
} from './blocking-socket.js';
import { POLLERR, POLLHUP, POLLIN, POLLOUT } from './channel.js';
import type { Address, Peer, Target } from './endpoint.js';
import type { SocketOptions } from './options.js';
import { failed } from './settle.js';
import {
  checkPort,
  type HeldPort,
  holdPort,
  LOOPBACK,
  openFor,
  setBuffers,
  TCP_OPTION,
  usePort,
  WILDCARD,
} from './tcp-port.js';

const EAGAIN = -errnoOfCode('EAGAIN');
const EINPROGRESS = -errnoOfCode('EINPROGRESS');

/** The address of a host name, asked for by a thread of its own. @throws ENOTFOUND */
function addressOf(host: string, wait: Wait): string {
  if (isIP(host.split('%')[0] as string) !== 0) return host;
  if (host.includes('\0')) throw stpError('EINVAL', 'a host name has no zero byte', wait.call);
  const lookup = native().hostLookup(host);
  try {
    for (;;) {
      const address = native().hostAddress(lookup, wait.next());
      if (address === '') {
        throw stpError('ENOTFOUND', `${wait.call} ${host}: no such host name`, wait.call);
      }
      if (address !== undefined) return address;
    }
  } finally {
    native().hostForget(lookup);
  }
}

export class BlockingTcpEndpoint implements BlockingEndpoint {
  readonly #options: Readonly<SocketOptions>;
  readonly #sleep: Sleep;
  #held: HeldPort | undefined;
  #listening = false;
  #connecting: { fd: number; to: string } | undefined;

  constructor(options: Readonly<SocketOptions>, sleep: Sleep) {
    this.#options = options;
    this.#sleep = sleep;
  }

  bind(at: Target, wait: Wait): void {
    const host = at.host ?? WILDCARD;
    checkPort(at.port, 0, 'bind');
    try {
      this.#held = holdPort(addressOf(host, wait), at.port, this.#options.reuseAddress);
    } catch (error) {
      throw failed('bind', `${host}:${at.port}`, error);
    }
  }

  listen(backlog: number): void {
    const held = this.#held as HeldPort;
    const { fd, host, port } = held;
    usePort(held, this.#options);
    const result = native().tcpListen(fd, backlog);
    if (result < 0) {
      throw failed('listen', `${host}:${port}`, stpError(codeOfErrno(-result), 'listen'));
    }
    this.#listening = true;
  }

  accept(): BlockingLink | undefined {
    const fd = native().tcpAccept((this.#held as HeldPort).fd);
    if (fd >= 0) return new BlockingTcpLink(fd);
    if (fd === EAGAIN) return undefined;
    throw stpError(codeOfErrno(-fd), 'accept failed', 'accept');
  }

  get arrived(): boolean {
    return false;
  }

  startConnect(to: Target, wait: Wait): void {
    const host = to.host ?? LOOPBACK;
    checkPort(to.port, 1, 'connect');
    const address = addressOf(host, wait);
    const fd = this.#from(address);
    this.#connecting = { fd, to: `${host}:${to.port}` };
    setBuffers(fd, this.#options);
    const result = native().tcpConnect(fd, address, to.port);
    if (result < 0 && result !== EINPROGRESS) this.#fail(-result);
  }

  /** The held port's socket, or a new one. */
  #from(address: string): number {
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined) return openFor(address);
    if (isIP(held.host) === isIP(address)) {
      usePort(held, this.#options);
      return held.fd;
    }
    // Bound for the other family: let go, and taken again at once.
    native().tcpClose(held.fd, false);
    return holdPort(isIP(address) === 6 ? '::' : WILDCARD, held.port, true).fd;
  }

  connected(): BlockingLink | undefined {
    const { fd, to } = this.#connecting as { fd: number; to: string };
    const [revents = 0] = this.#sleep(0, [fd, POLLOUT], 0);
    if (revents === 0) return undefined;
    const error = native().tcpGetOption(fd, TCP_OPTION.error);
    if (error !== 0) this.#fail(Math.abs(error));
    const link = new BlockingTcpLink(fd);
    this.#connecting = undefined;
    if (sameName(link.local, link.remote)) {
      link.close(true);
      throw failed('connect', to, stpError('ECONNREFUSED', 'connected to itself'));
    }
    return link;
  }

  #fail(errno: number): never {
    const { fd, to } = this.#connecting as { fd: number; to: string };
    this.#connecting = undefined;
    native().tcpClose(fd, false);
    throw failed('connect', to, stpError(codeOfErrno(errno), 'failed', 'connect'));
  }

  get armed(): Armed {
    if (this.#connecting !== undefined) return { fd: this.#connecting.fd, events: POLLOUT };
    assert(this.#held !== undefined && this.#listening, 'who waits listens or connects');
    return { fd: this.#held.fd, events: POLLIN };
  }

  name(): Address {
    const { host, port } = this.#held ?? { host: WILDCARD, port: 0 };
    return { family: 'inet', host, port };
  }

  release(): void {
    if (this.#held !== undefined) native().tcpClose(this.#held.fd, false);
    if (this.#connecting !== undefined) native().tcpClose(this.#connecting.fd, false);
    this.#held = undefined;
    this.#connecting = undefined;
    this.#listening = false;
  }
}

const sameName = (a: Address, b: Address): boolean =>
  a.family === 'inet' && b.family === 'inet' && a.port === b.port && a.host === b.host;

export class BlockingTcpLink implements BlockingLink {
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer = { by: 'nobody' };
  readonly #fd: number;
  #finished = false;

  /** @param fd connected, and owned by this thread */
  constructor(fd: number) {
    this.#fd = fd;
    const name = (ofPeer: boolean): Address => {
      const { host, port } = native().tcpName(fd, ofPeer) ?? { host: '', port: 0 };
      return { family: 'inet', host, port };
    };
    this.local = name(false);
    this.remote = name(true);
  }

  send(data: Uint8Array, offset: number, bytes: number, sliceMs: number): number {
    const sent = native().tcpSend(this.#fd, data, offset, bytes, sliceMs);
    if (sent >= 0) return sent;
    throw this.#error(-sent, 'write');
  }

  receive(into: Uint8Array, offset: number, bytes: number, sliceMs: number): number {
    const got = native().tcpReceive(this.#fd, into, offset, bytes, sliceMs);
    if (got > 0) return got;
    if (got === 0) return END;
    if (got === EAGAIN) return 0;
    throw this.#error(-got, 'read');
  }

  #error(errno: number, syscall: string): Error {
    const who = this.remote.family === 'inet' ? `${this.remote.host}:${this.remote.port}` : '';
    return stpError(codeOfErrno(errno), `the stream with ${who} broke`, syscall);
  }

  finish(): void {
    this.#finished = true;
    native().tcpShutdown(this.#fd, 1);
  }

  close(reset: boolean): void {
    native().tcpClose(this.#fd, reset);
  }

  apply(options: Readonly<SocketOptions>): void {
    native().tcpSetOption(this.#fd, TCP_OPTION.noDelay, options.noDelay ? 1 : 0);
    native().tcpSetOption(this.#fd, TCP_OPTION.keepAlive, options.keepAlive ? 1 : 0);
    setBuffers(this.#fd, options);
  }

  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null {
    const bytes = native().tcpGetOption(this.#fd, TCP_OPTION[name]);
    return bytes < 0 ? null : bytes;
  }

  readiness(events: number, revents: number): number {
    if (revents & POLLERR) return POLLERR | POLLHUP | (events & POLLIN);
    return revents & ((this.#finished ? events & ~POLLOUT : events) | POLLHUP);
  }

  arm(events: number): Armed {
    return { fd: this.#fd, events: this.#finished ? events & ~POLLOUT : events };
  }
}
