/**
 * Rounds over any Node `Duplex`: the same calls for TCP, Unix sockets and STP. One `write` a
 * message, the next one only while `write` says true, else after 'drain'; 'data' events at the
 * receiver. Runs on the event loop of one of a path's two processes.
 */
import type { Duplex } from 'node:stream';
import {
  blockBytesOf,
  CopiedStream,
  isLastMessage,
  messagesOf,
  NumberedMessage,
  numberOf,
  numbersText,
} from '../harness/content.js';
import { encodeHistogram, makeHistogram } from '../harness/histogram.js';
import type { RoundReport, RoundRequest, Side } from '../harness/protocol.js';
import type { Participant } from '../harness/role.js';

type Report = Omit<RoundReport, 'cpuSeconds'>;

/** What a receiver writes when the last byte of a stream has come. */
const ACKNOWLEDGEMENT = Buffer.from([0x06]);

export interface StreamSocket extends Duplex {
  setNoDelay?(noDelay: boolean): unknown;
}

export class DuplexParticipant implements Participant {
  private onData: ((chunk: Buffer) => void) | undefined;
  private fail: ((e: Error) => void) | undefined;
  private broken: Error | undefined;

  constructor(
    private readonly socket: StreamSocket,
    private readonly side: Side,
  ) {
    socket.on('data', (chunk: Buffer) => {
      try {
        if (this.onData === undefined) throw new Error('data outside a round');
        this.onData(chunk);
      } catch (e) {
        this.break(e as Error);
      }
    });
    socket.on('error', (e) => this.break(e));
    socket.on('close', () => this.break(new Error('the connection closed')));
  }

  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    // Each case gets what suits TCP best: Nagle's algorithm doubles a stream of 64 B messages.
    this.socket.setNoDelay?.(request.case !== 'stream');
    const failed = new Promise<never>((_, reject) => {
      this.fail = reject;
      if (this.broken !== undefined) reject(this.broken);
    });
    const work = this.begin(request);
    armed();
    try {
      return await Promise.race([work, failed]);
    } finally {
      this.onData = undefined;
      this.fail = undefined;
    }
  }

  private begin(request: RoundRequest): Promise<Report> {
    if (request.case === 'stream') {
      return this.side === 'sender' ? this.sendStream(request) : this.receiveStream(request);
    }
    return this.side === 'sender' ? this.ping(request) : this.pong(request);
  }

  private break(e: Error): void {
    this.broken ??= e;
    this.fail?.(this.broken);
  }

  // --- stream ----------------------------------------------------------------------------------

  private sendStream({ size, seconds }: RoundRequest): Promise<Report> {
    const { socket } = this;
    const { plain, first, last } = messagesOf(size);
    const blockMessages = blockBytesOf(size) / size;
    let blocks = 0;
    let index = 0;
    let ending = false;
    const start = performance.now();
    const deadline = start + seconds * 1000;

    const pump = (): void => {
      for (;;) {
        if (index === blockMessages) {
          blocks += 1;
          index = 0;
          if (ending) return;
        }
        let message = plain;
        if (index === 0) {
          ending = performance.now() >= deadline;
          message = ending ? last : first;
        }
        index += 1;
        if (!socket.write(message)) return;
      }
    };
    socket.on('drain', pump);
    return new Promise((resolve) => {
      this.onData = (): void => {
        const elapsedMs = performance.now() - start;
        if (!ending || index > 0) throw new Error('acknowledged before all was sent');
        socket.off('drain', pump);
        resolve({
          bytes: blocks * blockBytesOf(size),
          messages: blocks * blockMessages,
          seconds: elapsedMs / 1000,
        });
      };
      // Not before this turn is over: `armed` is said first.
      setImmediate(pump);
    });
  }

  private receiveStream({ size, verify }: RoundRequest): Promise<Report> {
    const stream = new CopiedStream(size, verify);
    return new Promise((resolve) => {
      this.onData = (chunk): void => {
        if (!stream.take(chunk)) return;
        this.socket.write(ACKNOWLEDGEMENT);
        const { bytes, digest } = stream;
        resolve({ bytes, messages: bytes / size, seconds: 0, digest });
      };
    });
  }

  // --- ping-pong -------------------------------------------------------------------------------

  /**
   * Closed loop: the next message when the last one is back. At a fixed rate: message i is due at
   * i / rate, and its latency counts from then, whenever it was really sent. The clock of that case
   * is the event loop, kept turning: the sender's CPU shows it.
   */
  private ping(request: RoundRequest): Promise<Report> {
    const { size, seconds, ratePerSecond, verify } = request;
    const { socket } = this;
    const histogram = makeHistogram();
    const paced = request.case === 'ping-pong-rate';
    const pacedCount = Math.max(1, Math.floor(seconds * ratePerSecond));
    const message = new NumberedMessage(size);
    let sent = 0;
    let returned = 0;
    let lastNumber = 0;
    let digest = 0;
    const start = performance.now();
    const deadline = start + seconds * 1000;
    let sentAt = start;
    const dueAt = (number: number): number => start + ((number - 1) * 1000) / ratePerSecond;

    const send = (last: boolean): void => {
      sent += 1;
      if (last) lastNumber = sent;
      const bytes = message.set(sent, last);
      // In a closed loop the one buffer is free again when its message is back.
      socket.write(paced ? Buffer.from(bytes) : bytes);
    };
    const sendDue = (): void => {
      while (sent < pacedCount && performance.now() >= dueAt(sent + 1))
        send(sent + 1 === pacedCount);
      if (sent < pacedCount) setImmediate(sendDue);
    };
    const sendNext = (): void => {
      sentAt = performance.now();
      send(sentAt >= deadline);
    };

    return new Promise((resolve) => {
      this.onData = assemble(size, (reply) => {
        const now = performance.now();
        returned += 1;
        const number = numberOf(reply);
        if (number !== returned) throw new Error(`reply ${number} came as number ${returned}`);
        if (verify && message.set(number, number === lastNumber).compare(reply) !== 0) {
          throw new Error(`reply ${number} has other content`);
        }
        digest += number;
        const latencyMs = now - (paced ? dueAt(number) : sentAt);
        histogram.recordValue(Math.max(1, Math.round(latencyMs * 1e6)));
        if (number !== lastNumber) {
          if (!paced) sendNext();
          return;
        }
        resolve({
          bytes: returned * size * 2,
          messages: returned,
          seconds: (now - start) / 1000,
          digest: numbersText(digest),
          histogram: encodeHistogram(histogram),
        });
      });
      setImmediate(paced ? sendDue : sendNext);
    });
  }

  private pong({ size }: RoundRequest): Promise<Report> {
    let count = 0;
    let digest = 0;
    return new Promise((resolve) => {
      this.onData = assemble(size, (message) => {
        count += 1;
        digest += numberOf(message);
        this.socket.write(message);
        if (!isLastMessage(message)) return;
        const bytes = count * size * 2;
        resolve({ bytes, messages: count, seconds: 0, digest: numbersText(digest) });
      });
    });
  }
}

/** Hands on whole messages; a chunk that is one message is handed on as it is. */
function assemble(size: number, onMessage: (message: Buffer) => void): (chunk: Buffer) => void {
  let part: Buffer | undefined;
  let filled = 0;
  return (chunk) => {
    for (let at = 0; at < chunk.length; ) {
      if (part === undefined && chunk.length - at >= size) {
        onMessage(chunk.subarray(at, at + size));
        at += size;
        continue;
      }
      part ??= Buffer.allocUnsafe(size);
      const copied = chunk.copy(part, filled, at);
      filled += copied;
      at += copied;
      if (filled < size) continue;
      const message = part;
      part = undefined;
      filled = 0;
      onMessage(message);
    }
  };
}
