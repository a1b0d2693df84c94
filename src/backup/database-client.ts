/**
 * The client's side of database sessions, which it initiates: back a program's output or a
 * PostgreSQL up, and restore either.
 *
 * The session's data and control go through the array; when `open` resolves, no network connection
 * is left. A program that fails fails the backup, and the server is told before the stream breaks.
 * Event loop only; the data moves in a worker thread.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { STPConnect } from '../connect/stp-connect.js';
import { isCoded, stpError } from '../errors.js';
import { syncDirectory } from '../library/disk.js';
import { native } from '../native.js';
import { SQLITE_COMPANIONS } from '../source/sqlite.js';
import type { ClientConfig, ServerAddress } from './config.js';
import {
  type DatabaseRequest,
  type FromDatabaseServer,
  fromDatabaseServerSchema,
} from './database-protocol.js';
import { orAborted } from './deadline.js';
import { type DatabaseConnections, databaseHandshake } from './handshake-database-client.js';
import type { Trace } from './handshake-steps.js';
import type {
  ReceiveStreamJob,
  RestoreSetJob,
  RestoreSetResult,
  SendBaseBackupJob,
  SendSqliteJob,
  SendStreamJob,
} from './jobs.js';
import { PROGRESS_PERIOD_MS, REASON_GRACE_MS } from './limits.js';
import { LineChannel } from './line-channel.js';
import { type AnyMover, EarlyMover, isConsequence, Mover, type Totals } from './mover.js';
import { type MoverLink, moverLink } from './mover-link.js';
import { type MoverTimes, type Slowest, slowestOf, type Waited, waitedOf } from './mover-times.js';
import type { Complaint, Progress } from './protocol-words.js';
import { reasonOf } from './reason.js';
import { PLAIN_RESTORE } from './restore-order.js';
import { sealIdentities } from './sealed-identities.js';
import { slowedTo, throttleOf } from './throttle.js';

export interface DatabaseClientOptions {
  readonly config: ClientConfig;
  readonly server: ServerAddress;
  /** The network mechanism; nothing of it is left open once the session stands. */
  readonly network: STPConnect;
  /** A new one for each session, attached to the STG; closed with the session. */
  readonly storageOf: (stg: string) => Promise<STPConnect>;
  readonly onStep?: Trace | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onComplaint?: ((complaint: Complaint) => void) | undefined;
  readonly onRefused?: ((peer: string, reason: string) => void) | undefined;
  readonly signal: AbortSignal;
  /** Not faster than this; the configurations of both sides may say less. */
  readonly bytesPerSecond?: number | undefined;
}

/** What a session did. */
export interface DatabaseReport {
  readonly set: string;
  readonly entries: number;
  /** Of data. */
  readonly bytes: number;
  readonly memoryBytes: number;
  /** Shares of the time in which a side waited for that part; null from a server that does not say. */
  readonly waited: (Waited & { readonly slowest: Slowest }) | null;
  /** Where the time of each side's mover went, ms. */
  readonly times: { readonly client: MoverTimes; readonly server: MoverTimes | null };
  readonly warnings: number;
  /** The set that an incremental one was made against. */
  readonly parent?: string;
}

/** The threads that send. */
const SENDERS = {
  command: 'stream-sender',
  postgresql: 'base-backup-sender',
  sqlite: 'sqlite-sender',
} as const;

/** An established session, and the request that was granted. */
export class DatabaseSession {
  readonly control: LineChannel;

  private constructor(
    readonly options: DatabaseClientOptions,
    readonly connections: DatabaseConnections,
    /** The server's answer to the request. */
    readonly ready: Extract<FromDatabaseServer, { type: 'ready' }>,
    control: LineChannel,
  ) {
    this.control = control;
  }

  /** Figs. 5 and 5A, then the request. @throws StepError; what the server refuses with */
  static async open(
    options: DatabaseClientOptions,
    request: DatabaseRequest,
  ): Promise<DatabaseSession> {
    const { config, server, network, storageOf, signal } = options;
    if (request.op === 'store' && request.kind !== 'postgresql') {
      Mover.prepare(SENDERS[request.kind]);
    }
    const connections = await databaseHandshake({
      network,
      storageOf,
      identity: config.name,
      server: { ...server, key: config.key },
      address: config.address,
      ports: config.ports ?? { from: 0, to: 0 },
      onRefused: options.onRefused ?? (() => {}),
      trace: options.onStep,
      signal,
    });
    const { storage, control: fd } = connections;
    const control = new LineChannel(storage, fd, `server ${server.name}`);
    try {
      await control.send(request);
      const ready = await orAborted(signal, answerOf(control, server.name));
      if (ready.type !== 'ready') throw stpError('EPROTO', `server ${server.name} is out of order`);
      return new DatabaseSession(options, connections, ready, control);
    } catch (e) {
      await storage.closeAll();
      throw e;
    }
  }

  /** Gives the data stream to a thread; once. @throws the server's reason if it broke the stream */
  async start<J, R>(
    entry: Parameters<typeof Mover.start>[0],
    job: J,
    early?: EarlyMover | undefined,
  ): Promise<Mover<R>> {
    const link = await this.#link();
    const onComplaint = (complaint: Complaint): void => {
      this.options.onComplaint?.(complaint);
      void this.control.send({ type: 'complaint', complaint });
    };
    const { config, bytesPerSecond } = this.options;
    const throttle = slowedTo(throttleOf(config.limits), bytesPerSecond);
    return Mover.start<J, R>(entry, link, job, onComplaint, { throttle, early });
  }

  async #link(): Promise<MoverLink> {
    const { storage, data } = this.connections;
    try {
      return moverLink(storage, data);
    } catch (e) {
      throw await bestReason(e, answerOf(this.control, this.options.server.name));
    }
  }

  /**
   * Follows a mover to its end and agrees with the server on what was moved.
   * @param ended what else must end well before the server is told that all is whole
   */
  async run<R>(
    mover: Mover<R>,
    ended: Promise<unknown> = Promise.resolve(),
  ): Promise<DatabaseReport> {
    const { signal, server, onProgress } = this.options;
    const judged = answerOf(this.control, server.name);
    judged.catch(() => {});
    const { bytes } = this.ready;
    const known = bytes === undefined ? {} : { total: bytes };
    const show = setInterval(
      () => onProgress?.({ ...known, ...mover.progress }),
      PROGRESS_PERIOD_MS,
    );
    try {
      // The verdict before the end of the work can only be a bad one.
      const early = judged.then(() => {
        throw stpError('EPROTO', `server ${server.name} committed before all was sent`);
      });
      const { totals } = await orAborted(signal, Promise.race([mover.done, early]));
      await orAborted(signal, ended);
      await this.control.send({ type: 'summary', ...totals });
      const verdict = await orAborted(signal, judged);
      if (verdict.type !== 'committed') {
        throw stpError('EPROTO', `server ${server.name} is out of order`);
      }
      const { parent } = this.ready;
      return {
        ...reportOf(verdict.set, totals, mover.times, verdict.times ?? null),
        ...(parent && { parent: parent.set }),
      };
    } catch (e) {
      throw await bestReason(e, judged);
    } finally {
      clearInterval(show);
    }
  }

  #failed = false;

  /** Tells the server why, once, before the stream breaks. */
  async fail(e: unknown): Promise<void> {
    if (this.#failed) return;
    this.#failed = true;
    await this.control.send({ type: 'failed', reason: reasonOf(e).message }).catch(() => {});
  }

  async close(): Promise<void> {
    await this.connections.storage.closeAll();
  }
}

function reportOf(
  set: string,
  t: Totals,
  client: MoverTimes,
  server: MoverTimes | null,
): DatabaseReport {
  const waited = server && waitedOf(client, server);
  return {
    set,
    entries: t.entries,
    bytes: t.bytes,
    memoryBytes: t.moved,
    waited: waited && { ...waited, slowest: slowestOf(waited) },
    times: { client, server },
    warnings: t.complaints,
  };
}

/** The server's next word. @throws its reason when it gave up */
async function answerOf(control: LineChannel, server: string): Promise<FromDatabaseServer> {
  const message = await control.receive(fromDatabaseServerSchema);
  if (!message) throw stpError('ECONNRESET', `server ${server} ended the session: it was stopped`);
  if (message.type !== 'cancel') return message;
  throw stpError('ECANCELED', `server ${server}: ${message.reason}`);
}

/** A stream that broke says less than a server that may be about to tell why. */
async function bestReason(e: unknown, judged: Promise<unknown>): Promise<unknown> {
  if (!isConsequence(e) || (isCoded(e) && e.code === 'ECANCELED')) return e;
  try {
    await Promise.race([judged, sleep(REASON_GRACE_MS, undefined, { ref: false })]);
    return e;
  } catch (said) {
    return said;
  }
}

/** Runs `work` in a session and leaves nothing running, whatever comes. */
async function inSession(
  options: DatabaseClientOptions,
  request: DatabaseRequest,
  work: (
    session: DatabaseSession,
    keep: <M extends AnyMover>(m: M) => M,
  ) => Promise<DatabaseReport>,
): Promise<DatabaseReport> {
  const session = await DatabaseSession.open(options, request);
  const movers: AnyMover[] = [];
  const keep = <M extends AnyMover>(mover: M): M => {
    movers.push(mover);
    return mover;
  };
  try {
    return await work(session, keep);
  } catch (e) {
    await session.fail(e);
    throw e;
  } finally {
    await Promise.allSettled(movers.map((mover) => mover.stop()));
    await session.close();
  }
}

interface Pipe {
  /** Both ends block: one is a worker's, the other a program's. */
  readonly read: number;
  readonly write: number;
}

/** pipe(2), which Node does not have: a FIFO that nobody else can open. */
function makePipe(): Pipe {
  const directory = mkdtempSync(join(tmpdir(), 'stpbackup-'));
  const path = join(directory, 'pipe');
  const S_IFIFO = 0o010000;
  let probe = -1;
  try {
    native().makeNode(path, S_IFIFO | 0o600, 0, 0);
    probe = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const write = openSync(path, constants.O_WRONLY);
    const read = openSync(`/proc/self/fd/${probe}`, constants.O_RDONLY);
    return { read, write };
  } finally {
    if (probe >= 0) closeSync(probe);
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Program {
  /** Resolves when it has ended well. @throws ECHILD naming exit status or signal */
  readonly ended: Promise<void>;
  /** Ends it and what it started; again is no error. */
  kill(): void;
}

/** Runs a command line by the shell, in a process group of its own. */
function runShell(command: string, stdin: number | 'ignore', stdout: number | 'inherit'): Program {
  const child: ChildProcess = spawn('/bin/sh', ['-c', command], {
    stdio: [stdin, stdout, 'inherit'],
    detached: true,
  });
  let over = false;
  const ended = new Promise<void>((fulfil, reject) => {
    const fail = (what: string): void => reject(stpError('ECHILD', `${command}: ${what}`));
    child.once('error', (e) => fail(`could not be started: ${e.message}`));
    child.once('exit', (code, signal) => {
      over = true;
      if (code === 0) fulfil();
      else fail(code === null ? `was ended by ${signal}` : `failed with exit status ${code}`);
    });
  });
  ended.catch(() => {});
  return {
    ended,
    kill() {
      // Once more after its end: what it started may hold the pipe open.
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, over ? 'SIGTERM' : 'SIGKILL');
      } catch {
        // Nobody of the group is left.
      }
    },
  };
}

/** A program's standard output becomes a set of one member. */
export function backUpCommand(
  options: DatabaseClientOptions,
  name: string,
  command: string,
): Promise<DatabaseReport> {
  return inSession(options, { op: 'store', kind: 'command', name }, async (session, keep) => {
    const pipe = makePipe();
    const program = runShell(command, 'ignore', pipe.write);
    closeSync(pipe.write);
    let mover: Mover<null> | undefined;
    try {
      const job: SendStreamJob = { fd: pipe.read, path: name };
      mover = keep(await session.start<SendStreamJob, null>(SENDERS.command, job));
      const whole = mover.held.then(() => program.ended).then(() => mover?.release());
      whole.catch(() => {});
      return await Promise.race([
        session.run(mover),
        // A failure of the program is the first to know, and the only one that matters.
        whole.then(() => new Promise<never>(() => {})),
      ]);
    } catch (e) {
      await session.fail(e);
      throw e;
    } finally {
      // First the program: a thread that reads a pipe ends when nobody writes there.
      program.kill();
      await program.ended.catch(() => {});
      await mover?.stop();
      closeSync(pipe.read);
    }
  });
}

/**
 * PostgreSQL's base backup becomes a set.
 * @param source its connection has ended when this has; the descriptor stays the caller's to close
 */
export async function backUpPostgresql(
  options: DatabaseClientOptions,
  name: string,
  source: Omit<SendBaseBackupJob, 'label' | 'own'>,
): Promise<DatabaseReport> {
  const { fd } = source;
  const own = native().duplicateDescriptor(fd);
  const job: SendBaseBackupJob = { ...source, own, label: `stpbackup ${name}` };
  let early: EarlyMover | undefined;
  try {
    // PostgreSQL makes its checkpoint while the session is set up.
    early = EarlyMover.begin(SENDERS.postgresql, job);
    return await sendPostgresql(options, name, job, early);
  } catch (e) {
    native().endConnection(fd);
    await early?.stop();
    // A thread that was ended early may not have come to take it.
    if (early?.hasEnded !== false) closeIfSame(own, fd);
    throw e;
  }
}

function sendPostgresql(
  options: DatabaseClientOptions,
  name: string,
  job: SendBaseBackupJob,
  early: EarlyMover,
): Promise<DatabaseReport> {
  const request = { op: 'store', kind: 'postgresql', name } as const;
  return inSession(options, request, async (session, keep) => {
    try {
      const sender = await session.start<SendBaseBackupJob, null>(SENDERS.postgresql, job, early);
      return await session.run(keep(sender));
    } catch (e) {
      await session.fail(e);
      throw e;
    } finally {
      // A thread ends when it does not wait there, whatever was set on the socket by who passed it.
      native().endConnection(job.fd);
    }
  });
}

/** Closes a duplicate that nobody has: a number that was closed may be something else by now. */
function closeIfSame(own: number, fd: number): void {
  const [left, right] = [statOf(own), fstatSync(fd)];
  if (left?.ino === right.ino && left.dev === right.dev) native().closeDescriptor(own);
}

/** Null for a number that is no descriptor. */
function statOf(fd: number): Stats | null {
  try {
    return fstatSync(fd);
  } catch {
    return null;
  }
}

/** An SQLite database, as it is at one moment, becomes a set of one member: NAME.sqlite. */
export function backUpSqlite(
  options: DatabaseClientOptions,
  name: string,
  source: { readonly file: string; readonly scratch: string; readonly incremental: boolean },
): Promise<DatabaseReport> {
  const file = resolve(source.file);
  const { incremental } = source;
  const request = { op: 'store', kind: 'sqlite', name, incremental } as const;
  return inSession(options, request, async (session, keep) => {
    const scratch = mkdtempSync(join(source.scratch, 'stpbackup-'));
    let mover: AnyMover | undefined;
    try {
      const job: SendSqliteJob = {
        file,
        copy: join(scratch, 'copy'),
        path: `${name}.sqlite`,
        listBytes: session.ready.parent?.listBytes ?? 0,
      };
      const sender = keep(await session.start<SendSqliteJob, null>(SENDERS.sqlite, job));
      mover = sender;
      return await session.run(sender);
    } finally {
      await mover?.stop();
      rmSync(scratch, { recursive: true, force: true });
    }
  });
}

export interface FetchOrder {
  /** Id, the beginning of just one, or `latest`. */
  readonly set: string;
  /** Of this database only. */
  readonly name?: string | undefined;
  /** `AGE-SECRET-KEY-1...` that open encrypted sets: for the server, and this session only. */
  readonly identities?: readonly string[];
}

/** @throws EINVAL if there are identities and no key to seal them with */
function fetchRequest(
  { set, name, identities = [] }: FetchOrder,
  { key, name: host }: ClientConfig,
): DatabaseRequest {
  if (identities.length > 0 && key === null) {
    const why = 'with "tls": false no key of the pair could keep it secret on its way';
    throw stpError('EINVAL', `--identity is not sent: ${why}; see "identities" of the server`);
  }
  return {
    op: 'fetch',
    set,
    ...(name !== undefined && { name }),
    ...(identities.length > 0 && key && { identities: sealIdentities(key, host, identities) }),
  };
}

/** The only member of a set into the standard input of a program. */
export function restoreToCommand(
  options: DatabaseClientOptions,
  order: FetchOrder,
  command: string,
): Promise<DatabaseReport> {
  return inSession(options, fetchRequest(order, options.config), async (session, keep) => {
    const pipe = makePipe();
    const program = runShell(command, pipe.read, 'inherit');
    closeSync(pipe.read);
    let open = true;
    const closeWrite = (): void => {
      if (open) closeSync(pipe.write);
      open = false;
    };
    try {
      const job: ReceiveStreamJob = { fd: pipe.write };
      const mover = keep(await session.start<ReceiveStreamJob, null>('stream-receiver', job));
      // The end of its input, and only then its own end.
      const ended = mover.done.then(() => {
        closeWrite();
        return program.ended;
      });
      ended.catch(() => {});
      return await session.run(mover, ended);
    } catch (e) {
      program.kill();
      // A program that ended early says more than the pipe that broke.
      const broken = isCoded(e) && e.code === 'EPIPE';
      if (!broken) throw e;
      await program.ended;
      throw stpError('EPIPE', `${command}: ended well, but did not read all of the data`);
    } finally {
      closeWrite();
      await program.ended.catch(() => {});
    }
  });
}

/** A log or journal of what was there before would be played into what is restored. */
function assertNoCompanions(path: string): void {
  for (const suffix of SQLITE_COMPANIONS) {
    if (!existsSync(`${path}${suffix}`)) continue;
    const what = `${path}${suffix} belongs to another database, and would damage this one`;
    throw stpError('EEXIST', `${what}: end its program, move both away, and try again`);
  }
}

/** Before anything is moved. @throws ENOENT, ENOTDIR, EISDIR */
function assertFilePlace(path: string): void {
  const home = statSync(dirname(path), { throwIfNoEntry: false });
  if (home === undefined) throw stpError('ENOENT', `${dirname(path)} is not there; make it first`);
  if (!home.isDirectory()) throw stpError('ENOTDIR', `${dirname(path)} is no directory`);
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  throw stpError('EISDIR', `${path} is a directory; name a file, or use --to-directory`);
}

/** The only member of a set into a new file, which appears when it is whole and on the disk. */
export async function restoreToFile(
  options: DatabaseClientOptions,
  order: FetchOrder,
  target: string,
): Promise<DatabaseReport> {
  const path = resolve(target);
  assertFilePlace(path);
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return inSession(options, fetchRequest(order, options.config), async (session, keep) => {
    if (session.ready.roots[0]?.startsWith('sqlite:')) assertNoCompanions(path);
    const fd = openSync(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      const job: ReceiveStreamJob = { fd };
      const mover = keep(await session.start<ReceiveStreamJob, null>('stream-receiver', job));
      const report = await session.run(mover);
      fsyncSync(fd);
      renameSync(partial, path);
      syncDirectory(dirname(path));
      return report;
    } catch (e) {
      rmSync(partial, { force: true });
      throw e;
    } finally {
      closeSync(fd);
    }
  });
}

/** The user's own path: symlinks on its way are meant. What is not there yet is made. */
function realTarget(given: string): string {
  const path = resolve(given);
  try {
    return realpathSync(path);
  } catch (e) {
    if (!isCoded(e) || e.code !== 'ENOENT' || path === '/') throw e;
    return join(realTarget(dirname(path)), basename(path));
  }
}

/** All of a set below a new or empty directory. */
export function restoreToDirectory(
  options: DatabaseClientOptions,
  order: FetchOrder,
  target: string,
): Promise<DatabaseReport> {
  return inSession(options, fetchRequest(order, options.config), async (session, keep) => {
    const job: RestoreSetJob = { target: realTarget(target), options: PLAIN_RESTORE, below: null };
    const mover = await session.start<RestoreSetJob, RestoreSetResult>('restore-receiver', job);
    return session.run(keep(mover));
  });
}
