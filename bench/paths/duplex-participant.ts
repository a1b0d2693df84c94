/**
 * Rounds over one Node `Duplex`: the same calls for TCP, Unix sockets and STP. One `write` a
 * message or batch, the next one only while `write` says true, else after 'drain'. Runs on the
 * event loop of one of a path's two processes.
 */
import type { CaseName } from '../harness/cases.js';
import {
  blockBytesOf,
  CopiedStream,
  isLastMessage,
  type Messages,
  messagesOf,
  NumberedMessage,
  numberOf,
  numbersText,
} from '../harness/content.js';
import { encodeHistogram, makeHistogram } from '../harness/histogram.js';
import type { RoundRequest, Side } from '../harness/protocol.js';
import type { Participant, Report } from '../harness/role.js';
import type { StreamSocket } from './socket-kind.js';

/** What a receiver writes when the last byte of a stream has come. */
const ACKNOWLEDGEMENT = Buffer.from([0x06]);

/**
 * One connection, one end.
 *
 * Chunks come by 'data'; in case `message-rate` the receiver instead takes each message by a call
 * of its own, `read(size)` after 'readable'; and where the socket was made with `onread`, its
 * callback hands them to `take`.
 */
export class DuplexParticipant implements Participant {
  /** Where chunks go to in this round. */
  private onData: ((chunk: Buffer) => void) | undefined;
  private fail: ((e: Error) => void) | undefined;
  private broken: Error | undefined;

  constructor(
    private readonly socket: StreamSocket,
    private readonly side: Side,
    chunks: 'data' | 'onread' = 'data',
  ) {
    if (chunks === 'data') socket.on('data', this.take);
    socket.on('error', (e) => this.break(e));
    socket.on('close', () => this.break(new Error('the connection closed')));
  }

  /** A chunk has come. */
  readonly take = (chunk: Buffer): void => {
    try {
      if (this.onData === undefined) throw new Error('data outside a round');
      this.onData(chunk);
    } catch (e) {
      this.break(e as Error);
    }
  };

  async round(request: RoundRequest, armed: () => void): Promise<Report> {
    const isStream = isStreamCase(request.case);
    // Each case gets what suits TCP best: Nagle's algorithm doubles a stream of 64 B messages.
    this.socket.setNoDelay?.(!isStream);
    const failed = new Promise<never>((_, reject) => {
      this.fail = reject;
      if (this.broken !== undefined) reject(this.broken);
    });
    const eachByItself = request.case === 'message-rate' && this.side === 'receiver';
    const onReadable = (): void => {
      for (;;) {
        const message = this.socket.read(request.size) as Buffer | null;
        if (message === null) return;
        this.take(message);
      }
    };
    if (eachByItself) this.socket.off('data', this.take).on('readable', onReadable);
    const work = isStream ? this.stream(request) : this.exchange(request);
    armed();
    try {
      return await Promise.race([work, failed]);
    } finally {
      if (eachByItself) this.socket.off('readable', onReadable).on('data', this.take);
      this.onData = undefined;
      this.fail = undefined;
    }
  }

  private stream(request: RoundRequest): Promise<Report> {
    return this.side === 'sender' ? this.sendStream(request) : this.receiveStream(request);
  }

  private exchange(request: RoundRequest): Promise<Report> {
    return this.side === 'sender' ? this.ping(request) : this.pong(request);
  }

  private break(e: Error): void {
    this.broken ??= e;
    this.fail?.(this.broken);
  }

  // --- stream ----------------------------------------------------------------------------------

  private sendStream(request: RoundRequest): Promise<Report> {
    const sender = new StreamSender(this.socket, request);
    return new Promise((resolve) => {
      this.onData = (): void => {
        const seconds = sender.acknowledged();
        resolve({ bytes: sender.bytes, messages: sender.bytes / request.size, seconds });
      };
      // Not before this turn is over: `armed` is said first.
      setImmediate(() => sender.start());
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

const isStreamCase = (name: CaseName): boolean =>
  name === 'stream' || name === 'message-rate' || name === 'message-rate-batch';

/** Sends whole blocks as fast as `write` and 'drain' let, until the time is up. */
export class StreamSender {
  bytes = 0;
  private startedAt = 0;
  private complete = false;

  /** Made before the clock starts. */
  private readonly messages: Messages;

  constructor(
    private readonly socket: StreamSocket,
    private readonly request: Pick<RoundRequest, 'size' | 'batch' | 'seconds'>,
  ) {
    this.messages = messagesOf(request.size, request.batch);
  }

  start(): void {
    const { size, seconds } = this.request;
    const { socket } = this;
    const { plain, first, last } = this.messages;
    const blockBytes = blockBytesOf(size);
    let inBlock = 0;
    let ending = false;
    this.startedAt = performance.now();
    const deadline = this.startedAt + seconds * 1000;
    const pump = (): void => {
      for (;;) {
        let message = plain;
        if (inBlock === 0) {
          ending = performance.now() >= deadline;
          message = ending ? last : first;
        }
        inBlock += message.length;
        const more = socket.write(message);
        if (inBlock >= blockBytes) {
          this.bytes += blockBytes;
          inBlock = 0;
          if (ending) {
            socket.off('drain', pump);
            this.complete = true;
            return;
          }
        }
        if (!more) return;
      }
    };
    socket.on('drain', pump);
    pump();
  }

  /** @returns seconds since the start */
  acknowledged(): number {
    if (!this.complete) throw new Error('acknowledged before all was sent');
    return (performance.now() - this.startedAt) / 1000;
  }
}

/** Hands on whole messages; a chunk that is one message is handed on as it is. */
export function assemble(
  size: number,
  onMessage: (message: Buffer) => void,
): (chunk: Buffer) => void {
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
