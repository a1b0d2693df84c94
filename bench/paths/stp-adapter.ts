/**
 * STP sockets for the paths: one host a process, attached to the run's private array.
 */
import { once } from 'node:events';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { POLL_BUDGET_US_DEFAULT, setPollBudget } from '../../src/memory/event-loop.js';
import type { Address, OpenRequest } from '../harness/protocol.js';
import { connected, type OpenSockets } from './socket-kind.js';

export function attachTo({ runDirectory, stg }: OpenRequest, name: string): Promise<Host> {
  if (runDirectory === undefined) throw new Error('an STP path needs an array');
  return attach({ runDirectory, stg, name: `bench-${name}` });
}

export const stpSockets: OpenSockets = async (open) => {
  const host = await attachTo(open, open.side);
  return {
    async listen(take) {
      const server = host.createServer({}, take).listen({ port: 0 });
      await once(server, 'listening');
      return server.address()?.port ?? 0;
    },
    connect: (port, onread) => host.connect({ port: Number(port), ...(onread && { onread }) }),
    setPolling: (on) => setPollBudget(on ? POLL_BUDGET_US_DEFAULT : 0),
  };
};

/** Listens on a dynamic port, tells it, and takes one connection, unread. */
export async function acceptOne(
  open: OpenRequest,
  listening: (address: Address) => void,
): Promise<StpSocket> {
  const host = await attachTo(open, 'receiver');
  const server = host.createServer({ pauseOnConnect: true });
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
  return connected(host.connect({ port: Number(port) }));
}
