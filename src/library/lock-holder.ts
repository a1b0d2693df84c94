/**
 * Who holds a lock of the library, in words: from /proc/locks, which lists the holders that can be
 * seen from this PID namespace. For messages only: nothing is decided by it. Any thread.
 */
import { fstatSync, readFileSync } from 'node:fs';

const COMMAND_CHARACTERS_MAX = 120;
const UNSEEN =
  'a process that cannot be seen from here, in another container or on another machine';

/** `12: FLOCK  ADVISORY  WRITE 4711 fd:01:393220 0 EOF` */
const LINE = /^\d+: FLOCK +\S+ +\S+ +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /;

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function describe(pid: string): string {
  const command = read(`/proc/${pid}/cmdline`)
    .replace(/\0/g, ' ')
    .replace(/[^\x20-\x7e]/g, '?')
    .trim()
    .slice(0, COMMAND_CHARACTERS_MAX);
  const [state] = (read(`/proc/${pid}/stat`).split(') ').at(-1) ?? '').split(' ');
  const stopped = state === 'T' || state === 't' ? ', which is stopped' : '';
  return `process ${pid}${command === '' ? '' : ` (${command})`}${stopped}`;
}

/** @param fd of the file that is locked */
export function holderOf(fd: number): string {
  const inode = String(fstatSync(fd, { bigint: true }).ino);
  for (const line of read('/proc/locks').split('\n')) {
    const [, pid, of] = LINE.exec(line) ?? [];
    if (of === inode && pid !== undefined && pid !== '0') return describe(pid);
  }
  return UNSEEN;
}
