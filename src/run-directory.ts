/**
 * The run directory: where a daemon's sockets, lock and log are, and who may run there.
 *
 *     stpd.lock      0600  held with flock by the daemon; its text is the daemon's PID and, once it
 *                          serves, the array's instance on a second line
 *     control.sock   0600  control API
 *     attach.sock          attach socket of hosts
 *     stpd.log       0640  in the background, unless the configuration names another file
 *
 * A daemon serves the directory if and only if it holds the lock: the kernel gives that up when
 * the process ends in whatever way, so files beside a free lock are stale. The PID in the file is
 * a hint; before a signal it is checked that this process has the locked file open, since numbers
 * are reused and another PID namespace has others. Main thread; synchronous unless it must wait.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isCoded, messageOf, stpError } from './errors.js';
import { UNIX_PATH_BYTES_MAX } from './limits.js';

export const ATTACH_SOCKET = 'attach.sock';
export const CONTROL_SOCKET = 'control.sock';
export const LOCK_FILE = 'stpd.lock';
export const LOG_FILE = 'stpd.log';

const RUN_DIRECTORY_BYTES_MAX = UNIX_PATH_BYTES_MAX - `/${CONTROL_SOCKET}`.length;

/** flock(2) with LOCK_EX and LOCK_NB on an open file: false if another process holds it. */
export type LockFile = (fd: number) => boolean;

const ownUid = (): number => process.geteuid?.() ?? 0;

const statIfThere = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false });

/**
 * The run directory that daemon, tools and hosts agree on: the option, else STPD_RUN_DIR, else
 * /run/stpd for root, $XDG_RUNTIME_DIR/stpd, or /tmp/stpd-UID. Absolute; need not exist.
 *
 * @throws ENAMETOOLONG; EACCES where another user has put something at /tmp/stpd-UID
 */
export function resolveRunDirectory(
  option?: string,
  environment: NodeJS.ProcessEnv = process.env,
  uid = ownUid(),
): string {
  const chosen = option ?? environment.STPD_RUN_DIR;
  const runtime = environment.XDG_RUNTIME_DIR;
  let directory: string;
  if (chosen !== undefined && chosen !== '') directory = resolve(chosen);
  else if (option !== undefined) throw stpError('EINVAL', 'the run directory is an empty name');
  else if (uid === 0) directory = '/run/stpd';
  else if (runtime?.startsWith('/')) directory = join(runtime, 'stpd');
  else {
    directory = `/tmp/stpd-${uid}`;
    // Anybody may have made this one: talk to our own daemon or to nobody.
    const found = statIfThere(directory);
    if (found !== undefined) assertOwnDirectory(directory, found, uid);
  }
  const bytes = Buffer.byteLength(directory);
  if (bytes > RUN_DIRECTORY_BYTES_MAX) {
    throw stpError(
      'ENAMETOOLONG',
      `run directory ${directory} has ${bytes} bytes: socket names leave it at most ` +
        `${RUN_DIRECTORY_BYTES_MAX}; choose a shorter one with --run-dir`,
    );
  }
  return directory;
}

function assertOwnDirectory(path: string, found: Stats, uid: number): void {
  const problem = found.isSymbolicLink()
    ? 'is a symbolic link'
    : !found.isDirectory()
      ? 'is not a directory'
      : found.uid !== uid
        ? `belongs to uid ${found.uid}, not to uid ${uid}`
        : undefined;
  if (problem === undefined) return;
  throw stpError('EACCES', `run directory ${path} ${problem}; choose another one with --run-dir`);
}

/**
 * Makes the directory, mode 0755, or checks the one that is there: not a link, ours, and nobody
 * else may write to it. Its mode stays as it is, so that a private one stays private.
 */
export function prepareRunDirectory(path: string): void {
  try {
    // Not at the mercy of our umask: hosts of other users pass through it.
    if (mkdirSync(path, { recursive: true }) !== undefined) chmodSync(path, 0o755);
  } catch (error) {
    const code = isCoded(error) ? error.code : 'EIO';
    throw stpError(
      code,
      `run directory ${path} cannot be made (${messageOf(error)}); choose another with --run-dir`,
    );
  }
  const found = lstatSync(path);
  assertOwnDirectory(path, found, ownUid());
  if ((found.mode & 0o022) !== 0) {
    const mode = (found.mode & 0o777).toString(8);
    throw stpError(
      'EACCES',
      `run directory ${path} may be written to by others (mode ${mode}), who could put their own ` +
        `sockets there; run: chmod go-w ${path}`,
    );
  }
}

/** Another daemon serves the run directory. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError';
  readonly code = 'EEXIST';
  constructor(
    readonly runDirectory: string,
    readonly pid: number | undefined,
  ) {
    super(
      `stpd ${pid === undefined ? '' : `(pid ${pid}) `}already serves ${runDirectory}; stop it ` +
        `with: stpd stop --run-dir ${runDirectory}, or give this one another --run-dir`,
    );
  }
}

/** Who asks whether the lock is free holds it for an instant: such a one is waited out. */
const LOCK_ATTEMPTS = 20;
const LOCK_ATTEMPT_MS = 10;

function parsePid(text: string): number | undefined {
  const pid = /^([1-9][0-9]{0,9})\n/.exec(text)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/** The PID in the lock file, for messages: undefined where there is none, or none to be read. */
export function pidInLockFile(runDirectory: string): number | undefined {
  try {
    return parsePid(readFileSync(join(runDirectory, LOCK_FILE), 'utf8'));
  } catch {
    return undefined;
  }
}

/** The array that the lock file's holder serves, 32 hexadecimal digits; undefined before it does. */
export function instanceInLockFile(runDirectory: string): string | undefined {
  const text = readFileSync(join(runDirectory, LOCK_FILE), 'utf8');
  return /^[0-9]+\n([0-9a-f]{32})\n/.exec(text)?.[1];
}

const sameFile = (a: Stats, b: Stats): boolean => a.dev === b.dev && a.ino === b.ino;

/** The locked run directory of a running daemon. The lock lasts until the process has ended. */
export class RunDirectory {
  private constructor(
    readonly path: string,
    /** Open, and with it locked, until the process ends. */
    private readonly lock: number,
  ) {}

  /**
   * Takes the lock, writes our PID into it and removes the sockets of a daemon that was killed.
   * @throws AlreadyRunningError
   */
  static async take(path: string, lockFile: LockFile): Promise<RunDirectory> {
    prepareRunDirectory(path);
    const lockPath = join(path, LOCK_FILE);
    for (let attempt = 1; ; attempt += 1) {
      const flags = constants.O_CREAT | constants.O_RDWR | constants.O_NOFOLLOW;
      const fd = openSync(lockPath, flags, 0o600);
      if (lockFile(fd)) {
        // A daemon that ended may have removed the file between our open and our lock.
        const there = statIfThere(lockPath);
        if (there !== undefined && sameFile(there, fstatSync(fd))) {
          ftruncateSync(fd, 0);
          writeSync(fd, `${process.pid}\n`, 0);
          const run = new RunDirectory(path, fd);
          run.removeSockets();
          return run;
        }
      }
      closeSync(fd);
      if (attempt === LOCK_ATTEMPTS) throw new AlreadyRunningError(path, pidInLockFile(path));
      await delay(LOCK_ATTEMPT_MS);
    }
  }

  /** Says which array is served here, for tools that read its memory. */
  name(instance: string): void {
    writeSync(this.lock, `${process.pid}\n${instance}\n`, 0);
  }

  /** Only sockets: whatever else has such a name is not ours to remove. */
  removeSockets(): void {
    for (const name of [ATTACH_SOCKET, CONTROL_SOCKET]) {
      const path = join(this.path, name);
      const found = statIfThere(path);
      if (found === undefined) continue;
      if (!found.isSocket()) {
        throw stpError('EEXIST', `${path} is in the way and is not a socket; remove it by hand`);
      }
      unlinkSync(path);
    }
  }

  /** Leaves nothing of ours but a log. The lock itself is held on: our end is what frees it. */
  leave(): void {
    this.removeSockets();
    unlinkSync(join(this.path, LOCK_FILE));
  }
}

/** The process that holds a run directory's lock. */
export interface Holder {
  readonly pid: number;
  /** Start time in clock ticks since boot: with the PID it is an identity. */
  readonly startTime: string;
}

/** State letter and start time of a process; undefined when it is gone. See proc_pid_stat(5). */
function processStat(pid: number): { state: string; startTime: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name, in parentheses, may itself contain blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}

/** True until the process has ended; one that waits for its parent to collect it has ended. */
export function isAlive(holder: Holder): boolean {
  const stat = processStat(holder.pid);
  return stat !== undefined && stat.startTime === holder.startTime && !/[ZX]/.test(stat.state);
}

/** True while a signal or a debugger keeps the process from running. */
export function isStopped(holder: Holder): boolean {
  const stat = processStat(holder.pid);
  return stat !== undefined && stat.startTime === holder.startTime && /[Tt]/.test(stat.state);
}

function hasOpen(pid: number, file: Stats): boolean {
  let fds: string[];
  try {
    fds = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return false;
  }
  return fds.some((fd) => {
    try {
      return sameFile(statSync(`/proc/${pid}/fd/${fd}`), file);
    } catch {
      return false;
    }
  });
}

/**
 * Finds the daemon of a run directory by its lock. Undefined: nobody serves it.
 *
 * @throws EACCES where the lock belongs to another user; ESRCH where it is held, but not by the
 *   process whose number it has here (another PID namespace)
 */
export async function findHolder(
  runDirectory: string,
  lockFile: LockFile,
): Promise<Holder | undefined> {
  const path = join(runDirectory, LOCK_FILE);
  let pid: number | undefined;
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt += 1) {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    } catch (error) {
      if (isCoded(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined;
      if (isCoded(error) && error.code === 'EACCES') throw notYours(runDirectory, path);
      throw error;
    }
    try {
      if (lockFile(fd)) return undefined;
      pid = parsePid(readFileSync(fd, 'utf8'));
      const stat = pid === undefined ? undefined : processStat(pid);
      if (pid !== undefined && stat !== undefined && hasOpen(pid, fstatSync(fd))) {
        return { pid, startTime: stat.startTime };
      }
    } finally {
      closeSync(fd);
    }
    // It has locked but not yet written its number, or is another who asks as we do.
    await delay(LOCK_ATTEMPT_MS);
  }
  throw stpError(
    'ESRCH',
    `${path} is held, but not by a process that is pid ${pid ?? '?'} here: stpd may run in ` +
      'another container; ask there',
  );
}

/** The uid a path belongs to; undefined where it cannot be told. */
export function ownerOf(path: string): number | undefined {
  try {
    return lstatSync(path).uid;
  } catch {
    return undefined;
  }
}

function notYours(runDirectory: string, path: string): Error {
  const owner = ownerOf(path);
  const who = owner === undefined ? 'its owner' : `uid ${owner}`;
  return stpError(
    'EACCES',
    `stpd on ${runDirectory} belongs to ${who}; only they and root may ask`,
  );
}
