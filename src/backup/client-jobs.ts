/**
 * What the client does in a session once its connections stand: runs a mover between the storage
 * stream and the file tree, and tells the server how it goes.
 *
 * The request is foreign: what it names must lie below what the configuration allows before a
 * thread is started. The session ends in good order, or with the best reason that either side has.
 * Event loop only.
 */
import { realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCoded, stpError } from '../errors.js';
import { assertBelowRoots, normalisePath } from '../source/confine.js';
import type { EstablishedClient } from './client.js';
import { BackupCommands, type CommandLog } from './commands.js';
import type { ClientConfig } from './config.js';
import { orAborted } from './deadline.js';
import type { ReadLaneJob, RestoreSetJob, RestoreSetResult, SendTreeJob } from './jobs.js';
import { openLanes } from './lanes.js';
import { PROGRESS_PERIOD_MS, REASON_GRACE_MS } from './limits.js';
import { type AnyMover, isConsequence, Mover, MoverGroup, type Totals } from './mover.js';
import { moverLink } from './mover-link.js';
import {
  type BackupRequest,
  type FromServer,
  fromServerSchema,
  type Request,
  type RestoreRequest,
} from './protocol.js';
import { reasonOf } from './reason.js';
import { storedPath } from './selection.js';
import { slowedTo, type Throttle, throttleOf } from './throttle.js';
import { pathText, pathToBytes } from './wire-path.js';

type Roots = Pick<ClientConfig, 'roots' | 'restoreRoots' | 'limits' | 'commands'>;

/** What the server says after its request: settles once. */
async function verdict({ control }: EstablishedClient): Promise<string> {
  let message: FromServer | null = null;
  try {
    message = await control.receive(fromServerSchema);
  } catch (e) {
    // A killed server ends or resets its connections, as its unread bytes decide: one and the same.
    if (!isCoded(e) || e.code !== 'ECONNRESET') throw e;
  }
  if (!message)
    throw stpError('ECONNRESET', 'the server ended the session: it was stopped or died');
  if (message.type === 'committed') return message.set;
  throw stpError('ECANCELED', `the server gave up: ${message.reason}`);
}

function startMover(session: EstablishedClient, roots: Roots): AnyMover {
  const { request, storage, errors } = session;
  const [stream, ...others] = session.streams;
  if (stream === undefined) throw stpError('EPROTO', 'the session has no data stream');
  if (others.length > 0 && (request.op !== 'backup' || request.dryRun)) {
    throw stpError('EPROTO', 'only a backup has several data streams');
  }
  // Checked first: a refused request must not cost a thread.
  const job = request.op === 'backup' ? sendTreeJob(request, roots) : restoreJob(request, roots);
  const onComplaint = (complaint: object): void => void errors.send(complaint).catch(() => {});
  const throttle = throttleOf(roots.limits);
  if (request.op === 'backup') {
    const slowed = slowedTo(throttle, request.bytesPerSecond);
    return startSenders(job as SendTreeJob, storage, [stream, ...others], onComplaint, slowed);
  }
  return Mover.start<RestoreSetJob, RestoreSetResult>(
    'restore-receiver',
    moverLink(storage, stream),
    job as RestoreSetJob,
    onComplaint,
    { throttle },
  );
}

/** The thread of the walk, and one for each further stream. */
function startSenders(
  job: SendTreeJob,
  storage: EstablishedClient['storage'],
  [first, ...others]: readonly [number, ...number[]],
  onComplaint: (complaint: object) => void,
  throttle: Throttle,
): AnyMover {
  const { walk, lanes } = openLanes(others.length, job.firstMedium);
  const sender = Mover.start<SendTreeJob, null>(
    'backup-sender',
    moverLink(storage, first),
    { ...job, lanes: walk },
    onComplaint,
    { throttle, ports: walk.map(({ port }) => port) },
  );
  const readers = lanes.map((lane, i) =>
    Mover.start<ReadLaneJob, null>(
      'lane-reader',
      moverLink(storage, others[i] as number),
      { ...lane, deltaFrom: job.deltaFrom },
      onComplaint,
      { throttle, ports: [lane.port] },
    ),
  );
  return readers.length === 0 ? sender : new MoverGroup([sender, ...readers]);
}

const sendTreeJob = (request: BackupRequest, { roots }: Roots): SendTreeJob => ({
  lanes: [],
  incremental: request.incremental,
  firstMedium: request.firstMedium,
  roots: request.paths.map((path) => assertBelowRoots(pathToBytes(path), roots)),
  selection: request.selection,
  listBytes: request.listBytes,
  dryRun: request.dryRun,
  deltaFrom: request.deltaFrom,
});

const restoreJob = (request: RestoreRequest, { restoreRoots }: Roots): RestoreSetJob => {
  const { options } = request;
  const asked = pathToBytes(request.target);
  const inPlace = isInPlace(asked) && options.overwrite !== 'refuse';
  const below = inPlace ? placesOf(restoreRoots) : null;
  const target = below === null ? assertBelowRoots(asked, restoreRoots) : asked;
  const text = target.toString('utf8');
  if (Buffer.from(text, 'utf8').equals(target)) return { target: text, options, below };
  throw stpError('EINVAL', 'the target of a restore must be a path in UTF-8');
};

/** To where it was: everything lies below `/`. */
const isInPlace = (target: Buffer): boolean => normalisePath(target).equals(Buffer.from('/'));

/** What a restore in place may write below, by where it really is. @throws EACCES if there is none */
function placesOf(restoreRoots: readonly string[]): Buffer[] {
  const places = restoreRoots.flatMap((root) => {
    try {
      return [storedPath(realpathSync.native(root, 'buffer') as Buffer)];
    } catch {
      return [];
    }
  });
  if (places.length > 0) return places;
  throw stpError('EACCES', "this client's configuration has no restoreRoots that are there");
}

/** While the handshake goes on: what most sessions need. */
export const prepareClientJob = (): void => Mover.prepare('backup-sender');

/** Throws for what the configuration does not allow: before a command runs or a thread starts. */
const assertAllowed = (request: Request, roots: Roots): unknown =>
  request.op === 'backup' ? sendTreeJob(request, roots) : restoreJob(request, roots);

/** The commands around a backup; none for what only looks, or writes here. */
function commandsOf({ request, label }: EstablishedClient, config: Roots, log: CommandLog) {
  const isBackup = request.op === 'backup' && !request.dryRun;
  const paths = isBackup ? request.paths : [];
  const real = paths.map((path) => assertBelowRoots(pathToBytes(path), config.roots));
  return new BackupCommands(
    isBackup ? config.commands : undefined,
    real,
    {
      STPBACKUP_HOST: request.host,
      STPBACKUP_SESSION: label,
      STPBACKUP_PATHS: paths.map(pathText).join('\n'),
    },
    log,
  );
}

/** Aborted with the session, or as soon as the server gives up. */
function overWith(signal: AbortSignal, judged: Promise<unknown>): AbortSignal {
  const over = new AbortController();
  judged.catch((reason: unknown) => over.abort(reason));
  return AbortSignal.any([signal, over.signal]);
}

const quiet: CommandLog = { info: () => {}, warn: () => {} };

/** Runs the session's request to its end. Rejects with the reason, which the server is told. */
export async function runClientJob(
  session: EstablishedClient,
  config: Roots,
  log: CommandLog = quiet,
): Promise<void> {
  const { control, errors, request, signal } = session;
  assertAllowed(request, config);
  const commands = commandsOf(session, config, log);
  const judged = verdict(session);
  judged.catch(() => {});
  let mover: AnyMover | undefined;
  let moved: Moved;
  try {
    await commands.before(overWith(signal, judged));
    mover = startMover(session, config);
    moved = await move(session, mover, judged, commands.hasAfter);
  } catch (e) {
    const reason = await bestReason(e, judged);
    // The server need not wait for what tidies up here: ending a thread takes its time, too.
    await Promise.all([session.fail(reason), mover?.stop()]);
    if (commands.hasAfter) await commands.after({ failure: reason });
    throw reason;
  }
  if (!commands.hasAfter) return;
  const { totals, set } = moved;
  const { entries, bytes, complaints } = totals;
  const failures = await commands.after({ set, entries, bytes, complaints });
  for (const e of failures) await errors.send({ path: '/', ...reasonOf(e) });
  await errors.flushed();
  await control.send({ type: 'after', complaints: failures.length });
}

interface Moved {
  readonly totals: Totals;
  readonly set: string;
}

/** Moves the data, and agrees with the server on it. */
async function move(
  session: EstablishedClient,
  mover: AnyMover,
  judged: Promise<string>,
  after: boolean,
): Promise<Moved> {
  const { control, signal } = session;
  const before = inetOf(session);
  const report = setInterval(() => void control.send(mover.progress), PROGRESS_PERIOD_MS);
  try {
    await control.send({ type: 'ready' });
    // The verdict before the end of the work can only be a bad one.
    const early = judged.then(() => {
      throw stpError('EPROTO', 'the server committed before all was sent');
    });
    const { totals, result } = await orAborted(signal, Promise.race([mover.done, early]));
    clearInterval(report);
    await session.errors.flushed();
    const summary = summaryOf(totals, before, inetOf(session));
    const { times } = mover;
    const restored = session.request.op === 'restore' ? { restored: result } : {};
    await control.send({ ...summary, times, ...restored, ...(after && { after }) });
    return { totals, set: await orAborted(signal, judged) };
  } finally {
    clearInterval(report);
  }
}

/** Of the control connections of all sessions, and of this one's data should it go there, too. */
function inetOf({ network, storage }: EstablishedClient): Traffic {
  const [common, own] = [network.traffic().inet, storage.traffic().inet];
  return { sent: common.sent + own.sent, received: common.received + own.received };
}

interface Traffic {
  readonly sent: number;
  readonly received: number;
}

const summaryOf = (totals: Totals, before: Traffic, now: Traffic): object => ({
  type: 'summary',
  ...totals,
  inet: { sent: now.sent - before.sent, received: now.received - before.received },
});

/** A stream that broke says less than a server that may be about to tell why. */
async function bestReason(e: unknown, judged: Promise<string>): Promise<unknown> {
  if (!isConsequence(e) || (isCoded(e) && e.code === 'ECANCELED')) return e;
  const silence = sleep(REASON_GRACE_MS, undefined, { ref: false });
  try {
    await Promise.race([judged, silence]);
    return e;
  } catch (said) {
    return said;
  }
}
