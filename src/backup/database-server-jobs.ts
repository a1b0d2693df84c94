/**
 * What the server does in a database session: stores what the client sends as a set, sends a set
 * back, or keeps and returns WAL.
 *
 * A client sees its own sets only. A set is made when the client's account of what it sent and the
 * server's of what it received agree, and at no other end. Event loop only; sets move in threads.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { isCoded, stpError } from '../errors.js';
import { Library, type LibraryOptions, type StoredSet } from '../library/library.js';
import { openParent } from '../library/set-tree.js';
import { WalArchive } from '../library/wal-archive.js';
import type { Log } from './client.js';
import type { ServerConfig } from './config.js';
import {
  type DatabaseKind,
  type DatabaseRequest,
  type DatabaseSummary,
  fromDatabaseClientSchema,
  setLabel,
  type WalAnswer,
  type WalRequest,
  walRequestSchema,
} from './database-protocol.js';
import type { EstablishedDatabase } from './database-server.js';
import { orAborted } from './deadline.js';
import type { SendSetJob, StoreSetJob, StoreSetResult } from './jobs.js';
import { CLIENT_REASON_GRACE_MS, SEGMENT_PIECE_BYTES } from './limits.js';
import { bothAccesses, PLAIN_MEDIA } from './media-data.js';
import { isConsequence, Mover } from './mover.js';
import { type MoverLink, moverLink } from './mover-link.js';
import { reasonOf } from './reason.js';
import { openIdentities } from './sealed-identities.js';
import { agree } from './server.js';
import { throttleOf } from './throttle.js';

export interface DatabaseJobOptions {
  readonly config: ServerConfig;
  readonly library: LibraryOptions;
  /** Of this program, for the set's record. */
  readonly version: string;
  readonly log: Log;
}

type Store = Extract<DatabaseRequest, { op: 'store' }>;
type Fetch = Extract<DatabaseRequest, { op: 'fetch' }>;

/** While the handshake goes on: what most sessions need. */
export const prepareDatabaseJob = (): void => Mover.prepare('backup-receiver');

/** The job of `DatabaseServer`. */
export const databaseJob =
  (options: DatabaseJobOptions) =>
  (session: EstablishedDatabase): Promise<void> => {
    const { request } = session;
    switch (request.op) {
      case 'store':
        return store(session, request, options);
      case 'fetch':
        return fetchSet(session, request, options);
      case 'wal':
        return serveWal(session, request.name, options);
    }
  };

/** Reads the client's words up to its summary. */
async function summaryOf(session: EstablishedDatabase, log: Log): Promise<DatabaseSummary> {
  const { control, host } = session;
  for (;;) {
    const message = await control.receive(fromDatabaseClientSchema);
    if (!message) {
      throw stpError('ECONNRESET', `client ${host} ended the session: it was stopped or killed`);
    }
    if (message.type === 'summary') return message;
    if (message.type === 'failed') throw stpError('ECANCELED', `client ${host}: ${message.reason}`);
    if (message.type === 'complaint') log.warn(`client ${host}: ${message.complaint.message}`);
  }
}

/** The client has the last word: it ends the control stream when it has read ours. */
async function lastWord(session: EstablishedDatabase, word: object): Promise<void> {
  const { control, storage } = session;
  await control.send(word);
  await storage.shutdown(control.fd, 'write');
  await control.receive(fromDatabaseClientSchema).catch(() => null);
}

const workers: Readonly<Record<DatabaseKind, 'stream-storer' | 'backup-receiver'>> = {
  command: 'stream-storer',
  postgresql: 'backup-receiver',
  sqlite: 'backup-receiver',
};

async function store(
  session: EstablishedDatabase,
  request: Store,
  options: DatabaseJobOptions,
): Promise<void> {
  const { host, control, signal } = session;
  const { config, version, library, log } = options;
  const roots = [setLabel(request.kind, request.name)];
  const parent = request.incremental ? parentOf(request, host, roots, options) : undefined;
  const job: StoreSetJob = {
    library: config.library,
    meta: { host, roots, stpd: version },
    parent: parent?.set ?? null,
    dryRun: false,
    adopted: null,
    // One file, which an incremental set can be made against.
    hasList: request.kind === 'sqlite',
    media: config.media ?? PLAIN_MEDIA,
  };
  const said = summaryOf(session, log);
  const link = await dataLink(session, said);
  const mover = Mover.start<StoreSetJob, StoreSetResult>(
    workers[request.kind],
    link,
    job,
    () => {},
    { throttle: throttleOf(config.limits) },
  );
  let committed = false;
  try {
    await control.send({ type: 'ready', set: '', roots, ...(parent && { parent }) });
    const failed = said.then(() => new Promise<never>(() => {}));
    const received = await orAborted(signal, Promise.race([bestOf(mover.held, said), failed]));
    agree(host, received, await orAborted(signal, said));
    mover.release();
    const { result } = await mover.done;
    assert(result !== null, 'what is no dry run makes a set');
    committed = true;
    log.info(`${request.kind} ${request.name} of ${host}: ${result.id}, ${result.bytes} bytes`);
    await lastWord(session, { type: 'committed', set: result.id, times: mover.times });
  } finally {
    await mover.stop();
    if (!committed) sweep(options, library);
  }
}

/** @throws ENOENT if there is no set to build on; EINVAL for what knows no incremental sets */
function parentOf(
  { kind }: Store,
  host: string,
  roots: readonly string[],
  { config, library }: DatabaseJobOptions,
): { set: string; listBytes: number } {
  if (kind !== 'sqlite') throw stpError('EINVAL', `a ${kind} is not backed up incrementally`);
  const last = openParent(Library.open(config.library, library), host, roots).at(-1);
  assert(last !== undefined, 'a chain has its last set');
  return { set: last.id, listBytes: last.summary.indexBytes ?? 0 };
}

/** For a thread. A client that gives up breaks it, and that may be seen before its word is here. */
const dataLink = (session: EstablishedDatabase, said: Promise<unknown>): Promise<MoverLink> =>
  bestOf(
    Promise.resolve().then(() => moverLink(session.storage, session.data)),
    said,
  );

/** A stream that broke says less than a client that tells why. */
async function bestOf<T>(work: Promise<T>, said: Promise<unknown>): Promise<T> {
  said.catch(() => {});
  try {
    return await work;
  } catch (e) {
    const silence = sleep(CLIENT_REASON_GRACE_MS, undefined, { ref: false });
    if (isConsequence(e)) await Promise.race([said, silence]);
    throw e;
  }
}

/** After a thread that was stopped: its lock is gone with it, and opening removes what it left. */
function sweep({ config, log }: DatabaseJobOptions, library: LibraryOptions): void {
  try {
    Library.open(config.library, library);
  } catch (e) {
    log.error(`the library could not be tidied up: ${reasonOf(e).message}`);
  }
}

/** A set of this host by its id, the beginning of just one, or `latest`, of one database if named. */
function setOf(library: Library, host: string, { set, name }: Fetch): StoredSet {
  const kindOf = (roots: readonly string[]): string =>
    roots[0]?.split(':').slice(1).join(':') ?? '';
  const own = library.list().sets.filter((s) => s.host === host);
  const named = name === undefined ? own : own.filter((s) => kindOf(s.roots) === name);
  const found = set === 'latest' ? named.slice(-1) : named.filter((s) => s.id.startsWith(set));
  const [one] = found;
  if (one === undefined) {
    const of = name === undefined ? '' : ` of ${name}`;
    throw stpError('ENOENT', `the library has no set ${set}${of} of host ${host}`);
  }
  if (found.length > 1) {
    throw stpError('EINVAL', `${found.length} sets begin with ${set}; give more of the name`);
  }
  return library.openSet(one.id);
}

/** What opens encrypted sets, for this session. @throws EACCES */
function identitiesOf(
  { identities }: Fetch,
  host: string,
  { hosts }: ServerConfig,
): readonly string[] {
  if (identities === undefined) return [];
  const key = hosts.get(host)?.key;
  if (!key) throw stpError('EACCES', `there is no key that opens the identities of client ${host}`);
  return openIdentities(key, host, identities);
}

async function fetchSet(
  session: EstablishedDatabase,
  request: Fetch,
  options: DatabaseJobOptions,
): Promise<void> {
  const { host, control, signal } = session;
  const { config, log } = options;
  const set = setOf(Library.open(config.library, options.library), host, request);
  const { roots, bytes } = set.summary;
  await control.send({ type: 'ready', set: set.id, roots, bytes });
  const access = bothAccesses((config.media ?? PLAIN_MEDIA).access, {
    identities: identitiesOf(request, host, config),
  });
  const what = { library: config.library, set: set.id, selected: [] };
  const job: SendSetJob = { ...what, dryRun: false, access };
  const said = summaryOf(session, log);
  const link = await dataLink(session, said);
  const mover = Mover.start<SendSetJob, null>('restore-sender', link, job, () => {}, {
    throttle: throttleOf(config.limits),
  });
  try {
    const failed = said.then(() => new Promise<never>(() => {}));
    const { totals } = await orAborted(signal, Promise.race([bestOf(mover.done, said), failed]));
    agree(host, totals, { ...(await orAborted(signal, said)) });
    log.info(`restore of ${set.id} to ${host}: ${totals.bytes} bytes`);
    await lastWord(session, { type: 'committed', set: set.id, times: mover.times });
  } finally {
    await mover.stop();
  }
}

/** Requests one after the other until the client ends the session, which it may at any time. */
async function serveWal(
  session: EstablishedDatabase,
  name: string,
  { config, log }: DatabaseJobOptions,
): Promise<void> {
  const { host, control, signal } = session;
  const archive = new WalArchive(config.library, host, name);
  await control.send({ type: 'ready', set: '', roots: [] });
  for (;;) {
    const request: WalRequest | null = await orAborted(signal, control.receive(walRequestSchema));
    if (!request) return;
    if (request.type === 'failed') throw stpError('ECANCELED', `client ${host}: ${request.reason}`);
    const answer = (a: WalAnswer): Promise<void> => control.send(a);
    if (request.type === 'push') await keepSegment(session, archive, request, answer, log);
    else await returnSegment(session, archive, request.segment, answer);
  }
}

const refused = (e: unknown): WalAnswer => ({ type: 'refused', ...reasonOf(e) });

async function keepSegment(
  { storage, data, signal, host }: EstablishedDatabase,
  archive: WalArchive,
  request: Extract<WalRequest, { type: 'push' }>,
  answer: (a: WalAnswer) => Promise<void>,
  log: Log,
): Promise<void> {
  let failure: unknown;
  const incoming = await archive.begin(request.segment).catch((e: unknown) => {
    failure = e;
    return undefined;
  });
  const hasher = new Blake3Hasher();
  try {
    // All of it is taken whatever the disk says: the next request comes behind it.
    for (let left = request.bytes; left > 0; ) {
      const asked = Math.min(left, SEGMENT_PIECE_BYTES);
      const piece = await storage.receive(data, asked, { signal });
      if (piece.length === 0) throw stpError('ECONNRESET', `client ${host} ended inside a segment`);
      left -= piece.length;
      hasher.update(piece);
      if (failure === undefined) {
        await incoming?.write(piece).catch((e: unknown) => {
          failure = e;
        });
      }
    }
    if (failure === undefined && hasher.digest('hex') !== request.blake3) {
      failure = stpError('EBADMSG', 'the segment is not what the client read; it was not kept');
    }
    if (failure !== undefined) throw failure;
    const already = (await incoming?.keep(request.blake3)) ?? false;
    await answer({ type: 'stored', already });
  } catch (e) {
    if (isCoded(e) && e.code === 'ECONNRESET') throw e;
    log.error(`WAL ${request.segment} of ${host}: ${reasonOf(e).message}`);
    await answer(refused(e));
  } finally {
    await incoming?.drop();
  }
}

async function returnSegment(
  { storage, data, signal }: EstablishedDatabase,
  archive: WalArchive,
  segment: string,
  answer: (a: WalAnswer) => Promise<void>,
): Promise<void> {
  const found = await archive.find(segment);
  if (!found) {
    await answer({ type: 'missing' });
    return;
  }
  const file = await open(found.path, 'r');
  try {
    const { size } = await file.stat();
    await answer({ type: 'found', bytes: size, blake3: found.blake3 });
    const piece = Buffer.allocUnsafeSlow(SEGMENT_PIECE_BYTES);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - at), at);
      if (bytesRead === 0) throw stpError('EIO', `${found.path} became shorter while it was read`);
      await storage.send(data, piece.subarray(0, bytesRead), { signal });
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}
