/**
 * A base backup that the running client makes because its user asks for it: `stpbackup db` connects to
 * PostgreSQL, as itself, and hands the connection over with its request. Threads, code and attachment
 * of the client are there already; a process of its own would spend on them a third of a second.
 *
 *   verb -> client   {"op":"base-backup",...}\n with one descriptor: a connection to PostgreSQL on
 *                    which nothing was said. A verb that closes its end gives the backup up
 *   client -> verb   {"type":"step"|"progress"|"complaint"|"notice",...}\n ..., then
 *                    {"type":"done","report","networkBytes"}\n or "refused"
 *
 * What the request says of the connection is said to PostgreSQL and nothing else: no file and no
 * variable of the client's is looked up for it. Event loop only.
 */
import type { Socket } from 'node:net';
import * as z from 'zod';
import { STPConnect } from '../connect/stp-connect.js';
import { stpError } from '../errors.js';
import { native } from '../native.js';
import type { Log } from './client.js';
import type { ClientConfig } from './config.js';
import {
  backUpPostgresql,
  type DatabaseClientOptions,
  type DatabaseReport,
} from './database-client.js';
import type { StepRecord } from './handshake-steps.js';
import { HOST_NAME_PATTERN } from './host-name.js';
import { ASKED_BACKUPS_MAX, ASKED_BYTES_MAX } from './limits.js';
import type { Complaint, Progress } from './protocol-words.js';
import { reasonOf } from './reason.js';
import { serverOf } from './server-of.js';

/** A bundle of certificates, with room for a key and a certificate beside it. */
const FILE_CHARS_MAX = ASKED_BYTES_MAX / 2;

const text = z.string().max(4096);
/** What is empty would be looked up in this process's environment. */
const said = text.min(1);
const file = z.string().max(FILE_CHARS_MAX);

export const baseBackupRequest = z.strictObject({
  op: z.literal('base-backup'),
  /** Null: the only one of the configuration. */
  server: text.nullable(),
  /** Of the database. */
  name: z.string().regex(HOST_NAME_PATTERN),
  /** Checkpoint at once. */
  fast: z.boolean(),
  bytesPerSecond: z.number().positive().nullable(),
  settings: z.strictObject({
    host: said,
    port: z.number().int().min(1).max(65535),
    user: said,
    database: said,
    password: text.optional(),
    options: text.optional(),
    tls: z.union([
      z.boolean(),
      z.strictObject({
        ca: file.optional(),
        cert: file.optional(),
        key: file.optional(),
        rejectUnauthorized: z.boolean().optional(),
        checkName: z.boolean().optional(),
      }),
    ]),
  }),
});
export type BaseBackupRequest = z.infer<typeof baseBackupRequest>;

/** Client to verb, a line each. */
export type AskedAnswer =
  | { readonly type: 'step'; readonly record: StepRecord }
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'complaint'; readonly complaint: Complaint }
  | { readonly type: 'notice'; readonly text: string }
  | {
      readonly type: 'done';
      readonly report: DatabaseReport;
      readonly networkBytes: { readonly sent: number; readonly received: number };
    }
  | { readonly type: 'refused'; readonly code: string; readonly message: string };

export interface AskedBackupsOptions {
  readonly config: ClientConfig;
  readonly storageOf: DatabaseClientOptions['storageOf'];
  /** Gives all of them up. */
  readonly signal: AbortSignal;
  readonly log: Log;
}

export class AskedBackups {
  readonly #options: AskedBackupsOptions;
  #running = 0;

  constructor(options: AskedBackupsOptions) {
    this.#options = options;
  }

  /**
   * Runs one to its end and tells its caller.
   * @param fd the connection to PostgreSQL, which is closed here
   * @throws why it failed; then the socket is still open
   */
  async run(request: BaseBackupRequest, fd: number, socket: Socket): Promise<void> {
    this.#running++;
    try {
      if (this.#running > ASKED_BACKUPS_MAX) {
        const why = `this client makes ${ASKED_BACKUPS_MAX} backups already; try again later`;
        throw stpError('EBUSY', why);
      }
      assertConnection(fd);
      await this.#run(request, fd, socket);
    } finally {
      this.#running--;
      native().closeDescriptor(fd);
    }
  }

  async #run(request: BaseBackupRequest, fd: number, socket: Socket): Promise<void> {
    const { config, storageOf, signal, log } = this.#options;
    const say = (answer: AskedAnswer): void => void socket.write(`${JSON.stringify(answer)}\n`);
    const caller = new Presence(socket, signal);
    const network = new STPConnect();
    const { name, server, fast, settings, bytesPerSecond } = request;
    try {
      const options: DatabaseClientOptions = {
        ...{ config, network, storageOf },
        server: serverOf(config, server ?? undefined),
        onStep: (record) => say({ type: 'step', record }),
        // A caller that does not read, stopped perhaps, misses some.
        onProgress: (progress) => socket.writableNeedDrain || say({ type: 'progress', progress }),
        onComplaint: (complaint) => say({ type: 'complaint', complaint }),
        onRefused: (peer, reason) => say({ type: 'notice', text: `refused ${peer}: ${reason}` }),
        signal: caller.signal,
        bytesPerSecond: bytesPerSecond ?? undefined,
      };
      const report = await backUpPostgresql(options, name, { fd, settings, fast });
      log.info(`backup of ${name}: set ${report.set}`);
      say({ type: 'done', report, networkBytes: network.traffic().inet });
    } finally {
      caller.end();
      await network.closeAll();
    }
  }
}

/** @throws EINVAL for what cannot be a connection to PostgreSQL */
function assertConnection(fd: number): void {
  let pid: number;
  try {
    pid = native().streamPeerPid(fd);
  } catch (e) {
    const why = 'what came with the request is no connection to PostgreSQL';
    throw stpError('EINVAL', `${why}: ${reasonOf(e).message}`);
  }
  // Both ends would be held here, and neither would ever see the other one's end.
  if (pid !== process.pid) return;
  throw stpError('EINVAL', 'what came with the request is a connection to this client itself');
}

/** Whether who has asked is still there, and says no more. */
class Presence {
  readonly #gone = new AbortController();
  readonly #stopped: AbortSignal;
  readonly #socket: Socket;

  constructor(socket: Socket, stopped: AbortSignal) {
    this.#socket = socket;
    this.#stopped = stopped;
    stopped.addEventListener('abort', this.#onStopped);
    if (stopped.aborted) this.#onStopped();
    socket.on('end', this.#onGone).on('close', this.#onGone).on('data', this.#onData);
  }

  /** Aborted when it is gone, or the client stops. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Whatever it does now. */
  end(): void {
    this.#stopped.removeEventListener('abort', this.#onStopped);
    const socket = this.#socket;
    socket.off('end', this.#onGone).off('close', this.#onGone).off('data', this.#onData).resume();
  }

  readonly #onStopped = (): void => this.#gone.abort(this.#stopped.reason);
  readonly #onGone = (): void =>
    this.#gone.abort(stpError('ECANCELED', 'who asked for it is gone'));
  readonly #onData = (): void =>
    this.#gone.abort(stpError('EPROTO', 'a request for a backup has nothing after it'));
}
