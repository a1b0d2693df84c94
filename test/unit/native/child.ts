/**
 * Runs a small program in a process of its own: for what would end the test's process, or needs
 * another user, or descriptors that are its only ones.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** A watchdog, not an expectation. */
const CHILD_TIMEOUT_MS = 60_000;

export interface ChildOptions {
  /** Inherited as descriptors 3, 4, ... */
  readonly fds?: readonly number[];
  readonly uid?: number;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Started instead of Node, with Node's command line as its last arguments. */
  readonly through?: readonly string[];
  /** Without the addon: for another user, who may not be able to read it. */
  readonly bare?: boolean;
}

/** To import from, where `native` is not imported for the program. */
export const addon = new URL('../../../src/native.js', import.meta.url).href;

/** `program` is an ES module in which `native` is imported. */
export function runChild(program: string, options: ChildOptions = {}): SpawnSyncReturns<string> {
  const prelude = options.bare ? '' : `import { native } from ${JSON.stringify(addon)};\n`;
  const flags = ['--input-type=module', ...(options.flags ?? [])];
  const line = [
    ...(options.through ?? []),
    process.execPath,
    ...flags,
    '-e',
    `${prelude}${program}`,
  ];
  return spawnSync(line[0] as string, line.slice(1), {
    encoding: 'utf8',
    timeout: CHILD_TIMEOUT_MS,
    cwd: '/',
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', ...(options.fds ?? [])],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
}

/** Descriptors of this process, by number. */
export const openDescriptors = (): string[] => readdirSync('/proc/self/fd').sort();

/** The flags of a descriptor, as open(2) has them. */
export function descriptorFlags(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  return Number.parseInt(/^flags:\s*(\d+)$/m.exec(info)?.[1] as string, 8);
}

export const O_CLOEXEC = 0o2000000;
