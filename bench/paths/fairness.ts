/**
 * Case `fairness`: one greedy connection that sends as fast as back-pressure lets, and many modest
 * ones between the same two processes, each with one small message on its way at a time. What a
 * modest one waits for its answer is measured; what the greedy one moved stands beside it.
 *
 * The greedy connection is the one whose first byte is content of a stream; a modest one starts
 * with MODEST. Event loop of one of a path's two processes.
 */
import { once } from 'node:events';
import { CopiedStream, GREEDY_BYTES, numbersText } from '../harness/content.js';
import { encodeHistogram, makeHistogram } from '../harness/histogram.js';
import type { RoundRequest } from '../harness/protocol.js';
import type { Report } from '../harness/role.js';
import { assemble, StreamSender } from './duplex-participant.js';
import { connected, type StreamSocket } from './socket-kind.js';

const MODEST = 0x01;

export async function greedyAndModest(
  request: RoundRequest,
  connect: () => StreamSocket,
): Promise<Report> {
  const { size, seconds, connections } = request;
  const greedy = await connected(connect());
  const modest = await Promise.all(Array.from({ length: connections }, () => connected(connect())));
  const histogram = makeHistogram();
  const counts = modest.map(() => 0);
  const message = Buffer.alloc(size, MODEST);
  const start = performance.now();
  const deadline = start + seconds * 1000;

  const failed = new Promise<never>((_, reject) => {
    for (const socket of [greedy, ...modest]) socket.once('error', reject);
  });
  const stream = new StreamSender(greedy, { size: GREEDY_BYTES, batch: 1, seconds });
  const streamed = new Promise<void>((resolve) => {
    greedy.once('data', () => resolve());
    stream.start();
  });
  const exchanged = modest.map(
    (socket, i) =>
      new Promise<void>((resolve) => {
        let sentAt = performance.now();
        const onReply = assemble(size, () => {
          const now = performance.now();
          histogram.recordValue(Math.max(1, Math.round((now - sentAt) * 1e6)));
          counts[i] = (counts[i] ?? 0) + 1;
          if (now >= deadline) return resolve();
          sentAt = now;
          socket.write(message);
        });
        socket.on('data', onReply);
        socket.setNoDelay?.(true);
        socket.write(message);
      }),
  );
  await Promise.race([Promise.all([streamed, ...exchanged]), failed]);
  const elapsedMs = performance.now() - start;
  const closed = [greedy, ...modest].map((socket) => once(socket, 'close'));
  for (const socket of [greedy, ...modest]) socket.end();
  await Promise.race([Promise.all(closed), failed]);
  const messages = counts.reduce((a, b) => a + b, 0);
  return {
    bytes: messages * size * 2,
    messages,
    seconds: elapsedMs / 1000,
    histogram: encodeHistogram(histogram),
    greedy: {
      bytes: stream.bytes,
      shareMin: Math.min(...counts) / (messages / counts.length),
    },
  };
}

/** Answers the modest, swallows the greedy, until all are closed. */
export function serveGreedyAndModest(
  { size, connections }: RoundRequest,
  take: (f: (socket: StreamSocket) => void) => void,
  armed: () => void,
): Promise<Report> {
  return new Promise((resolve, reject) => {
    const stream = new CopiedStream(GREEDY_BYTES, false);
    let messages = 0;
    let open = connections + 1;
    const swallow = (socket: StreamSocket) => (chunk: Buffer) => {
      if (stream.take(chunk)) socket.write('.');
    };
    const answer = (socket: StreamSocket) =>
      assemble(size, (message) => {
        messages += 1;
        socket.write(message);
      });
    take((socket) => {
      let onData: ((chunk: Buffer) => void) | undefined;
      socket.setNoDelay?.(true);
      socket.once('error', reject);
      socket.on('data', (chunk: Buffer) => {
        onData ??= chunk[0] === MODEST ? answer(socket) : swallow(socket);
        try {
          onData(chunk);
        } catch (e) {
          reject(e as Error);
        }
      });
      socket.once('close', () => {
        open -= 1;
        if (open > 0) return;
        const digest = `${stream.digest}${numbersText(messages)}`;
        resolve({ bytes: messages * size * 2, messages, seconds: 0, digest });
      });
    });
    armed();
  });
}
