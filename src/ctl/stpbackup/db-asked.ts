/**
 * `stpbackup db --postgresql` where a client of the same configuration runs: it makes the backup, this
 * process connects to PostgreSQL, hands the connection over and shows what it is told. Loads little.
 * Main thread.
 */
import { Socket } from 'node:net';
import type { AskedAnswer, BaseBackupRequest } from '../../backup/asked-backup.js';
import { ABSENT_CODE } from '../../backup/reason.js';
import { monotonicMs } from '../../clock.js';
import { isCoded, stpError } from '../../errors.js';
import { native } from '../../native.js';
import { connectPostgresql, postgresqlSettings } from '../../source/postgresql-connection.js';
import type { BackupOptions } from './db.js';
import type { Outcome, SessionEvents } from './db-view.js';
import { NotRunningError } from './not-running.js';

/** Nobody is there, or nobody for this user. */
const UNANSWERED = new Set(['ENOENT', 'ECONNREFUSED', 'EACCES', 'EPERM', 'ENOTSOCK']);

/** A connection to the client's control socket; null where none of this user's answers. */
function connectControl(path: string): number | null {
  try {
    return native().unixConnect(path, true);
  } catch (e) {
    if (isCoded(e) && UNANSWERED.has(e.code)) return null;
    throw e;
  }
}

/**
 * Backs a cluster up through the running client.
 * @param control its socket
 * @returns false where it does not answer
 */
export async function askForBackup(
  control: string,
  server: string | undefined,
  options: BackupOptions,
  name: string,
): Promise<boolean> {
  const sinceMs = monotonicMs();
  const fd = connectControl(control);
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
    const database = await connectPostgresql(settings);
    try {
      native().sendMessage(fd, Buffer.from(`${JSON.stringify(request)}\n`), [database]);
    } finally {
      native().closeDescriptor(database);
    }
  } catch (e) {
    native().closeDescriptor(fd);
    throw e;
  }
  return new Socket({ fd });
}

/** What the client says, until it has said how it ended. */
async function follow(socket: Socket, view: SessionEvents): Promise<Outcome> {
  const onAbort = (): void => void socket.destroy();
  view.signal.addEventListener('abort', onAbort, { once: true });
  try {
    let rest = '';
    socket.setEncoding('utf8');
    for await (const chunk of socket) {
      const lines = (rest + String(chunk)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const outcome = heard(JSON.parse(line) as AskedAnswer, view);
        if (outcome !== null) return outcome;
      }
    }
  } catch (e) {
    view.signal.throwIfAborted();
    if (!isCoded(e) || e.code !== 'ECONNRESET') throw e;
  } finally {
    view.signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
  view.signal.throwIfAborted();
  throw stpError('ECONNRESET', 'the client ended before the session did: it was stopped or killed');
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
  }
}

/** @throws NotRunningError */
export function nobodyAnswers(control: string): never {
  throw new NotRunningError(
    `no stpbackup client answers on ${control}; start it with: stpbackup client --config FILE`,
  );
}
