/**
 * `stpbackup db --postgresql` where a client of the same configuration runs: it makes the backup, this
 * process connects to PostgreSQL, hands the connection over and shows what it is told. Loads little.
 * Main thread.
 */
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AskedAnswer, BaseBackupRequest } from '../../backup/asked-backup.js';
import { ABSENT_CODE } from '../../backup/reason.js';
import { monotonicMs } from '../../clock.js';
import { isCoded, stpError } from '../../errors.js';
import { native } from '../../native.js';
import { connectPostgresql, postgresqlSettings } from '../../source/postgresql-connection.js';
import type { BackupOptions } from './db.js';
import type { Outcome, SessionEvents } from './db-view.js';
import { NotRunningError } from './not-running.js';

/** Nobody is there. */
const UNANSWERED = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTSOCK']);
/** Somebody is there, but not for this user. */
const FORBIDDEN = new Set(['EACCES', 'EPERM']);
/** The client has not yet looked who came before: it does so in every turn of its loop. */
const CALLS_MAX = 500;
const CALL_PERIOD_MS = 20;
/** What goes along with the descriptor: it fits the buffer of any new socket. */
const FIRST_BYTES = 4096;

/** A connection to the client's control socket. @throws why there is none */
async function connectControl(path: string): Promise<number> {
  for (let call = 1; ; call++) {
    try {
      return native().unixConnect(path, true);
    } catch (e) {
      if (call === CALLS_MAX || !isCoded(e) || e.code !== 'EAGAIN') throw e;
      await sleep(CALL_PERIOD_MS);
    }
  }
}

/** What there is to know of a client's control socket. */
interface Control {
  readonly path: string;
  /** By its user, and not by a configuration: nothing else will do. */
  readonly isNamed: boolean;
}

/** Null where the session is for this process to run. @throws NotRunningError, EACCES */
async function connectionTo({ path, isNamed }: Control): Promise<number | null> {
  try {
    return await connectControl(path);
  } catch (e) {
    const code = isCoded(e) ? e.code : 'EIO';
    if (!UNANSWERED.has(code) && !FORBIDDEN.has(code)) throw e;
    if (!isNamed) return null;
    if (UNANSWERED.has(code)) throw nobodyAnswers(path);
    const { ownerOf } = await import('../../run-directory.js');
    const owner = ownerOf(path);
    const who = owner === undefined ? 'the user that runs it' : `uid ${owner}`;
    throw stpError(code, `the stpbackup client on ${path} may be asked by ${who} and root only`);
  }
}

/**
 * Backs a cluster up through the running client.
 * @returns false where this process is to make it: nobody answers
 * @throws NotRunningError, EACCES where the socket is named
 */
export async function askForBackup(
  control: Control,
  server: string | undefined,
  options: BackupOptions,
  name: string,
): Promise<boolean> {
  const sinceMs = monotonicMs();
  const fd = await connectionTo(control);
  if (fd === null) return false;
  const asked = ask(fd, server, options, name);
  // Then the client is at work while this process loads what shows it.
  await asked.catch(() => {});
  const { showSession } = await import('./db-view.js');
  await showSession(options, async (view) => follow(await asked, view), sinceMs);
  return true;
}

/** Sends the request. @param fd of the control socket, which is the result's, or closed */
async function ask(
  fd: number,
  server: string | undefined,
  { postgresql, spread, limitRate }: BackupOptions,
  name: string,
): Promise<Socket> {
  try {
    const settings = await postgresqlSettings(typeof postgresql === 'string' ? postgresql : '');
    const request: BaseBackupRequest = {
      ...{ op: 'base-backup', server: server ?? null, name, settings },
      fast: spread !== true,
      bytesPerSecond: limitRate ?? null,
    };
    const line = Buffer.from(`${JSON.stringify(request)}\n`);
    const database = await connectPostgresql(settings);
    try {
      native().sendMessage(fd, line.subarray(0, FIRST_BYTES), [database]);
    } finally {
      native().closeDescriptor(database);
    }
    const socket = new Socket({ fd });
    // A client that is gone, or refuses it before its end, has said so, or ends.
    socket.on('error', () => {});
    if (line.length > FIRST_BYTES) socket.write(line.subarray(FIRST_BYTES));
    return socket;
  } catch (e) {
    native().closeDescriptor(fd);
    throw e;
  }
}

/** What the client says, until it has said how it ended. */
async function follow(socket: Socket, view: SessionEvents): Promise<Outcome> {
  const onAbort = (): void => void socket.destroy();
  view.signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const line of linesOf(socket)) {
      const outcome = heard(JSON.parse(line) as AskedAnswer, view);
      if (outcome !== null) return outcome;
    }
  } finally {
    view.signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
  view.signal.throwIfAborted();
  throw stpError('ECONNRESET', 'the client ended before the session did: it was stopped or killed');
}

/** Up to the end of the connection, whatever that is. */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = '';
  socket.setEncoding('utf8');
  try {
    for await (const chunk of socket) {
      const lines = (rest + String(chunk)).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
  } catch {
    // Broken, or destroyed here.
  }
}

/** The outcome, once it is there. @throws why there is none */
function heard(answer: AskedAnswer, view: SessionEvents): Outcome | null {
  switch (answer.type) {
    case 'step':
      view.step(answer.record);
      return null;
    case 'progress':
      view.progress(answer.progress);
      return null;
    case 'complaint':
      view.complaint(answer.complaint);
      return null;
    case 'notice':
      view.say(answer.text);
      return null;
    case 'done':
      return answer;
    case 'refused':
      if (answer.code === ABSENT_CODE) throw new NotRunningError(answer.message);
      throw stpError(answer.code, answer.message);
    default:
      // Of a client that is newer than this.
      return null;
  }
}

const nobodyAnswers = (control: string): NotRunningError =>
  new NotRunningError(
    `no stpbackup client answers on ${control}; start it with: stpbackup client --config FILE`,
  );
