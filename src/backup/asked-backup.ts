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
import type { Complaint, Progress } from './protocol-words.js';
import { serverOf } from './server-of.js';

const text = z.string().max(4096);
const file = z.string().max(32 << 10);

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
    host: text,
    port: z.number().int().min(1).max(65535),
    user: text,
    database: text,
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
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: AskedBackupsOptions) {
    this.#options = options;
  }

  /**
   * Runs one to its end and tells its caller.
   * @param fd the connection to PostgreSQL, which is closed here
   * @throws why it failed; then the socket is still open
   */
  async run(request: BaseBackupRequest, fd: number, socket: Socket): Promise<void> {
    const work = this.#run(request, fd, socket).finally(() => native().closeDescriptor(fd));
    this.#running.add(work);
    try {
      await work;
    } finally {
      this.#running.delete(work);
    }
  }

  /** Resolves when all have ended; see `signal`. */
  async ended(): Promise<void> {
    await Promise.allSettled([...this.#running]);
  }

  async #run(request: BaseBackupRequest, fd: number, socket: Socket): Promise<void> {
    const { config, storageOf, signal, log } = this.#options;
    const say = (answer: AskedAnswer): void => void socket.write(`${JSON.stringify(answer)}\n`);
    const gone = new AbortController();
    const onGone = (): void => gone.abort(stpError('ECANCELED', 'who asked for it is gone'));
    socket.once('end', onGone).once('close', onGone).resume();
    const network = new STPConnect();
    const { name, server, fast, settings, bytesPerSecond } = request;
    try {
      const options: DatabaseClientOptions = {
        ...{ config, network, storageOf },
        server: serverOf(config, server ?? undefined),
        onStep: (record) => say({ type: 'step', record }),
        onProgress: (progress) => say({ type: 'progress', progress }),
        onComplaint: (complaint) => say({ type: 'complaint', complaint }),
        onRefused: (peer, reason) => say({ type: 'notice', text: `refused ${peer}: ${reason}` }),
        signal: AbortSignal.any([signal, gone.signal]),
        bytesPerSecond: bytesPerSecond ?? undefined,
      };
      const report = await backUpPostgresql(options, name, { fd, settings, fast });
      log.info(`backup of ${name}: set ${report.set}`);
      say({ type: 'done', report, networkBytes: network.traffic().inet });
      socket.off('end', onGone).off('close', onGone).end();
    } finally {
      await network.closeAll();
    }
  }
}
