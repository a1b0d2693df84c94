/**
 * What the kernel says of other processes. A process that is gone counts 0: its round fails anyway.
 */
import { readdirSync, readFileSync } from 'node:fs';

function ofEach(pids: readonly number[], look: (pid: number) => number): number {
  let total = 0;
  for (const pid of pids) {
    try {
      total += look(pid);
    } catch {
      // gone
    }
  }
  return total;
}

/** Anonymous memory now, all processes together. */
export const rssAnonBytes = (pids: readonly number[]): number =>
  ofEach(pids, (pid) => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  });

/** CPU seconds of all threads since their start, as the scheduler counts them: to the nanosecond. */
export const cpuSecondsOf = (pids: readonly number[]): number =>
  ofEach(pids, (pid) => {
    const ns = readdirSync(`/proc/${pid}/task`).map((task) => {
      const [onCpu] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ');
      return Number(onCpu);
    });
    return ns.reduce((sum, n) => sum + n, 0) / 1e9;
  });

/** /proc counts in these, on every Linux that Node supports. */
const TICKS_PER_SECOND = 100;

/** CPU seconds of all threads, of those too that have ended; to the hundredth. */
export const cpuSecondsOfAll = (pids: readonly number[]): number =>
  ofEach(pids, (pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  });

/** Open descriptors. */
export const descriptorCount = (pids: readonly number[]): number =>
  ofEach(pids, (pid) => readdirSync(`/proc/${pid}/fd`).length);
