/**
 * TCP ports and addresses, where node:net has no call: a port that is held without listening, and
 * the numbers of options of a socket that libuv has. For both forms of the calls.
 */
import { isIP } from 'node:net';
import { codeOfErrno, stpError } from '../errors.js';
import { PORT_MAX } from '../limits.js';
import { native } from '../native.js';
import type { SocketOptions } from './options.js';

export const WILDCARD = '0.0.0.0';
export const LOOPBACK = '127.0.0.1';

/** Options by number: kOptions in native/tcp.cc. */
export const TCP_OPTION = {
  reuseAddress: 0,
  noDelay: 1,
  keepAlive: 2,
  sendBufferBytes: 3,
  receiveBufferBytes: 4,
  error: 5,
} as const;

export interface HeldPort {
  readonly fd: number;
  readonly host: string;
  readonly port: number;
}

export function checkPort(port: number, min: number, call: string): void {
  if (!Number.isInteger(port) || port < min || port > PORT_MAX) {
    throw stpError('EINVAL', `port ${port}: must be ${min} to ${PORT_MAX}`, call);
  }
}

/** Opens a socket for an address. @throws EMFILE, ENFILE, EAFNOSUPPORT */
export const openFor = (address: string): number => native().tcpOpen(isIP(address) === 6 ? 6 : 4);

/**
 * Binds without listening: who connects meanwhile is refused, as the kernel does it.
 *
 * Linux lets two sockets with SO_REUSEADDR hold one port as long as neither listens, so a holder is
 * without it: a port is tried alone first, and only then as one where connections of its last
 * holder fade away (TIME_WAIT). `usePort` sets it in the end, for the next one's sake.
 * @param address an IP address
 * @throws EADDRINUSE, EADDRNOTAVAIL, EACCES, ... with `bind` as syscall
 */
export function holdPort(address: string, port: number, reuse: boolean): HeldPort {
  const fd = openFor(address);
  try {
    let result = native().tcpBind(fd, address, port);
    if (reuse && codeOfErrno(-result) === 'EADDRINUSE') {
      native().tcpSetOption(fd, TCP_OPTION.reuseAddress, 1);
      result = native().tcpBind(fd, address, port);
      native().tcpSetOption(fd, TCP_OPTION.reuseAddress, 0);
    }
    if (result < 0) throw stpError(codeOfErrno(-result), `bind ${address}:${port}`, 'bind');
    const name = native().tcpName(fd, false);
    return { fd, host: name?.host ?? address, port: name?.port ?? port };
  } catch (error) {
    native().tcpClose(fd, false);
    throw error;
  }
}

/** Before the socket listens or connects: its connections shall not keep a successor out. */
export function usePort(held: HeldPort, options: Readonly<SocketOptions>): void {
  if (options.reuseAddress) native().tcpSetOption(held.fd, TCP_OPTION.reuseAddress, 1);
  setBuffers(held.fd, options);
}

/** Before it connects or listens, so that the peer's window is agreed by it; or later. */
export function setBuffers(fd: number, options: Readonly<SocketOptions>): void {
  if (fd < 0) return;
  for (const name of ['sendBufferBytes', 'receiveBufferBytes'] as const) {
    const bytes = options[name];
    if (bytes !== null) native().tcpSetOption(fd, TCP_OPTION[name], bytes);
  }
}
