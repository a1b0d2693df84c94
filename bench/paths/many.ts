/**
 * Case `connections`: very many connections between two processes, each used once and then left
 * idle while the parent looks at memory, then all closed in order.
 *
 * Used means: a message there and back. Event loop of one of a path's two processes.
 */
import { NumberedMessage, numberOf, numbersText } from '../harness/content.js';
import type { RoundRequest } from '../harness/protocol.js';
import type { Report } from '../harness/role.js';
import { assemble } from './duplex-participant.js';
import { connected, type StreamSocket } from './socket-kind.js';

/** Connections on their way at a time: fewer than any backlog. */
const OPENING = 64;

export async function openMany(
  { size, connections }: RoundRequest,
  connect: () => StreamSocket,
  pause: () => Promise<void>,
): Promise<Report> {
  const start = performance.now();
  const sockets: StreamSocket[] = [];
  let fail: (e: Error) => void = () => {};
  const failure = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failure.catch(() => {});
  const openOne = async (number: number): Promise<void> => {
    const socket = await connected(connect());
    sockets.push(socket);
    socket.on('error', fail);
    await exchange(socket, size, number);
  };
  let next = 0;
  const opener = async (): Promise<void> => {
    while (next < connections) {
      next += 1;
      await openOne(next);
    }
  };
  await Promise.race([Promise.all(Array.from({ length: OPENING }, opener)), failure]);
  const seconds = (performance.now() - start) / 1000;
  await pause();
  const closed = sockets.map(
    (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
  );
  for (const socket of sockets) socket.end();
  await Promise.race([Promise.all(closed), failure]);
  return { bytes: connections * size * 2, messages: connections, seconds };
}

function exchange(socket: StreamSocket, size: number, number: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onReply = assemble(size, (reply) => {
      if (numberOf(reply) === number) resolve();
      else reject(new Error(`message ${number} came back as ${numberOf(reply)}`));
    });
    socket.on('data', onReply);
    socket.write(new NumberedMessage(size).set(number, true));
  });
}

export function holdMany(
  { size, connections }: RoundRequest,
  take: (f: (socket: StreamSocket) => void) => void,
  armed: () => void,
  pause: () => Promise<void>,
): Promise<Report> {
  return new Promise((resolve, reject) => {
    let answered = 0;
    let closed = 0;
    let sum = 0;
    take((socket) => {
      socket.once('error', reject);
      const onMessage = assemble(size, (message) => {
        sum += numberOf(message);
        socket.write(message);
        answered += 1;
        if (answered === connections) pause().catch(reject);
      });
      socket.on('data', onMessage);
      socket.once('close', () => {
        closed += 1;
        if (closed < connections) return;
        const bytes = connections * size * 2;
        resolve({ bytes, messages: connections, seconds: 0, digest: numbersText(sum) });
      });
    });
    armed();
  });
}
