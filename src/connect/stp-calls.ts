/**
 * The seed's calls by the seed's names. Each is STPConnect's call of the same kind and nothing
 * else; the prefix only says that the descriptor must be an STP one, and that is checked
 * (EOPNOTSUPP), so that a program that means the array cannot end up on the network.
 *
 * The seed names STPsocket, STPbind, STPlisten, STPgetsockname, STPconnect, STPaccept and STPsend;
 * the others complete the set.
 */
import { stpError } from '../errors.js';
import { familyOf } from './descriptor-table.js';
import type { Address } from './endpoint.js';
import type { WaitOptions } from './limit.js';
import type { PollEntry, PollResult, STPConnect } from './stp-connect.js';

function checkStp(fd: number, call: string): void {
  if (familyOf(fd) !== 'stp') {
    throw stpError('EOPNOTSUPP', `descriptor ${fd} is not an STP one: use the plain call`, call);
  }
}

export const STPsocket = (layer: STPConnect): number => layer.STPsocket();

export async function STPbind(layer: STPConnect, fd: number, port: number): Promise<void> {
  checkStp(fd, 'STPbind');
  await layer.bind(fd, { port });
}

export async function STPlisten(layer: STPConnect, fd: number, backlog?: number): Promise<void> {
  checkStp(fd, 'STPlisten');
  await layer.listen(fd, backlog);
}

export function STPgetsockname(layer: STPConnect, fd: number): Address {
  checkStp(fd, 'STPgetsockname');
  return layer.getsockname(fd);
}

export function STPgetpeername(layer: STPConnect, fd: number): Address {
  checkStp(fd, 'STPgetpeername');
  return layer.getpeername(fd);
}

export async function STPconnect(
  layer: STPConnect,
  fd: number,
  port: number,
  options?: WaitOptions,
): Promise<void> {
  checkStp(fd, 'STPconnect');
  await layer.connect(fd, { port }, options);
}

export async function STPaccept(
  layer: STPConnect,
  fd: number,
  options?: WaitOptions,
): Promise<number> {
  checkStp(fd, 'STPaccept');
  return layer.accept(fd, options);
}

export async function STPsend(
  layer: STPConnect,
  fd: number,
  data: Uint8Array,
  options?: WaitOptions,
): Promise<void> {
  checkStp(fd, 'STPsend');
  await layer.send(fd, data, options);
}

export async function STPrecv(
  layer: STPConnect,
  fd: number,
  bytesMax: number,
  options?: WaitOptions,
): Promise<Buffer> {
  checkStp(fd, 'STPrecv');
  return layer.receive(fd, bytesMax, options);
}

export async function STPshutdown(
  layer: STPConnect,
  fd: number,
  how: 'read' | 'write' | 'both',
): Promise<void> {
  checkStp(fd, 'STPshutdown');
  await layer.shutdown(fd, how);
}

export async function STPclose(layer: STPConnect, fd: number): Promise<void> {
  checkStp(fd, 'STPclose');
  await layer.close(fd);
}

export function STPsetsockopt(layer: STPConnect, fd: number, name: string, value: unknown): void {
  checkStp(fd, 'STPsetsockopt');
  layer.setsockopt(fd, name, value);
}

export function STPgetsockopt(layer: STPConnect, fd: number, name: string): unknown {
  checkStp(fd, 'STPgetsockopt');
  return layer.getsockopt(fd, name);
}

/** A mixed set is `poll` of STPConnect; this one refuses network descriptors. */
export async function STPpoll(
  layer: STPConnect,
  entries: readonly PollEntry[],
  timeoutMs: number,
): Promise<PollResult[]> {
  for (const { fd } of entries) checkStp(fd, 'STPpoll');
  return layer.poll(entries, timeoutMs);
}
