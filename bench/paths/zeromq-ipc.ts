/**
 * Path `zeromq-ipc`: zeromq.js over `ipc://`, a pair of sockets made anew for each round, because
 * what may wait in them is set in messages: 4 MiB of them, as much as an STP stream's window.
 */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { blockBytesOf, CopiedStream, messagesOf } from '../harness/content.js';
import type { RoundRequest } from '../harness/protocol.js';
import { type Participant, type Report, serveRole } from '../harness/role.js';

// CommonJS: required, so that the names are the same on every Node.
const { Pair } = createRequire(import.meta.url)('zeromq') as typeof import('zeromq');

const WAITING_BYTES = 4 << 20;

const highWaterMark = (size: number): number => Math.max(1, Math.floor(WAITING_BYTES / size));

function pairFor({ size }: RoundRequest): InstanceType<typeof Pair> {
  const messages = highWaterMark(size);
  return new Pair({ sendHighWaterMark: messages, receiveHighWaterMark: messages, linger: 0 });
}

class ZeromqReceiver implements Participant {
  constructor(private readonly address: string) {}

  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    const { size, verify } = request;
    const socket = pairFor(request);
    await socket.bind(this.address);
    armed();
    await socket.receive();
    await socket.send('here');
    const stream = new CopiedStream(size, verify);
    for await (const [message] of socket) {
      if (stream.take(message as Buffer)) break;
    }
    await socket.send('all');
    await socket.receive(); // closing drops what is on its way
    await socket.unbind(this.address);
    socket.close();
    return {
      bytes: stream.bytes,
      messages: stream.bytes / size,
      seconds: 0,
      digest: stream.digest,
    };
  }
}

class ZeromqSender implements Participant {
  constructor(private readonly address: string) {}

  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    const { size, seconds } = request;
    const { plain, first, last } = messagesOf(size);
    const blockMessages = blockBytesOf(size) / size;
    const socket = pairFor(request);
    socket.connect(this.address);
    armed();
    await socket.send('there?');
    await socket.receive();
    const start = performance.now();
    const deadline = start + seconds * 1000;
    let blocks = 0;
    for (let ending = false; !ending; blocks++) {
      ending = performance.now() >= deadline;
      await socket.send(ending ? last : first);
      for (let i = 1; i < blockMessages; i++) await socket.send(plain);
    }
    await socket.receive();
    const elapsedMs = performance.now() - start;
    await socket.send('bye');
    socket.close();
    const bytes = blocks * blockBytesOf(size);
    return { bytes, messages: bytes / size, seconds: elapsedMs / 1000 };
  }
}

serveRole({
  async receive({ directory }, listening) {
    const address = `ipc://${directory}/${randomUUID()}`;
    listening(address);
    return new ZeromqReceiver(address);
  },
  async send(_open, address) {
    return new ZeromqSender(String(address));
  },
});
