/**
 * One STP connection between the two processes of a path, on the event loop's thread.
 */
import { once } from 'node:events';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import type { Address, OpenRequest, Side } from '../harness/protocol.js';

function attachTo({ runDirectory, stg }: OpenRequest, side: Side): Promise<Host> {
  if (runDirectory === undefined) throw new Error('an STP path needs an array');
  return attach({ runDirectory, stg, name: `bench-${side}` });
}

/** Listens on a dynamic port, tells it, and takes one connection. */
export async function acceptOne(
  open: OpenRequest,
  listening: (address: Address) => void,
  options: { pauseOnConnect: boolean },
): Promise<StpSocket> {
  const host = await attachTo(open, 'receiver');
  const server = host.createServer(options);
  const connection = once(server, 'connection');
  server.listen({ port: 0 });
  await once(server, 'listening');
  listening(server.address()?.port ?? 0);
  const [socket] = (await connection) as [StpSocket];
  server.close();
  return socket;
}

export async function connectOne(open: OpenRequest, port: Address): Promise<StpSocket> {
  const host = await attachTo(open, 'sender');
  const socket = host.connect({ port: Number(port) });
  await once(socket, 'connect');
  return socket;
}
