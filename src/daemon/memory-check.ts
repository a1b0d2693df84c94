/**
 * Refuses an array that the machine cannot hold, before a byte of it is allocated.
 *
 * A memfd is claimed and populated by stpd, so its pages count as available memory (MemAvailable),
 * against stpd's memory cgroup and each of its ancestors, and one file against the file size
 * limit, which would otherwise end the process with SIGXFSZ. What a cgroup holds of clean file
 * cache is reclaimed under pressure and counts as free, as MemAvailable has it. Swap does not
 * count: a board that is swapped out is not memory speed.
 *
 * Reads /proc and the cgroup files only; a source that is missing or has no limit says nothing.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { registerGeometry, SEGMENT_MAP, stgGeometry } from '../layout/geometry.js';
import { BOARDS_MIN, STG_CONNECTIONS_MAX, STG_MEMBERS_DEFAULT, STG_PORTS_MAX } from '../limits.js';
import type { Configuration } from './configuration.js';
import { formatSize, humanSize } from './size.js';

/** Left to stpd itself: its heap, its threads, and the rings of its hosts. */
const DAEMON_BYTES = 96 << 20;

export interface MemoryLimit {
  readonly bytes: number;
  /** Where the number comes from, for a message. */
  readonly source: string;
}

/** An array larger than the machine. */
export class MemoryRefusedError extends Error {
  override readonly name = 'MemoryRefusedError';
  readonly code = 'ENOMEM';
}

/** Memory that a running array takes when all its boards are in one STG. */
export function memoryNeeded(configuration: Configuration): number {
  const { boards, boardBytes, connections } = configuration;
  const shape = {
    boardCount: boards,
    boardBytes,
    connectionCount: connections,
    memberCount: STG_MEMBERS_DEFAULT,
    boardMax: boards,
    connectionMax: STG_CONNECTIONS_MAX,
  };
  const registers =
    registerGeometry(shape.memberCount, STG_PORTS_MAX).bytes + SEGMENT_MAP.arrayRegisterBytes;
  return stgGeometry(shape).bytes + registers + SEGMENT_MAP.superblockBytes + DAEMON_BYTES;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** A file that holds one number; undefined for "max", absent, or the kernel's "no limit". */
function numberOf(path: string): number | undefined {
  const text = textOf(path)?.trim();
  if (text === undefined || !/^[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  return value < 2 ** 60 ? value : undefined;
}

const statOf = (path: string, key: string): number =>
  Number(new RegExp(`^${key} ([0-9]+)$`, 'm').exec(textOf(path) ?? '')?.[1] ?? 0);

interface CgroupFiles {
  readonly limits: readonly string[];
  readonly usage: string;
  /** Key of memory.stat for file cache that is easily reclaimed. */
  readonly cache: string;
}

const VERSION_1: CgroupFiles = {
  limits: ['memory.limit_in_bytes'],
  usage: 'memory.usage_in_bytes',
  cache: 'total_inactive_file',
};
/** Above memory.high the kernel does not kill, but slows every allocation to a crawl. */
const VERSION_2: CgroupFiles = {
  limits: ['memory.max', 'memory.high'],
  usage: 'memory.current',
  cache: 'inactive_file',
};

/** What a cgroup, given by its directories from itself up to the mount, leaves. */
function cgroupLimits(directories: readonly string[], files: CgroupFiles): MemoryLimit[] {
  const limits: MemoryLimit[] = [];
  for (const directory of directories) {
    const usage = numberOf(join(directory, files.usage));
    if (usage === undefined) continue;
    const cache = statOf(join(directory, 'memory.stat'), files.cache);
    for (const file of files.limits) {
      const limit = numberOf(join(directory, file));
      if (limit === undefined) continue;
      const bytes = Math.max(0, limit - Math.max(0, usage - cache));
      limits.push({ bytes, source: `the limit in ${join(directory, file)}` });
    }
  }
  return limits;
}

interface Mount {
  /** Path of the cgroup that is mounted, and where. */
  readonly root: string;
  readonly point: string;
}

/** The mount of the memory controller of this version. See proc_pid_mountinfo(5). */
function cgroupMount(mountinfo: string, version: 1 | 2): Mount | undefined {
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ');
    const [type, , options] = right?.split(' ') ?? [];
    const fits =
      version === 2
        ? type === 'cgroup2'
        : type === 'cgroup' && options?.split(',').includes('memory');
    const [, , , root, point] = left?.split(' ') ?? [];
    if (fits && root !== undefined && point !== undefined) return { root, point };
  }
  return undefined;
}

/** The directories of a cgroup and its ancestors, as far as the mount shows them. */
function cgroupDirectories(root: string, mount: Mount, path: string): string[] {
  const inside =
    mount.root !== '/' && path.startsWith(mount.root) ? path.slice(mount.root.length) : path;
  const parts = inside.split('/').filter((part) => part !== '' && part !== '..');
  const directories: string[] = [];
  for (let count = parts.length; count >= 0; count -= 1) {
    directories.push(join(root, mount.point, ...parts.slice(0, count)));
  }
  return directories;
}

/**
 * Every limit that this process is under.
 * @param root where /proc and /sys are looked for
 */
export function memoryLimits(root = '/'): MemoryLimit[] {
  const limits: MemoryLimit[] = [];
  const available = /^MemAvailable: +([0-9]+) kB$/m.exec(textOf(join(root, 'proc/meminfo')) ?? '');
  if (available !== null) {
    limits.push({ bytes: Number(available[1]) * 1024, source: 'MemAvailable in /proc/meminfo' });
  }
  const mountinfo = textOf(join(root, 'proc/self/mountinfo')) ?? '';
  for (const line of (textOf(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [id, controllers, ...rest] = line.split(':');
    const version = id === '0' ? 2 : controllers?.split(',').includes('memory') ? 1 : undefined;
    if (version === undefined) continue;
    const mount = cgroupMount(mountinfo, version);
    if (mount === undefined) continue;
    const directories = cgroupDirectories(root, mount, rest.join(':'));
    limits.push(...cgroupLimits(directories, version === 2 ? VERSION_2 : VERSION_1));
  }
  const fileSize = /^Max file size +([0-9]+) /m.exec(textOf(join(root, 'proc/self/limits')) ?? '');
  if (fileSize !== null) {
    limits.push({ bytes: Number(fileSize[1]), source: 'the file size limit (ulimit -f)' });
  }
  return limits;
}

/**
 * @throws MemoryRefusedError with the numbers and what to do
 */
export function checkMemory(configuration: Configuration, limits = memoryLimits()): void {
  const needed = memoryNeeded(configuration);
  const [tightest] = [...limits].sort((a, b) => a.bytes - b.bytes);
  if (tightest === undefined || needed <= tightest.bytes) return;
  const { boards, boardBytes } = configuration;
  const boardsBytes = boards * boardBytes;
  const possible = Math.floor((tightest.bytes - (needed - boardsBytes)) / boardBytes);
  const advice =
    possible >= BOARDS_MIN
      ? `ask for --memory ${formatSize(possible * boardBytes)} or less, or free memory`
      : 'free memory, raise that limit, or ask for fewer or smaller boards';
  throw new MemoryRefusedError(
    `memory: ${boards} boards of ${formatSize(boardBytes)} are ${humanSize(boardsBytes)}, with ` +
      `what stpd needs beside them ${humanSize(needed)}; this machine can give ` +
      `${humanSize(tightest.bytes)} (${tightest.source}): ${advice}`,
  );
}
