/**
 * The worker thread of `stp-copy` and `stp-zero-copy`: one end of a stream, blocking calls.
 *
 * `copy`: one send a message or batch from a private buffer; receive takes what is there into a
 * private buffer of a page to 1 MiB, and of one message or batch where the case counts messages. `zero-copy`: a message is reserved, filled natively once and committed,
 * page by page; the receiver sums in place what peek shows. As in bench/native/memcpy_2p.c.
 */
import { Buffer } from 'node:buffer';
import { parentPort, workerData } from 'node:worker_threads';
import { BlockingStream, native } from '../../src/index.js';
import {
  blockBytesOf,
  CopiedStream,
  FilledStream,
  fillValue,
  isLastMessage,
  messagesOf,
  NumberedMessage,
  numberOf,
  numbersText,
} from '../harness/content.js';
import { encodeHistogram, makeHistogram } from '../harness/histogram.js';
import type { RoundRequest } from '../harness/protocol.js';
import type { Report } from '../harness/role.js';
import type { FromWorker, WorkerStart } from './stp-worker-role.js';

const INTO_BYTES_MIN = 65536;
const INTO_BYTES_MAX = 1 << 20;
/** `ping-pong-spin` never sleeps; elsewhere what a stream has by default. */
const SPIN_ALWAYS_US = 10_000;
const SPIN_DEFAULT_US = 50;
/** What a round of large messages has left is collected before the next. */
const COLLECT_BYTES_MIN = 4 << 20;
const ACKNOWLEDGEMENT = Uint8Array.of(0x06);

const { handle, side, transfer } = workerData as WorkerStart;
const stream = new BlockingStream(handle);

/** Sends whole blocks until the time is up, then waits until the receiver has all. */
function sendBlocks(
  { size, seconds }: RoundRequest,
  sendBlock: (block: number, last: boolean) => void,
): Report {
  const start = performance.now();
  const deadline = start + seconds * 1000;
  let blocks = 0;
  for (let last = false; !last; blocks++) {
    last = performance.now() >= deadline;
    sendBlock(blocks, last);
  }
  receiveExactly(new Uint8Array(1));
  const elapsedMs = performance.now() - start;
  const bytes = blocks * blockBytesOf(size);
  return { bytes, messages: bytes / size, seconds: elapsedMs / 1000 };
}

function sendCopied(request: RoundRequest): Report {
  const { size, batch } = request;
  const { plain, first, last: lastMessage } = messagesOf(size, batch);
  const blockCalls = blockBytesOf(size) / (size * batch);
  return sendBlocks(request, (_block, last) => {
    stream.send(last ? lastMessage : first);
    for (let i = 1; i < blockCalls; i++) stream.send(plain);
  });
}

function sendFilled(request: RoundRequest): Report {
  const { fillBytes } = native();
  const { size } = request;
  const segment = stream.segment.number;
  const blockMessages = blockBytesOf(size) / size;
  return sendBlocks(request, (block, last) => {
    const value = fillValue(block, last);
    for (let i = 0; i < blockMessages; i++) {
      for (let left = size; left > 0; ) {
        const room = stream.reserve();
        const n = Math.min(room.length, left);
        fillBytes(segment, room.byteOffset, n, value);
        stream.commit(n);
        left -= n;
      }
    }
  });
}

const received = (size: number, of: { bytes: number; digest: string }): Report => {
  stream.send(ACKNOWLEDGEMENT);
  return { bytes: of.bytes, messages: of.bytes / size, seconds: 0, digest: of.digest };
};

function receiveCopied({ case: name, size, batch, verify }: RoundRequest): Report {
  const eachByItself = name !== 'stream';
  const into = Buffer.alloc(
    eachByItself ? size * batch : Math.min(Math.max(size, INTO_BYTES_MIN), INTO_BYTES_MAX),
  );
  const copied = new CopiedStream(size, verify);
  for (;;) {
    const n = stream.receive(into);
    if (n === 0) throw new Error('the stream ended within a round');
    if (copied.take(n === into.length ? into : into.subarray(0, n))) break;
  }
  return received(size, copied);
}

function receiveFilled({ size, verify }: RoundRequest): Report {
  const { sumBytes } = native();
  const segment = stream.segment.number;
  const filled = new FilledStream(size, verify);
  for (let done = false; !done; ) {
    const piece = stream.peek();
    if (piece === null) throw new Error('the stream ended within a round');
    done = filled.take(piece, sumBytes(segment, piece.byteOffset, piece.length));
    stream.consume(piece.length);
  }
  return received(size, filled);
}

function receiveExactly(into: Uint8Array): void {
  for (let filled = 0; filled < into.length; ) {
    const n = stream.receive(filled === 0 ? into : into.subarray(filled));
    if (n === 0) throw new Error('the stream ended within a round');
    filled += n;
  }
}

function ping({ size, seconds, verify }: RoundRequest): Report {
  const histogram = makeHistogram();
  const message = new NumberedMessage(size);
  const reply = Buffer.alloc(size);
  let number = 0;
  let digest = 0;
  const start = performance.now();
  const deadline = start + seconds * 1000;
  let now = start;
  for (let last = false; !last; ) {
    const sentAt = performance.now();
    last = sentAt >= deadline;
    number += 1;
    stream.send(message.set(number, last));
    receiveExactly(reply);
    now = performance.now();
    if (numberOf(reply) !== number) throw new Error(`reply ${numberOf(reply)} to ${number}`);
    if (verify && message.bytes.compare(reply) !== 0) {
      throw new Error(`reply ${number} has other content`);
    }
    digest += number;
    histogram.recordValue(Math.max(1, Math.round((now - sentAt) * 1e6)));
  }
  return {
    bytes: number * size * 2,
    messages: number,
    seconds: (now - start) / 1000,
    digest: numbersText(digest),
    histogram: encodeHistogram(histogram),
  };
}

function pong({ size }: RoundRequest): Report {
  const message = Buffer.alloc(size);
  let count = 0;
  let digest = 0;
  for (let last = false; !last; ) {
    receiveExactly(message);
    count += 1;
    digest += numberOf(message);
    last = isLastMessage(message);
    stream.send(message);
  }
  return { bytes: count * size * 2, messages: count, seconds: 0, digest: numbersText(digest) };
}

function round(request: RoundRequest): Report {
  stream.setSpin(request.case === 'ping-pong-spin' ? SPIN_ALWAYS_US : SPIN_DEFAULT_US);
  if (request.case === 'ping-pong-spin') return side === 'sender' ? ping(request) : pong(request);
  if (transfer === 'copy') return side === 'sender' ? sendCopied(request) : receiveCopied(request);
  return side === 'sender' ? sendFilled(request) : receiveFilled(request);
}

const say = (message: FromWorker): void => parentPort?.postMessage(message);

parentPort?.on('message', (request: RoundRequest) => {
  say({ op: 'armed' });
  const report = round(request);
  if (request.size > COLLECT_BYTES_MIN) globalThis.gc?.();
  say({ op: 'done', report });
});
