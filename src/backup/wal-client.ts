/**
 * WAL through the running client: one standing session that all `wal-push` and `wal-fetch` share.
 *
 * The verbs come over the control socket with one request a connection; the session is made at the
 * first and again after it broke, so that a segment costs no handshake. Requests take their turn: the
 * session's two streams carry one at a time. Success is told when the server has told it.
 *
 *   verb -> client   {"op":"push","segment","bytes","blake3"}\n and the bytes
 *                    {"op":"fetch","segment"}\n
 *   client -> verb   {"type":"stored"|"found"|"missing",...}\n; found: and the bytes
 *
 * Event loop only.
 */
import type { Socket } from 'node:net';
import * as z from 'zod';
import { stpError } from '../errors.js';
import type { Log } from './client.js';
import { type DatabaseClientOptions, DatabaseSession } from './database-client.js';
import { SEGMENT_PATTERN, type WalAnswer, walAnswerSchema } from './database-protocol.js';
import { orAborted, within } from './deadline.js';
import { SEGMENT_BYTES_MAX, STEP_TIMEOUT_MS } from './limits.js';

const segment = z.string().regex(SEGMENT_PATTERN, 'is no name of a WAL file');
export const walRequests = [
  z.strictObject({
    op: z.literal('push'),
    segment,
    bytes: z.number().int().min(0).max(SEGMENT_BYTES_MAX),
    blake3: z.string().regex(/^[0-9a-f]{64}$/),
  }),
  z.strictObject({ op: z.literal('fetch'), segment }),
] as const;
type Push = z.infer<(typeof walRequests)[0]>;
type Request = Push | z.infer<(typeof walRequests)[1]>;

const silent = (): Error => stpError('ETIMEDOUT', 'a caller of the control socket was silent');

export interface WalClientOptions {
  /** Of the standing session; its signal ends everything. */
  readonly session: DatabaseClientOptions;
  readonly name: string;
  readonly log: Log;
}

export class WalClient {
  readonly #options: WalClientOptions;
  #session: DatabaseSession | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: WalClientOptions) {
    this.#options = options;
  }

  async stop(): Promise<void> {
    await this.#drop();
  }

  /**
   * Serves one request when its turn comes.
   * @param rest bytes that came with it
   * @throws why it came to nothing; then the socket is still open
   */
  async serve(request: Request, rest: Buffer, socket: Socket): Promise<void> {
    const served = this.#turn.then(() => this.#one(request, rest, socket));
    this.#turn = served.catch(() => {});
    await served;
  }

  async #one(request: Request, rest: Buffer, socket: Socket): Promise<void> {
    try {
      if (request.op === 'push') await this.#push(request, rest, socket);
      else await this.#fetch(request.segment, socket);
    } catch (e) {
      // Whatever is half-way in the streams: the next request has new ones.
      await this.#drop();
      throw e;
    }
    socket.end();
  }

  async #established(): Promise<DatabaseSession> {
    const { session: options, name, log } = this.#options;
    if (this.#session) return this.#session;
    const session = await DatabaseSession.open(options, { op: 'wal', name });
    log.info(`WAL session with ${options.server.name} stands`);
    this.#session = session;
    return session;
  }

  /**
   * The session that stands, told what is asked; a new one where the server has gone away since the
   * last request, which a restart of it is no reason to fail for.
   */
  async #announce(request: object): Promise<DatabaseSession> {
    const standing = this.#session;
    if (standing) {
      try {
        await standing.control.send(request);
        return standing;
      } catch {
        await this.#drop();
      }
    }
    const session = await this.#established();
    await session.control.send(request);
    return session;
  }

  async #drop(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  async #answer(session: DatabaseSession): Promise<WalAnswer> {
    const { server, signal } = this.#options.session;
    const answer = await orAborted(signal, session.control.receive(walAnswerSchema));
    if (!answer) throw stpError('ECONNRESET', `server ${server.name} ended the WAL session`);
    if (answer.type === 'cancel') throw stpError('ECANCELED', answer.reason);
    return answer;
  }

  async #push(request: Push, rest: Buffer, socket: Socket): Promise<void> {
    const { segment: name, bytes: total, blake3 } = request;
    const bytes = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const session = await this.#announce({ type: 'push', segment: name, bytes: total, blake3 });
    const { storage, data } = session.connections;
    let left = total;
    for (let piece = rest; ; ) {
      if (piece.length > left) throw stpError('EPROTO', 'more bytes came than were announced');
      if (piece.length > 0) await storage.send(data, piece);
      left -= piece.length;
      if (left === 0) break;
      const next = await within(STEP_TIMEOUT_MS, bytes.next(), silent);
      if (next.done) throw stpError('ECONNRESET', 'a caller of the control socket is gone');
      piece = next.value;
    }
    socket.write(`${JSON.stringify(await this.#answer(session))}\n`);
  }

  async #fetch(name: string, socket: Socket): Promise<void> {
    const session = await this.#announce({ type: 'fetch', segment: name });
    const { storage, data } = session.connections;
    const answer = await this.#answer(session);
    socket.write(`${JSON.stringify(answer)}\n`);
    if (answer.type !== 'found') return;
    for (let left = answer.bytes; left > 0; ) {
      const piece = await storage.receive(data, Math.min(left, 256 << 10));
      if (piece.length === 0) throw stpError('ECONNRESET', 'the WAL session ended in a segment');
      left -= piece.length;
      // One that is stopped does not hold up those behind it.
      if (!socket.write(piece)) await within(STEP_TIMEOUT_MS, drained(socket), silent);
    }
  }
}

async function drained(socket: Socket): Promise<void> {
  if (socket.destroyed) throw stpError('ECONNRESET', 'a caller of the control socket is gone');
  await new Promise<void>((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.once('drain', done);
    socket.once('close', done);
  });
}
