/**
 * Addresses of `stpctl forward`, as they are typed:
 *
 *     stp:STG:PORT       a port of an STG
 *     tcp:HOST:PORT      HOST is a name, an IPv4 address, or an IPv6 address in brackets
 *     tcp:PORT           the same on 127.0.0.1
 *     unix:PATH          a Unix stream socket
 *     -  or  stdio       standard input and output
 *
 * Whatever is refused gives EINVAL with what was typed and what is right. Pure; any thread.
 */
import { isIPv6 } from 'node:net';
import { resolve } from 'node:path';
import { stpError } from '../../errors.js';
import { PORT_MAX, STG_NAME_PATTERN, UNIX_PATH_BYTES_MAX } from '../../limits.js';

export type Address =
  | { readonly kind: 'stp'; readonly stg: string; readonly port: number }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'stdio' };

const LOOPBACK = '127.0.0.1';
const FORMS = 'stp:STG:PORT, tcp:HOST:PORT, tcp:PORT, unix:PATH, - or stdio';

const refused = (typed: string, why: string): Error =>
  stpError('EINVAL', `'${typed}' is no address: ${why}`);

function portOf(typed: string, text: string): number {
  if (/^[0-9]{1,5}$/.test(text) && Number(text) <= PORT_MAX) return Number(text);
  throw refused(typed, `'${text}' is no port; give a whole number from 0 to ${PORT_MAX}`);
}

function stpAddress(typed: string, rest: string): Address {
  const colon = rest.lastIndexOf(':');
  if (colon === -1) throw refused(typed, 'it needs an STG and a port, such as stp:demo:5432');
  const stg = rest.slice(0, colon);
  if (!STG_NAME_PATTERN.test(stg)) {
    throw refused(typed, `'${stg}' is no name of an STG; 'stpctl stg list' shows those there are`);
  }
  return { kind: 'stp', stg, port: portOf(typed, rest.slice(colon + 1)) };
}

function tcpAddress(typed: string, rest: string): Address {
  const colon = rest.lastIndexOf(':');
  if (colon === -1) return { kind: 'tcp', host: LOOPBACK, port: portOf(typed, rest) };
  let host = rest.slice(0, colon);
  if (host.startsWith('[')) {
    host = host.endsWith(']') ? host.slice(1, -1) : '';
    if (!isIPv6(host)) {
      throw refused(typed, 'in brackets stands an IPv6 address, such as tcp:[::1]:5432');
    }
  } else if (host.includes(':')) {
    throw refused(typed, 'an IPv6 address stands in brackets, such as tcp:[::1]:5432');
  } else if (host === '') {
    throw refused(
      typed,
      'the host is missing; tcp:PORT is for 127.0.0.1, tcp:0.0.0.0:PORT for all',
    );
  }
  return { kind: 'tcp', host, port: portOf(typed, rest.slice(colon + 1)) };
}

function unixAddress(typed: string, rest: string): Address {
  if (rest === '') throw refused(typed, 'the path is missing, as in unix:/run/demo.sock');
  const path = resolve(rest);
  const bytes = Buffer.byteLength(path);
  if (bytes > UNIX_PATH_BYTES_MAX || path.includes('\0')) {
    throw refused(
      typed,
      `the kernel takes paths of at most ${UNIX_PATH_BYTES_MAX} bytes for sockets, and ` +
        `${path} has ${bytes}; choose a shorter one`,
    );
  }
  return { kind: 'unix', path };
}

/** @throws EINVAL with what is wrong with it */
export function parseAddress(typed: string): Address {
  if (typed === '-' || typed === 'stdio') return { kind: 'stdio' };
  const colon = typed.indexOf(':');
  const rest = typed.slice(colon + 1);
  switch (colon === -1 ? '' : typed.slice(0, colon)) {
    case 'stp':
      return stpAddress(typed, rest);
    case 'tcp':
      return tcpAddress(typed, rest);
    case 'unix':
      return unixAddress(typed, rest);
    default:
      throw refused(typed, `use one of ${FORMS}`);
  }
}

/** The form that `parseAddress` takes. */
export function addressText(address: Address): string {
  switch (address.kind) {
    case 'stp':
      return `stp:${address.stg}:${address.port}`;
    case 'tcp':
      return `tcp:${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
    case 'unix':
      return `unix:${address.path}`;
    case 'stdio':
      return 'stdio';
  }
}

/**
 * What both addresses together must satisfy.
 * @throws EINVAL
 */
export function checkPair(from: Address, to: Address): void {
  if (from.kind === 'stdio' && to.kind === 'stdio') {
    throw stpError('EINVAL', 'both addresses are stdio; that is what cat(1) is for');
  }
  if ((to.kind === 'stp' || to.kind === 'tcp') && to.port === 0) {
    throw stpError(
      'EINVAL',
      `${addressText(to)} cannot be connected to: port 0 stands for any free one, where FROM listens`,
    );
  }
  if (addressText(from) === addressText(to)) {
    throw stpError('EINVAL', `${addressText(from)} would be forwarded to itself, without end`);
  }
}
