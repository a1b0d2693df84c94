/**
 * The rounds of all paths whose ends are event-loop sockets: the same programs over TCP, Unix
 * sockets and STP. A path says how its sockets are made; what is done with them stands in
 * duplex-participant.ts (one connection), connect-rate.ts, fairness.ts and many.ts.
 *
 * The first connection is kept for the run; cases of many connections make theirs in each round.
 */
import type { Address, RoundRequest } from '../harness/protocol.js';
import type { Participant, PathRole, Report } from '../harness/role.js';
import { acceptRate, connectRate } from './connect-rate.js';
import { DuplexParticipant } from './duplex-participant.js';
import { greedyAndModest, serveGreedyAndModest } from './fairness.js';
import { holdMany, openMany } from './many.js';
import { connected, type OpenSockets, type Sockets, type StreamSocket } from './socket-kind.js';

export function socketRole(openSockets: OpenSockets): PathRole {
  return {
    async receive(open, listening) {
      const sockets = await openSockets(open);
      const receiver = new SocketReceiver(sockets);
      await receiver.start(listening);
      return receiver;
    },
    async send(open, address) {
      const sockets = await openSockets(open);
      const main = await connected(sockets.connect(address));
      return new SocketSender(sockets, address, main);
    },
  };
}

function withPolling<T>(
  sockets: Sockets,
  request: RoundRequest,
  work: () => Promise<T>,
): Promise<T> {
  if (request.case !== 'ping-pong-nopoll') return work();
  sockets.setPolling?.(false);
  return work().finally(() => sockets.setPolling?.(true));
}

class SocketReceiver implements Participant {
  private main: DuplexParticipant | undefined;
  /** Whose connections those are that come now. */
  private take: (socket: StreamSocket) => void = (socket) => socket.destroy();

  constructor(private readonly sockets: Sockets) {}

  /** Resolves with the first connection. */
  async start(listening: (address: Address) => void): Promise<void> {
    const first = new Promise<StreamSocket>((resolve) => {
      this.take = resolve;
    });
    listening(await this.sockets.listen((socket) => this.take(socket)));
    this.main = new DuplexParticipant(await first, 'receiver');
  }

  round(request: RoundRequest, armed: () => void, pause: () => Promise<void>): Promise<Report> {
    const take = (f: (socket: StreamSocket) => void): void => {
      this.take = f;
    };
    switch (request.case) {
      case 'connect-rate':
        return acceptRate(take, armed);
      case 'fairness':
        return serveGreedyAndModest(request, take, armed);
      case 'connections':
        return holdMany(request, take, armed, pause);
      default:
        return withPolling(this.sockets, request, () => mainOf(this.main).round(request, armed));
    }
  }
}

const mainOf = (main: DuplexParticipant | undefined): DuplexParticipant => {
  if (main === undefined) throw new Error('round before the first connection');
  return main;
};

class SocketSender implements Participant {
  private readonly main: DuplexParticipant;

  constructor(
    private readonly sockets: Sockets,
    private readonly address: Address,
    main: StreamSocket,
  ) {
    this.main = new DuplexParticipant(main, 'sender');
  }

  round(request: RoundRequest, armed: () => void, pause: () => Promise<void>): Promise<Report> {
    const connect = (): StreamSocket => this.sockets.connect(this.address);
    switch (request.case) {
      case 'connect-rate':
        armed();
        return connectRate(request, connect);
      case 'fairness':
        armed();
        return greedyAndModest(request, connect);
      case 'connections':
        armed();
        return openMany(request, connect, pause);
      default:
        return withPolling(this.sockets, request, () => this.main.round(request, armed));
    }
  }
}
