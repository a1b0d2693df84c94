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
import { chownSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import * as z from 'zod';
import { isCoded, messageOf, stpError } from '../errors.js';
import { native } from '../native.js';
import { absence } from './absent.js';
import { type AskedBackups, baseBackupRequest } from './asked-backup.js';
import type { Log } from './client.js';
import { afterWaiting } from './deadline.js';
import { STEP_TIMEOUT_MS, UNIDENTIFIED_MAX } from './limits.js';
import { reasonOf } from './reason.js';
import { type WalClient, walRequests } from './wal-client.js';

/** A request is one line: a name, or a connection with the certificates of its TLS. */
const REQUEST_BYTES_MAX = 64 << 10;
/** A socket of this user, or of the one that it was given to. */
const SOCKET_MODE = 0o600;
const READABLE = 1;
const DISCONNECT = 4;
/** Where there is no descriptor left for a caller, the next look is so much later. */
const PAUSE_MS = 100;

const requestSchema = z.discriminatedUnion('op', [...walRequests, baseBackupRequest]);

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
  said: Buffer;
  watch: number;
  /** Ends the wait for the request. */
  heard: () => void;
}

export class ClientControl {
  readonly #options: ClientControlOptions;
  readonly #callers = new Set<Caller>();
  readonly #served = new Set<Socket>();
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
    if (uid !== undefined) chownSync(path, uid, -1);
    this.#watchDoor();
  }

  /** Nobody is heard any more; what is at work is the affair of those who do it. */
  stop(): void {
    if (this.#fd < 0) return;
    native().watchStop(this.#watch);
    native().closeDescriptor(this.#fd);
    this.#fd = -1;
    rmSync(this.#options.path, { force: true });
    for (const caller of this.#callers) this.#forget(caller);
    for (const socket of this.#served) socket.destroySoon();
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
      if (this.#callers.size >= UNIDENTIFIED_MAX) {
        native().closeDescriptor(fd);
        continue;
      }
      const caller: Caller = { fd, fds: [], said: Buffer.alloc(0), watch: -1, heard: () => {} };
      const silent = stpError('ETIMEDOUT', 'a caller of the control socket was silent');
      caller.heard = afterWaiting(STEP_TIMEOUT_MS, () => this.#refuse(caller, silent));
      caller.watch = native().watchStart(fd, READABLE | DISCONNECT, () => this.#hear(caller));
      this.#callers.add(caller);
    }
  }

  #hear(caller: Caller): void {
    try {
      const message = native().receiveMessage(caller.fd, REQUEST_BYTES_MAX);
      if (message === undefined) return;
      caller.fds.push(...message.fds);
      if (message.data.length === 0) {
        throw stpError('ECONNRESET', 'a caller of the control socket is gone');
      }
      caller.said = Buffer.concat([caller.said, message.data]);
      const end = caller.said.indexOf(0x0a);
      if (end < 0 && caller.said.length < REQUEST_BYTES_MAX) return;
      if (end < 0) throw stpError('EMSGSIZE', 'a request is too long');
      this.#serve(caller, parse(caller.said.toString('utf8', 0, end)), end + 1);
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
    socket.once('close', () => this.#served.delete(socket));
    return socket;
  }

  #refuse(caller: Caller, e: unknown): void {
    if (this.#callers.has(caller)) this.#tell(this.#socketOf(caller), 'control socket', e);
  }

  #tell(socket: Socket, what: string, e: unknown): void {
    this.#options.log.error(`${what}: ${messageOf(e)}`);
    const reason = reasonOf(absence(e) ?? e);
    socket.end(`${JSON.stringify({ type: 'refused', ...reason })}\n`);
    // What it still sends is not wanted.
    socket.resume();
  }

  #serve(caller: Caller, request: z.infer<typeof requestSchema>, restAt: number): void {
    const { wal, backups } = this.#options;
    const rest = caller.said.subarray(restAt);
    const fds = caller.fds.splice(0);
    const isBackup = request.op === 'base-backup';
    const socket = this.#socketOf(caller);
    const [fd] = fds;
    if (fds.length !== (isBackup ? 1 : 0) || (isBackup && rest.length > 0)) {
      for (const extra of fds) native().closeDescriptor(extra);
      this.#tell(socket, 'control socket', noRequest());
    } else if (isBackup) {
      const what = `backup of ${request.name}`;
      const work = backups.run(request, fd as number, socket);
      work.catch((e) => this.#tell(socket, what, e));
    } else if (wal === null) {
      const why = 'this client has no place for WAL: "wal" is not in its configuration';
      this.#tell(socket, 'WAL', stpError('ENOTSUP', why));
    } else {
      wal.serve(request, rest, socket).catch((e) => this.#tell(socket, 'WAL', e));
    }
  }
}

const noRequest = (): Error => stpError('EPROTO', 'a request on the control socket that is none');

function parse(line: string): z.infer<typeof requestSchema> {
  try {
    return requestSchema.parse(JSON.parse(line));
  } catch (e) {
    if (isCoded(e)) throw e;
    throw noRequest();
  }
}
