/**
 * Which two CPUs a run uses.
 *
 * The probe has one side on each, so "near" describes these two and no others; all processes of all
 * paths are kept on the pair. They are not pinned to one CPU each: a process that may use one CPU
 * only is right not to spin there (the array's event loops and blocking calls look at their
 * affinity), and the run would measure a program that no user has. Two busy processes on two CPUs
 * have one each anyway. Only memcpy-2p, which always spins, is pinned.
 */
import { readFileSync } from 'node:fs';

export type CpuPair = readonly [number, number];

/** "0-3,8" to [0, 1, 2, 3, 8]. */
export function parseCpuList(text: string): number[] {
  const cpus: number[] = [];
  for (const part of text.trim().split(',')) {
    const [first, last = first] = part.split('-').map(Number) as [number, number?];
    for (let cpu = first; cpu <= last; cpu++) cpus.push(cpu);
  }
  return cpus;
}

const topology = (cpu: number, file: string): number[] | undefined => {
  try {
    return parseCpuList(readFileSync(`/sys/devices/system/cpu/cpu${cpu}/${file}`, 'utf8'));
  } catch {
    return undefined;
  }
};

/**
 * The first CPU this process may use, and the first other that is no hyperthread of it, one that
 * shares its last-level cache if there is one.
 * @returns undefined where only one CPU may be used
 */
export function chooseCpus(): CpuPair | undefined {
  const status = readFileSync('/proc/self/status', 'utf8');
  const allowed = parseCpuList(/^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '0');
  const [first, ...others] = allowed;
  if (first === undefined || others.length === 0) return undefined;
  const siblings = topology(first, 'topology/thread_siblings_list') ?? [];
  const cache = topology(first, 'cache/index3/shared_cpu_list') ?? [];
  const cores = others.filter((cpu) => !siblings.includes(cpu));
  const second = cores.find((cpu) => cache.includes(cpu)) ?? cores[0] ?? (others[0] as number);
  return [first, second];
}
