/**
 * Case `connect-rate`: connect, accept and close, one connection after another.
 *
 * A connection counts when the connecting side has 'close': both sides have ended it in order. The
 * last one, which does not count, carries a byte, so that the accepting side knows that it was the
 * last; it is answered with how many came. Event loop of one of a path's two processes.
 */
import { numberedDigest } from '../harness/content.js';
import type { RoundRequest } from '../harness/protocol.js';
import type { Report } from '../harness/role.js';
import type { StreamSocket } from './socket-kind.js';

type Take = (socket: StreamSocket) => void;

/** One after another until the time is up. */
export function connectRate(
  { seconds }: RoundRequest,
  connect: () => StreamSocket,
): Promise<Report> {
  return new Promise((resolve, reject) => {
    let count = 0;
    const start = performance.now();
    const deadline = start + seconds * 1000;
    const next = (): void => {
      const now = performance.now();
      if (count > 0 && now >= deadline) {
        sayLast(connect(), count).then(
          () => resolve({ bytes: 0, messages: count, seconds: (now - start) / 1000 }),
          reject,
        );
        return;
      }
      const socket = connect();
      socket.once('error', reject);
      socket.once('connect', () => socket.end());
      socket.once('close', () => {
        count += 1;
        next();
      });
      socket.resume();
    };
    next();
  });
}

/** The other side has closed what came before, or it says so. */
function sayLast(socket: StreamSocket, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = '';
    socket.once('error', reject);
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.once('close', () => {
      if (answer === String(count)) resolve();
      else reject(new Error(`${count} connections were made, '${answer}' arrived`));
    });
    socket.once('connect', () => socket.end('.'));
  });
}

/** Accepts until the last one. */
export function acceptRate(take: (f: Take) => void, armed: () => void): Promise<Report> {
  return new Promise((resolve, reject) => {
    let count = 0;
    let open = 0;
    take((socket) => {
      open += 1;
      let isLast = false;
      socket.once('error', reject);
      socket.once('data', () => {
        isLast = true;
        socket.end(String(count - 1));
      });
      count += 1;
      socket.once('close', () => {
        open -= 1;
        if (!isLast) return;
        if (open > 0) return reject(new Error(`${open} connections are open after the last one`));
        const messages = count - 1;
        resolve({ bytes: 0, messages, seconds: 0, digest: numberedDigest(messages) });
      });
    });
    armed();
  });
}
