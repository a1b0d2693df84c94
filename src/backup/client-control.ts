/**
 * The running client's control socket: what its user asks of it without a handshake of their own.
 *
 * A request is one line of JSON in the first message on a connection, with what descriptors belong to
 * it; its bytes and the answers follow as the verbs have it (wal-client.ts, asked-backup.ts). What is
 * refused is told in one line:
 *
 *   verb -> client   {"op":...}\n
 *   client -> verb   {"type":"refused","code","message"}\n
 *
 * Event loop only.
 */
import { lchownSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import * as z from 'zod';
import { messageOf, stpError } from '../errors.js';
import { native } from '../native.js';
import { absence } from './absent.js';
import { type AskedBackups, type BaseBackupRequest, baseBackupRequest } from './asked-backup.js';
import type { Log } from './client.js';
import { afterWaiting } from './deadline.js';
import {
  ASKED_BYTES_MAX,
  CALLERS_MAX,
  REASON_GRACE_MS,
  STEP_TIMEOUT_MS,
  UNIDENTIFIED_MAX,
} from './limits.js';
import { type Reason, reasonOf } from './reason.js';
import { type WalClient, walRequests } from './wal-client.js';

/** A socket of this user, or of the one that it was given to. */
const SOCKET_MODE = 0o600;
const READABLE = 1;
const DISCONNECT = 4;
/** Where there is no descriptor left for a caller, the next look is so much later. */
const PAUSE_MS = 100;
/** What is read of a request at a time. */
const PIECE_BYTES = 64 << 10;
const NEWLINE = 0x0a;

const requestSchema = z.discriminatedUnion('op', [...walRequests, baseBackupRequest]);
type Request = z.infer<typeof requestSchema>;

export interface ClientControlOptions {
  /** Of the socket. One that a dead client left is replaced. */
  readonly path: string;
  /** Who may use the socket; undefined: this user only. */
  readonly uid: number | undefined;
  readonly log: Log;
  /** Null where the configuration has no place for WAL. */
  readonly wal: WalClient | null;
  readonly backups: AskedBackups;
}

/** Who has connected and not yet said what for. */
interface Caller {
  readonly fd: number;
  readonly fds: number[];
  readonly said: Buffer[];
  saidBytes: number;
  watch: number;
  /** Ends the wait for the request. */
  heard: () => void;
}

export class ClientControl {
  readonly #options: ClientControlOptions;
  readonly #callers = new Set<Caller>();
  readonly #served = new Set<Socket>();
  /** Backups, until their callers were told how they went. */
  readonly #backups = new Set<Promise<void>>();
  #fd = -1;
  #watch = -1;

  constructor(options: ClientControlOptions) {
    this.#options = options;
  }

  /** @throws EADDRINUSE, EACCES, ... */
  start(): void {
    const { path, uid } = this.#options;
    rmSync(path, { force: true });
    this.#fd = native().unixListen(path, UNIDENTIFIED_MAX, SOCKET_MODE, true);
    // Never another file, should somebody have put a link in its place.
    if (uid !== undefined) lchownSync(path, uid, -1);
    this.#watchDoor();
  }

  /** Nobody new is heard any more; what is at work goes on. */
  close(): void {
    if (this.#fd < 0) return;
    native().watchStop(this.#watch);
    native().closeDescriptor(this.#fd);
    this.#fd = -1;
    rmSync(this.#options.path, { force: true });
    for (const caller of this.#callers) this.#forget(caller);
  }

  /** After `close`: resolves when backups that were given up have ended, and their callers know. */
  async end(): Promise<void> {
    await Promise.all(this.#backups);
    for (const socket of this.#served) {
      socket.destroySoon();
      // One who does not read holds nobody up.
      const end = afterWaiting(REASON_GRACE_MS, () => socket.destroy());
      socket.once('close', end);
    }
  }

  #watchDoor(): void {
    this.#watch = native().watchStart(this.#fd, READABLE, () => this.#accept());
    native().watchRef(this.#watch, true);
  }

  #accept(): void {
    for (;;) {
      let fd: number;
      try {
        fd = native().unixAccept(this.#fd);
      } catch (e) {
        this.#options.log.error(`control socket: ${messageOf(e)}`);
        native().watchStop(this.#watch);
        setTimeout(() => this.#fd >= 0 && this.#watchDoor(), PAUSE_MS);
        return;
      }
      if (fd < 0) return;
      if (this.#callers.size < UNIDENTIFIED_MAX && this.#served.size < CALLERS_MAX) this.#await(fd);
      else this.#sendAway(fd);
    }
  }

  #await(fd: number): void {
    const caller: Caller = { fd, fds: [], said: [], saidBytes: 0, watch: -1, heard: () => {} };
    const silent = stpError('ETIMEDOUT', 'a caller of the control socket was silent');
    caller.heard = afterWaiting(STEP_TIMEOUT_MS, () => this.#refuse(caller, silent));
    caller.watch = native().watchStart(fd, READABLE | DISCONNECT, () => this.#hear(caller));
    this.#callers.add(caller);
  }

  /** Unheard. */
  #sendAway(fd: number): void {
    const busy = { code: 'EBUSY', message: 'too many callers of the control socket; try again' };
    try {
      native().sendMessage(fd, refusal(busy), []);
    } catch {
      // It is gone.
    }
    native().closeDescriptor(fd);
  }

  #hear(caller: Caller): void {
    try {
      const message = native().receiveMessage(caller.fd, PIECE_BYTES);
      if (message === undefined) return;
      const { data, fds } = message;
      caller.fds.push(...fds);
      if (data.length === 0) throw stpError('ECONNRESET', 'a caller of the control socket is gone');
      // No request has more: nobody can have this process hold thousands.
      if (caller.fds.length > 1) throw noRequest('it has more than one descriptor');
      const end = data.indexOf(NEWLINE);
      const endAt = caller.saidBytes + end;
      caller.said.push(data);
      caller.saidBytes += data.length;
      if ((end < 0 ? caller.saidBytes : endAt) >= ASKED_BYTES_MAX) {
        throw stpError('EMSGSIZE', `a request is longer than ${ASKED_BYTES_MAX} bytes`);
      }
      if (end < 0) return;
      const said = Buffer.concat(caller.said);
      this.#serve(caller, parse(said.toString('utf8', 0, endAt)), said.subarray(endAt + 1));
    } catch (e) {
      this.#refuse(caller, e);
    }
  }

  /** No more of it here: who takes it over has the descriptor. */
  #forget(caller: Caller, keepsFd = false): void {
    if (!this.#callers.delete(caller)) return;
    caller.heard();
    native().watchStop(caller.watch);
    for (const fd of caller.fds.splice(0)) native().closeDescriptor(fd);
    if (!keepsFd) native().closeDescriptor(caller.fd);
  }

  #socketOf(caller: Caller): Socket {
    // A loop has one watcher for a descriptor.
    this.#forget(caller, true);
    const socket = new Socket({ fd: caller.fd, allowHalfOpen: true });
    // Who reads or writes there learns of it.
    socket.on('error', () => {});
    this.#served.add(socket);
    let forget = (): void => {};
    // All was said, and it should close its end.
    socket.once('finish', () => {
      forget = afterWaiting(STEP_TIMEOUT_MS, () => socket.destroy());
    });
    socket.once('close', () => {
      forget();
      this.#served.delete(socket);
    });
    return socket;
  }

  #refuse(caller: Caller, e: unknown): void {
    if (this.#callers.has(caller)) this.#tell(this.#socketOf(caller), 'control socket', e);
  }

  #tell(socket: Socket, what: string, e: unknown): void {
    this.#options.log.error(`${what}: ${messageOf(e)}`);
    socket.end(refusal(reasonOf(absence(e) ?? e)));
    // What it still sends is not wanted.
    socket.resume();
  }

  #serve(caller: Caller, request: Request, rest: Buffer): void {
    const { wal } = this.#options;
    const [fd] = caller.fds;
    if (request.op === 'base-backup') {
      if (fd === undefined) throw noRequest('a connection to PostgreSQL should come with it');
      if (rest.length > 0) throw noRequest('a request for a backup has nothing after it');
      caller.fds.length = 0;
      this.#backUp(request, fd, this.#socketOf(caller));
      return;
    }
    if (fd !== undefined) throw noRequest('no descriptor belongs to it');
    if (wal === null) {
      const why = 'this client has no place for WAL: "wal" is not in its configuration';
      throw stpError('ENOTSUP', why);
    }
    const socket = this.#socketOf(caller);
    wal.serve(request, rest, socket).catch((e) => this.#tell(socket, 'WAL', e));
  }

  #backUp(request: BaseBackupRequest, fd: number, socket: Socket): void {
    const work = this.#options.backups.run(request, fd, socket).then(
      () => void socket.end(),
      (e) => this.#tell(socket, `backup of ${request.name}`, e),
    );
    this.#backups.add(work);
    void work.then(() => this.#backups.delete(work));
  }
}

const refusal = (reason: Reason): Buffer =>
  Buffer.from(`${JSON.stringify({ type: 'refused', ...reason })}\n`);

const noRequest = (why: string): Error =>
  stpError('EPROTO', `a request on the control socket that is none: ${why}`);

function parse(line: string): Request {
  let said: unknown;
  try {
    said = JSON.parse(line);
  } catch {
    throw noRequest('it is no line of JSON');
  }
  const { success, data, error } = requestSchema.safeParse(said);
  if (success) return data;
  const [issue] = error.issues;
  throw noRequest(`${issue?.path.join('.') || 'it'}: ${issue?.message}`);
}
