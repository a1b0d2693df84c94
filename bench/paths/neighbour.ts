/**
 * Case `neighbour`: what an unrelated loopback TCP exchange of a process suffers from its STP
 * sockets' polling. The sender has a TCP connection to a third process that echoes, closed loop, 64
 * bytes; beside it, by path:
 *
 * - `tcp-alone`: nothing; the host is attached and its stream stands idle
 * - `tcp-beside-stp`: a closed loop of the same size over STP, event loops that poll
 * - `tcp-beside-stp-nopoll`: the same, event loops that never poll
 *
 * What is measured is the TCP exchange. This file is all three processes.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { RoundRequest } from '../harness/protocol.js';
import { type Participant, type Report, serveRole } from '../harness/role.js';
import { DuplexParticipant } from './duplex-participant.js';
import { connected, type Sockets, type StreamSocket } from './socket-kind.js';
import { stpSockets } from './stp-adapter.js';

const ECHO = 'echo';

/** The STP side's part of a round, until `stop`; answered by the receiver as any ping-pong. */
class Beside {
  private stopping = false;
  private onData: (() => void) | undefined;

  constructor(private readonly socket: StreamSocket) {
    socket.on('data', () => this.onData?.());
    socket.on('error', (e) => {
      throw e;
    });
  }

  /** @returns the end, once stop was called */
  start(size: number): Promise<void> {
    const message = Buffer.alloc(size);
    this.stopping = false;
    this.socket.write(message);
    return new Promise((resolve) => {
      this.onData = () => {
        if (this.stopping) resolve();
        else this.socket.write(message);
      };
    });
  }

  stop(): void {
    this.stopping = true;
  }
}

const polls = ({ variant }: RoundRequest): boolean => variant !== 'tcp-beside-stp-nopoll';

class NeighbourSender implements Participant {
  private readonly exchange: DuplexParticipant;

  constructor(
    private readonly sockets: Sockets,
    private readonly beside: Beside,
    tcp: StreamSocket,
  ) {
    this.exchange = new DuplexParticipant(tcp, 'sender');
  }

  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    this.sockets.setPolling?.(polls(request));
    const busy = request.variant !== 'tcp-alone';
    const ended = busy ? this.beside.start(request.size) : Promise.resolve();
    const report = await this.exchange.round(request, armed);
    this.beside.stop();
    await ended;
    return report;
  }
}

class NeighbourReceiver implements Participant {
  constructor(private readonly sockets: Sockets) {}

  /** The echo goes on by itself: this side's CPU is in no row. */
  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    this.sockets.setPolling?.(polls(request));
    armed();
    return { bytes: 0, messages: 0, seconds: 0 };
  }
}

async function startEcho(): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(fileURLToPath(import.meta.url), [ECHO]);
  const [port] = (await once(child, 'message')) as [number];
  return { child, port };
}

function echo(): void {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('error', () => process.exit(0));
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
  process.once('disconnect', () => process.exit(0));
}

if (process.argv[2] === ECHO) echo();
else {
  serveRole({
    async receive(open, listening) {
      const sockets = await stpSockets(open);
      const connection = new Promise<void>((resolve) => {
        const take = (socket: StreamSocket): void => {
          socket.on('data', (chunk: Buffer) => socket.write(chunk));
          socket.on('error', () => process.exit(0));
          resolve();
        };
        void sockets.listen(take).then(listening);
      });
      await connection;
      return new NeighbourReceiver(sockets);
    },
    async send(open, address) {
      const sockets = await stpSockets(open);
      const stp = await connected(sockets.connect(address));
      const { child, port } = await startEcho();
      process.once('exit', () => child.kill());
      const tcp = await connected(connect({ port, host: '127.0.0.1' }));
      return new NeighbourSender(sockets, new Beside(stp), tcp);
    },
  });
}
