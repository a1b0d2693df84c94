/**
 * WAL through the running client: one standing session that all `wal-push` and `wal-fetch` share.
 *
 * The verbs come over a Unix socket with one request a connection; the session is made at the first
 * and again after it broke, so that a segment costs no handshake. Requests take their turn: the
 * session's two streams carry one at a time. Success is told when the server has told it.
 *
 *   verb -> client   {"op":"push","segment","bytes","blake3"}\n and the bytes
 *                    {"op":"fetch","segment"}\n
 *   client -> verb   {"type":"stored"|"found"|"missing"|"refused",...}\n; found: and the bytes
 *
 * Event loop only.
 */
import { chownSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import * as z from 'zod';
import { isCoded, messageOf, stpError } from '../errors.js';
import type { Log } from './client.js';
import { type DatabaseClientOptions, DatabaseSession } from './database-client.js';
import { SEGMENT_PATTERN, type WalAnswer, walAnswerSchema } from './database-protocol.js';
import { orAborted, within } from './deadline.js';
import { SEGMENT_BYTES_MAX, STEP_TIMEOUT_MS, UNIDENTIFIED_MAX } from './limits.js';
import { reasonOf } from './reason.js';

/** A request is one short line. */
const REQUEST_BYTES_MAX = 1024;

const segment = z.string().regex(SEGMENT_PATTERN, 'is no name of a WAL file');
const requestSchema = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('push'),
    segment,
    bytes: z.number().int().min(0).max(SEGMENT_BYTES_MAX),
    blake3: z.string().regex(/^[0-9a-f]{64}$/),
  }),
  z.strictObject({ op: z.literal('fetch'), segment }),
]);
type Request = z.infer<typeof requestSchema>;

const silent = (): Error => stpError('ETIMEDOUT', 'a caller of the control socket was silent');

export interface WalClientOptions {
  /** Of the standing session; its signal ends everything. */
  readonly session: DatabaseClientOptions;
  readonly name: string;
  /** Of the control socket. One that a dead client left is replaced. */
  readonly path: string;
  /** Who may use the socket; undefined: this user only. */
  readonly uid: number | undefined;
  readonly log: Log;
}

export class WalClient {
  readonly #options: WalClientOptions;
  readonly #server: Server;
  #session: DatabaseSession | undefined;
  #turn: Promise<void> = Promise.resolve();
  /** Sessions made so far: one, if none broke. */
  sessionCount = 0;

  constructor(options: WalClientOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    this.#server.maxConnections = UNIDENTIFIED_MAX;
    this.#server.on('connection', (socket) => this.#serve(socket));
  }

  /** @throws EADDRINUSE, EACCES, ... */
  async start(): Promise<void> {
    const { path, uid } = this.#options;
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      // bind(2) happens inside listen(), on this thread: no other user can ever open the socket.
      const umask = process.umask(0o177);
      try {
        this.#server.listen({ path }, resolve);
      } finally {
        process.umask(umask);
      }
    });
    if (uid !== undefined) chownSync(path, uid, -1);
  }

  async stop(): Promise<void> {
    this.#server.close();
    await this.#drop();
  }

  #serve(socket: Socket): void {
    socket.on('error', () => {});
    const served = this.#turn.then(async () => {
      try {
        await this.#one(socket);
      } catch (e) {
        this.#options.log.error(`WAL: ${messageOf(e)}`);
        socket.end(`${JSON.stringify({ type: 'refused', ...reasonOf(e) })}\n`);
      }
    });
    this.#turn = served;
  }

  async #one(socket: Socket): Promise<void> {
    const bytes = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const { request, rest } = await within(STEP_TIMEOUT_MS, receiveRequest(bytes), silent);
    try {
      if (request.op === 'push') await this.#push(request, rest, bytes, socket);
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
    this.sessionCount++;
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

  async #push(
    request: Extract<Request, { op: 'push' }>,
    rest: Buffer,
    bytes: AsyncIterator<Buffer>,
    socket: Socket,
  ): Promise<void> {
    const { segment: name, bytes: total, blake3 } = request;
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
      if (!socket.write(piece)) await drained(socket);
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

async function receiveRequest(
  bytes: AsyncIterator<Buffer>,
): Promise<{ request: Request; rest: Buffer }> {
  let got: Buffer = Buffer.alloc(0);
  for (;;) {
    const next = await bytes.next();
    if (next.done) throw stpError('ECONNRESET', 'a caller of the control socket is gone');
    got = Buffer.concat([got, next.value]);
    const end = got.indexOf(0x0a);
    if (end < 0 && got.length <= REQUEST_BYTES_MAX) continue;
    if (end < 0 || end > REQUEST_BYTES_MAX) throw stpError('EMSGSIZE', 'a request is too long');
    return { request: parse(got.toString('utf8', 0, end)), rest: got.subarray(end + 1) };
  }
}

function parse(line: string): Request {
  try {
    return requestSchema.parse(JSON.parse(line));
  } catch (e) {
    if (isCoded(e)) throw e;
    throw stpError('EPROTO', 'a request on the control socket that is none');
  }
}
