/**
 * The backup server: holds the library, initiates sessions with clients, and lists what it has.
 *
 * Sessions run side by side, each with connections of its own; a session that fails leaves no set
 * and touches no other. Event loop only; the movers are worker threads.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '../clock.js';
import { STPConnect, type Use } from '../connect/stp-connect.js';
import { isCoded, messageOf, stpError } from '../errors.js';
import { DELTA_FROM_DEFAULT } from '../library/blocks.js';
import { findInterrupted, type ResumeKey, removeInterrupted } from '../library/interrupted.js';
import type { Adopted } from '../library/kept-lines.js';
import {
  Library,
  type LibraryListing,
  type LibraryOptions,
  type StoredSet,
} from '../library/library.js';
import { codingOf } from '../library/media-plan.js';
import { chainThrough, lastSetOf, openParent, parentListOf } from '../library/set-tree.js';
import type { SetSummary } from '../library/set-writer.js';
import { reasonOf as lackOf } from '../socket/reason.js';
import { absence } from './absent.js';
import type { Log } from './client.js';
import type { ClientAddress, ServerConfig } from './config.js';
import { StepError, type StepRecord } from './handshake-steps.js';
import type { SendSetJob, StoreMediumResult, StoreSetJob, StoreSetResult } from './jobs.js';
import { REASON_GRACE_MS, SESSIONS_MAX, WARNINGS_LISTED_MAX } from './limits.js';
import {
  accessFrom,
  bothAccesses,
  type MediaOrder,
  type MoreAccess,
  orderedPlan,
  PLAIN_MEDIA,
  planFrom,
} from './media-data.js';
import { type AnyMover, isConsequence, Mover, sumTotals, type Totals } from './mover.js';
import { dropLink, type MoverLink } from './mover-link.js';
import {
  type MoverTimes,
  type Slowest,
  slowestOf,
  sumTimes,
  type Waited,
  waitedOf,
} from './mover-times.js';
import type { ClientSummary, Selection } from './protocol.js';
import type { Complaint, Progress } from './protocol-words.js';
import { reasonOf } from './reason.js';
import { PLAIN_RESTORE, type RestoreOptions, type RestoreOutcome } from './restore-order.js';
import { type Resumed, resumeFrom } from './resume.js';
import { storedPath } from './selection.js';
import { ServerSession } from './server-session.js';
import type { StorageAccess } from './storage-access.js';
import { slowedTo, throttleOf } from './throttle.js';
import { NO_STG } from './wire.js';
import { pathText, pathToBytes, type WirePath } from './wire-path.js';

/** What a caller is told while a session runs. */
export interface SessionEvents {
  step(record: StepRecord): void;
  progress(progress: Progress): void;
  complaint(complaint: Complaint): void;
  /** A sentence for people. */
  notice?(text: string): void;
}

interface NetworkBytes {
  readonly sent: number;
  readonly received: number;
}

/** What a session's data goes over. */
export type Via = 'array' | 'network';

/** What a session did. Bytes and seconds; `complaints` names the first WARNINGS_LISTED_MAX. */
export interface SessionReport {
  readonly op: 'backup' | 'restore';
  readonly host: string;
  /** `none` after a dry run. */
  readonly set: string;
  /** An incremental backup: the set that it builds on. */
  readonly parent?: string;
  /** What was taken over from an interrupted backup; `entries` and `bytes` are without it. */
  readonly resumed?: {
    readonly from: string;
    readonly entries: number;
    readonly bytes: number;
  };
  readonly entries: number;
  /** Of file data. */
  readonly bytes: number;
  readonly seconds: number;
  /** Which way the data went. */
  readonly via: Via;
  /** Why it was the network where the array was asked first. */
  readonly viaReason?: string;
  /** Everything that went over the data connections, in both directions. */
  readonly movedBytes: number;
  /** The same, where it went through the array. */
  readonly memoryBytes: number;
  /** On the wire, as each side counts: TLS and the handshake are in the server's. */
  /** A restore: what became of the entries, and of the target. */
  readonly restored?: RestoreOutcome;
  readonly networkBytes: { readonly server: NetworkBytes; readonly client: NetworkBytes };
  /** Shares of the time in which a side waited for that part; null from a client that does not say. */
  readonly waited: (Waited & { readonly slowest: Slowest }) | null;
  /** Where the time of each side's movers went, ms. */
  readonly times: { readonly client: MoverTimes | null; readonly server: MoverTimes };
  readonly warnings: number;
  readonly complaints: readonly Complaint[];
}

export interface BackupServerOptions {
  readonly config: ServerConfig;
  readonly storage: Pick<StorageAccess, 'connectFor'>;
  readonly library: LibraryOptions;
  /** Of this program, for the set's record. */
  readonly version: string;
  readonly log: Log;
}

export interface BackupOrder {
  readonly host: string;
  readonly paths: readonly WirePath[];
  readonly selection?: { readonly [K in keyof Selection]?: Selection[K] | undefined } | undefined;
  /** Only what differs from the last set of the same host and roots. */
  readonly incremental?: boolean;
  /** Nothing is stored: the report says what would be. */
  readonly dryRun?: boolean;
  /** Bytes: of files from this size on only changed blocks are stored; 0: never. 4 MiB where absent. */
  readonly deltaFrom?: number | undefined;
  /** Not faster than this; the configurations of both sides may say less. */
  readonly bytesPerSecond?: number | undefined;
  /** In place of what the configuration says. */
  readonly media?: MediaOrder | undefined;
  /** Data streams, each with a medium of its own in the set; 1 to STREAMS_MAX. 1 where absent. */
  readonly streams?: number | undefined;
  /** False: what an interrupted backup of the same trees left is thrown away, not taken over. */
  readonly resume?: boolean | undefined;
  /** 'array' where absent. */
  readonly via?: Use;
}

export interface RestoreOrder {
  readonly set: string;
  readonly host: string;
  readonly target: WirePath;
  /** Absolute paths as they were; none: all of the set. */
  readonly paths: readonly WirePath[];
  /** Not faster than this; the configurations of both sides may say less. */
  readonly bytesPerSecond?: number | undefined;
  /** Where else volumes are, and what opens encrypted ones; beside the configuration's. */
  readonly access?: MoreAccess | undefined;
  /** 'array' where absent. */
  readonly via?: Use;
  /** Into an empty directory, as it was, where absent. */
  readonly options?: RestoreOptions;
}

export class BackupServer {
  readonly #options: BackupServerOptions;
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: BackupServerOptions) {
    this.#options = options;
    // A library that cannot be opened is a mistake to learn of now.
    this.#library();
  }

  get sessionCount(): number {
    return this.#running.size;
  }

  list(): LibraryListing {
    return this.#library().list();
  }

  /** Gives every session up and waits until each has tidied up. */
  async stop(): Promise<void> {
    this.#stopped.abort(stpError('ECANCELED', 'the server was stopped'));
    await Promise.allSettled(this.#running);
  }

  backup(order: BackupOrder, events: SessionEvents, signal: AbortSignal): Promise<SessionReport> {
    return this.#run(order.host, events, signal, (run) => run.backup(order));
  }

  restore(order: RestoreOrder, events: SessionEvents, signal: AbortSignal): Promise<SessionReport> {
    return this.#run(order.host, events, signal, (run) => run.restore(order));
  }

  #library(): Library {
    const { config, library } = this.#options;
    const { access } = config.media ?? PLAIN_MEDIA;
    return Library.open(config.library, { ...library, access: accessFrom(access) });
  }

  #clientOf(host: string): ClientAddress {
    const { hosts } = this.#options.config;
    const client = hosts.get(host);
    if (client) return client;
    const known = [...hosts.keys()].join(', ') || 'none';
    throw stpError('EINVAL', `no host ${host} in the server's configuration; it has: ${known}`);
  }

  async #run(
    host: string,
    events: SessionEvents,
    signal: AbortSignal,
    work: (run: SessionRun) => Promise<SessionReport>,
  ): Promise<SessionReport> {
    const client = this.#clientOf(host);
    if (this.#running.size >= SESSIONS_MAX) {
      throw stpError('EBUSY', `${SESSIONS_MAX} sessions are running already; try again later`);
    }
    const either = AbortSignal.any([signal, this.#stopped.signal]);
    const run = new SessionRun(this.#options, client, this.#library(), events, either);
    const running = work(run);
    this.#running.add(running);
    const { log } = this.#options;
    try {
      const report = await running;
      const { op, set, entries, bytes, warnings, via } = report;
      log.info(
        `${op} of ${host}: ${set}, ${entries} entries, ${bytes} bytes, ${warnings} warnings, via ${via}`,
      );
      return report;
    } catch (e) {
      log.error(`session with ${host} failed: ${reasonOf(e).message}`);
      throw e;
    } finally {
      this.#running.delete(running);
    }
  }
}

/** The library's disk has no room, or does not work. */
const DISK_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EIO']);

/** Stands for a set that was not made. */
const DRY_RUN = 'none';

/** How a session's data goes. */
interface Way {
  readonly via: Use | undefined;
  readonly streams: number;
}

/** When all has come in: a stream of another medium that breaks is the end, too. */
const heldWith = (mover: Pick<Mover<unknown>, 'held'>, others: Promise<unknown>): Promise<Totals> =>
  Promise.race([mover.held, others.then(() => mover.held)]);

interface OpenSession {
  readonly session: ServerSession;
  /** Of this session alone. */
  readonly connect: STPConnect;
}

/** True for what says that the array cannot: no attachment here or there, no way between the two. */
const isLack = (e: unknown): boolean =>
  lackOf(e) !== undefined || (e instanceof StepError && e.figure === '4A');

/** One session's work on the server. */
class SessionRun {
  readonly #complaints: Complaint[] = [];
  readonly #startMs = monotonicMs();

  constructor(
    private readonly options: BackupServerOptions,
    private readonly client: ClientAddress,
    private readonly library: Library,
    private readonly events: SessionEvents,
    private readonly signal: AbortSignal,
  ) {}

  async backup(order: BackupOrder): Promise<SessionReport> {
    const parent = this.#parentOf(order);
    const resumed = await this.#resume(order, parent);
    try {
      const report = await this.#backup(order, parent, resumed?.adopted ?? null);
      if (resumed === null) return report;
      const { id: from, entries, bytes } = resumed.adopted;
      return { ...report, resumed: { from, entries, bytes } };
    } finally {
      resumed?.release();
    }
  }

  /** Opened before the session: a parent that is gone should cost none. */
  #parentOf({ incremental, host, paths }: BackupOrder): StoredSet | undefined {
    return incremental ? openParent(this.library, host, paths.map(pathText)).at(-1) : undefined;
  }

  async #resume(order: BackupOrder, parent: StoredSet | undefined): Promise<Resumed | null> {
    const { host, paths, dryRun, resume = true, streams = 1 } = order;
    if (dryRun) return null;
    const roots = paths.map(pathText);
    const key = { host, roots, ...(parent && { chain: chainThrough(parent.summary) }) };
    if (!resume) {
      removeInterrupted(this.library, key);
      return null;
    }
    const { plan } = this.options.config.media ?? PLAIN_MEDIA;
    // What was left is plain, and so must be what is added to it; a sealed list is not for threads.
    const coding = codingOf(planFrom(orderedPlan(plan, order.media)));
    if (coding !== undefined || parent?.isSealed) return null;
    return resumeFrom(this.library, {
      key,
      parent: parent === undefined ? null : parentListOf(parent),
      streams,
      signal: this.signal,
      say: (text) => this.events.notice?.(text),
    });
  }

  async #backup(
    order: BackupOrder,
    parent: StoredSet | undefined,
    adopted: Adopted | null,
  ): Promise<SessionReport> {
    const { config, version } = this.options;
    const { host, paths, dryRun = false, bytesPerSecond } = order;
    const { exclude = [], oneFileSystem = false, excludeCaches = false } = order.selection ?? {};
    const selection = { exclude, oneFileSystem, excludeCaches };
    const roots = paths.map(pathText);
    const { plan, access } = config.media ?? PLAIN_MEDIA;
    // Hashes of blocks lie beside the media as they are: who may not read the data may not have them.
    const isSealed = (plan.recipients?.length ?? 0) > 0;
    const deltaFrom = isSealed ? 0 : (order.deltaFrom ?? DELTA_FROM_DEFAULT);
    const job: StoreSetJob = {
      library: config.library,
      meta: { host, roots, stpd: version },
      parent: parent?.id ?? null,
      dryRun,
      adopted,
      hasList: true,
      media: { plan: orderedPlan(plan, order.media), access },
    };
    const listBytes = adopted?.listBytes ?? parent?.listBytes() ?? 0;
    const firstMedium = adopted?.media.length ?? 0;
    const incremental = parent !== undefined;
    if (adopted !== null) this.events.notice?.(`taking over ${adopted.entries} entries of it`);
    // Nothing but the walk is done, which is one.
    const streams = dryRun ? 1 : (order.streams ?? 1);
    Mover.prepare('backup-receiver');
    return this.#session({ via: order.via, streams }, async (session, keep) => {
      const onComplaint = (complaint: Complaint): void => this.#complain(complaint);
      const throttle = throttleOf(config.limits);
      const [first, ...others] = (await session.detachAll()) as [MoverLink, ...MoverLink[]];
      const mover = keep(
        Mover.start<StoreSetJob, StoreSetResult>('backup-receiver', first, job, onComplaint, {
          throttle,
        }),
      );
      const storers: Mover<StoreMediumResult>[] = [];
      try {
        this.#expectTree(host, roots, order.incremental ?? false);
        const request = { op: 'backup' as const, host, paths: [...paths], streams };
        // Not waited for: the client does not wait long for it, and data that is early waits.
        const limits = { dryRun, deltaFrom, bytesPerSecond, incremental, firstMedium };
        const ready = session.request({ ...request, selection, listBytes, ...limits });
        ready.catch(() => {});
        if (others.length > 0) {
          const place = await session.wait(mover.begun);
          for (const [i, link] of others.entries()) {
            const more = { ...place, medium: firstMedium + 1 + i, plan: job.media.plan };
            storers.push(keep(Mover.start('medium-storer', link, more, onComplaint, { throttle })));
          }
        }
        await ready;
        const stored = Promise.all(storers.map((storer) => storer.done));
        stored.catch(() => {});
        const received = await session.wait(
          dryRun ? mover.done.then((done) => done.totals) : heldWith(mover, stored),
        );
        const further = await session.wait(stored);
        const summary = await session.summary();
        const sum = sumTotals([received, ...further.map(({ totals }) => totals)]);
        agree(this.client.name, sum, summary);
        mover.release(further.map(({ result }) => result));
        const { result } = await session.wait(mover.done);
        const set = result?.id ?? DRY_RUN;
        if (result !== null) removeInterrupted(this.library, { host, roots });
        await session.committed(set, summary);
        const times = sumTimes([mover, ...storers].map((each) => each.times));
        const report = this.#report('backup', set, sum, summary, session, times);
        return parent === undefined ? report : { ...report, parent: parent.id };
      } catch (e) {
        // Streams that no thread has got: its end is told to the client as well.
        for (const link of others.slice(storers.length)) dropLink(link);
        const cause = await this.#causeOf(e, [mover, ...storers]);
        await Promise.all([mover, ...storers].map((each) => each.stop()));
        this.#sweep();
        const chain = parent && chainThrough(parent.summary);
        this.#settleInterrupted(cause, { host, roots, chain });
        throw cause;
      }
    });
  }

  /**
   * The failure that the others come of: where a disk fails one thread, another one finds its
   * directory gone, and the client its stream broken, and their word may be here first.
   */
  async #causeOf(e: unknown, movers: readonly AnyMover[]): Promise<unknown> {
    const mayFollow = isConsequence(e) || (isCoded(e) && e.code === 'ENOENT');
    if (!mayFollow || this.signal.aborted) return e;
    const ofDisk = movers.map(async ({ done }) => {
      const reason = await done.then(
        () => null,
        (failure: unknown) => failure,
      );
      if (isCoded(reason) && DISK_CODES.has(reason.code)) return reason;
      throw e;
    });
    const grace = sleep(REASON_GRACE_MS, e, { ref: false });
    return Promise.race([Promise.any(ofDisk).catch(() => e), grace]);
  }

  /** What came may be worth something to the next backup; on a disk that is full it is in the way. */
  #settleInterrupted(e: unknown, key: ResumeKey): void {
    if (isCoded(e) && DISK_CODES.has(e.code)) removeInterrupted(this.library, key);
    else if (findInterrupted(this.library, key) !== null) {
      this.events.notice?.('what came so far is kept: the same command goes on from there');
    }
  }

  async restore(order: RestoreOrder): Promise<SessionReport> {
    const { config } = this.options;
    // Opened here first: a wrong name should cost no session.
    const stored = this.library.openSet(order.set);
    const set = stored.id;
    if (order.paths.length === 0) this.#expect(stored.summary, true);
    const { host, target } = order;
    const selected = order.paths.map((path) => storedPath(pathToBytes(path)));
    const access = bothAccesses((config.media ?? PLAIN_MEDIA).access, order.access);
    const { options = PLAIN_RESTORE } = order;
    const { dryRun } = options;
    const job: SendSetJob = { library: config.library, set, selected, dryRun, access };
    Mover.prepare('restore-sender');
    return this.#session({ via: order.via, streams: 1 }, async (session, keep) => {
      await session.request({ op: 'restore', host, set, target, streams: 1, options });
      const link = await session.detach();
      const mover = keep(
        Mover.start<SendSetJob, null>('restore-sender', link, job, (c) => this.#complain(c), {
          throttle: slowedTo(throttleOf(config.limits), order.bytesPerSecond),
        }),
      );
      const { totals } = await session.wait(mover.done);
      const summary = await session.summary();
      agree(this.client.name, totals, summary);
      await session.finish({ type: 'committed', set });
      return this.#report('restore', set, totals, summary, session, mover.times);
    });
  }

  /** Opens a session, does the work, and leaves nothing running whatever comes. */
  async #session(
    way: Way,
    work: (
      session: ServerSession,
      keep: <R>(mover: Mover<R>) => Mover<R>,
    ) => Promise<SessionReport>,
  ): Promise<SessionReport> {
    const movers: AnyMover[] = [];
    const keep = <R>(mover: Mover<R>): Mover<R> => {
      movers.push(mover);
      return mover;
    };
    const { session, connect } = await this.#open(way).catch((e: unknown) => {
      throw absence(e) ?? e;
    });
    try {
      return await work(session, keep);
    } catch (e) {
      // Before the stream breaks, so that the client knows why it does.
      await session.finish({ type: 'cancel', reason: reasonOf(e).message });
      throw e;
    } finally {
      await Promise.allSettled(movers.map((mover) => mover.stop()));
      await connect.closeAll();
    }
  }

  /** A session over the array or the network; decided here, once, before any data moves. */
  async #open({ via = 'array', streams }: Way): Promise<OpenSession> {
    if (via !== 'array-first') return this.#openVia(via, streams);
    let lack: string;
    try {
      return await this.#openVia('array', streams);
    } catch (e) {
      if (this.signal.aborted || !isLack(e)) throw e;
      lack = messageOf(e);
    }
    this.options.log.warn(`session with ${this.client.name} goes over the network: ${lack}`);
    this.#viaReason = lack;
    try {
      return await this.#openVia('network', streams);
    } catch (e) {
      const { code, message } = reasonOf(absence(e) ?? e);
      throw stpError(code, `${message} (not through the array: ${lack})`);
    }
  }

  async #openVia(via: Via, streams: number): Promise<OpenSession> {
    const { config, storage } = this.options;
    const stg = via === 'array' ? config.stg : NO_STG;
    const connect = via === 'array' ? await storage.connectFor(stg) : new STPConnect();
    try {
      const session = await ServerSession.open({
        config,
        stg,
        connect,
        client: this.client,
        streams,
        onStep: (record) => this.events.step(record),
        onProgress: (progress) => this.events.progress({ ...progress, ...this.#expected }),
        onComplaint: (complaint) => this.#complain(complaint),
        signal: this.signal,
      });
      this.#via = via;
      return { session, connect };
    } catch (e) {
      await connect.closeAll();
      throw e;
    }
  }

  #via: Via = 'array';
  #viaReason: string | undefined;

  /** After a thread that was stopped: its lock is gone with it, and opening removes what it left. */
  #sweep(): void {
    const { config, library, log } = this.options;
    try {
      Library.open(config.library, library);
    } catch (e) {
      log.error(`the library could not be tidied up: ${reasonOf(e).message}`);
    }
  }

  /** What there will be, for who watches. */
  #expected: { readonly total?: number; readonly totalEntries?: number } = {};

  /** By the last set of the same trees; where there is none, nobody knows. */
  #expectTree(host: string, roots: readonly string[], isIncremental: boolean): void {
    const last = lastSetOf(this.library, host, roots);
    if (last !== undefined) this.#expect(last, !isIncremental);
  }

  #expect({ bytes, entries, treeEntries, chain }: SetSummary, countsBytes: boolean): void {
    // How much data a chain's tree has, or has changed, no summary says.
    const isFull = chain === undefined || chain.length === 0;
    this.#expected = {
      ...(isFull && countsBytes && { total: bytes }),
      totalEntries: treeEntries ?? entries,
    };
  }

  #complaintCount = 0;

  #complain(complaint: Complaint): void {
    this.#complaintCount++;
    if (this.#complaints.length >= WARNINGS_LISTED_MAX) return;
    this.#complaints.push(complaint);
    this.events.complaint(complaint);
  }

  #report(
    op: 'backup' | 'restore',
    set: string,
    totals: Totals,
    summary: ClientSummary,
    session: ServerSession,
    server: MoverTimes,
  ): SessionReport {
    const { entries, bytes, moved } = totals;
    const client = summary.times ?? null;
    const waited = client === null ? null : waitedOf(client, server);
    return {
      op,
      host: this.client.name,
      set,
      entries,
      bytes,
      seconds: (monotonicMs() - this.#startMs) / 1000,
      via: this.#via,
      ...(this.#viaReason !== undefined && { viaReason: this.#viaReason }),
      movedBytes: moved,
      memoryBytes: this.#via === 'array' ? moved : 0,
      ...(summary.restored !== undefined && { restored: summary.restored }),
      networkBytes: { server: session.inet, client: summary.inet },
      waited: waited && { ...waited, slowest: slowestOf(waited) },
      times: { client, server },
      warnings: this.#complaintCount,
      complaints: this.#complaints,
    };
  }
}

/** Two accounts of one stream: a difference is a fault of one of the programs, and no set. */
export function agree(
  client: string,
  here: Totals,
  there: Omit<ClientSummary, 'type' | 'inet'>,
): void {
  if (here.entries === there.entries && here.bytes === there.bytes && here.moved === there.moved) {
    return;
  }
  throw stpError(
    'EPROTO',
    `client ${client} counts ${there.entries} entries, ${there.bytes} bytes of data and ` +
      `${there.moved} moved; here it is ${here.entries}, ${here.bytes} and ${here.moved}`,
  );
}
