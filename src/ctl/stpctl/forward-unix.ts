/**
 * The name of a Unix socket in the file system.
 *
 * A socket file outlives its process. What nobody listens on is stale, and is replaced; what
 * somebody listens on is refused, and so is a name that is no socket. Two forwards that find the
 * same stale file at once cannot take each other's place: the file is moved aside and asked again
 * before it goes, and bind(2) takes a name only where there is none. Main thread.
 */
import { chmodSync, linkSync, lstatSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { isCoded, messageOf, stpError } from '../../errors.js';

type Found = 'nothing' | 'stale' | 'alive';

function look(path: string): Promise<Found> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('alive');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve('stale');
      else if (error.code === 'ENOENT') resolve('nothing');
      else if (error.code === 'EAGAIN') resolve('alive'); /* its backlog is full */
      else if (error.code === 'EACCES' || error.code === 'EPERM') {
        reject(stpError('EACCES', `${path} belongs to somebody else; choose another path`));
      } else reject(error);
    });
  });
}

const inUse = (path: string): Error =>
  stpError('EADDRINUSE', `another process listens on ${path}; stop it, or choose another path`);

/**
 * Removes what a dead process left at `path`.
 * @throws EADDRINUSE (somebody listens there), EEXIST (something else is there), EACCES, ENOENT (no
 *   such directory)
 */
export async function clearUnixPath(path: string): Promise<void> {
  const directory = dirname(path);
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw stpError('ENOENT', `${directory} is no directory, so ${path} cannot be there; make it`);
  }
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw stpError('EEXIST', `${path} is in the way and is no socket; remove it by hand`);
  }
  const found = await look(path);
  if (found === 'nothing') return;
  if (found === 'alive') throw inUse(path);
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (isCoded(error) && error.code === 'ENOENT') return; /* another forward was faster */
    throw stpError(
      isCoded(error) ? error.code : 'EIO',
      `nobody listens on ${path}, but it cannot be replaced (${messageOf(error)}); remove it by hand`,
    );
  }
  const moved = await look(aside);
  if (moved === 'alive') {
    /* It came to life in between: back with it, unless its name is taken already. */
    try {
      linkSync(aside, path);
    } catch (error) {
      if (!isCoded(error) || error.code !== 'EEXIST') throw error;
    }
    unlinkSync(aside);
    throw inUse(path);
  }
  if (moved === 'stale') unlinkSync(aside);
}

/** Listens with the file's mode right from its first moment; libuv removes it at close. */
export function listenUnix(server: Server, path: string, mode: number, backlog: number): void {
  const before = process.umask(0o777 & ~mode);
  try {
    server.listen({ path, backlog });
  } finally {
    process.umask(before);
  }
  /* The umask only takes bits away from 0777, so this changes nothing but what ACLs have added. */
  if (server.listening) chmodSync(path, mode);
}
