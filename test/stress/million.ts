/**
 * `npm run test:million [-- --files N] [--directory D] [--restore]`: a tree of a million small files,
 * a full backup and an unchanged incremental one (and a restore), by real processes. Prints time,
 * files a second of the whole command, and the peak RssAnon of client and server; fails over
 * RSS_ANON_BYTES_MAX each. Half an hour and 8 GB, on a tmpfs where there is one with room.
 */
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KillsHouse, type Role } from '../fault/kills-house.js';

/** What the issue asks for. */
const RSS_ANON_BYTES_MAX = 300 * 2 ** 20;
const SAMPLE_MS = 20;
const FILES_PER_DIRECTORY = 1000;
/** A page of data, an inode and a name in a tmpfs; its header and data in the media. */
const ROOM_PER_FILE_BYTES = 8000;
const MiB = 2 ** 20;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '1000000' },
    directory: { type: 'string' },
    restore: { type: 'boolean', default: false },
  },
});
const files = Number(values.files);

function place(): string {
  if (values.directory !== undefined) return values.directory;
  const { bavail, bsize } = statfsSync('/dev/shm');
  return bavail * bsize > files * ROOM_PER_FILE_BYTES ? '/dev/shm' : tmpdir();
}

function makeFiles(root: string): void {
  for (let i = 0; i < files; i++) {
    const directory = join(root, `d${Math.floor(i / FILES_PER_DIRECTORY)}`);
    if (i % FILES_PER_DIRECTORY === 0) mkdirSync(directory);
    writeFileSync(join(directory, `file-${i}`), `the content of file ${i}\n`.repeat(4));
  }
}

function rssAnonBytes(pid: number): number {
  try {
    const [, kib] =
      /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kib ?? 0) * 1024;
  } catch {
    return 0;
  }
}

const roles: readonly Role[] = ['client', 'server'];
const house = await KillsHouse.start(place(), '16MiB');

/** Runs a verb; says how long it took and what the roles had at most meanwhile. */
async function measured(name: string, ...args: string[]): Promise<void> {
  const peaks = new Map<Role, number>();
  const sample = (): void => {
    for (const role of roles) {
      const now = rssAnonBytes(house.role(role).child.pid as number);
      peaks.set(role, Math.max(now, peaks.get(role) ?? 0));
    }
  };
  const timer = setInterval(sample, SAMPLE_MS);
  const startMs = performance.now();
  await house.run('stpbackup', ...args, '--config', house.serverConfig);
  const seconds = (performance.now() - startMs) / 1000;
  clearInterval(timer);
  sample();
  const memory = roles.map((role) => {
    const bytes = peaks.get(role) ?? 0;
    if (bytes > RSS_ANON_BYTES_MAX) process.exitCode = 1;
    return `${role} ${(bytes / MiB).toFixed(0)} MiB`;
  });
  const rate = Math.round(files / seconds);
  process.stdout.write(
    `${name}: ${seconds.toFixed(1)} s, ${rate} files/s, peak RssAnon ${memory.join(', ')}\n`,
  );
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void house.destroy(true).then(() => process.exit(1)));
}
try {
  process.stdout.write(`${files} files in ${house.source}\n`);
  makeFiles(house.source);
  const tree = `host1:${house.source}`;
  await measured('full', 'fs', tree);
  await measured('unchanged incremental', 'fs', tree, '--incremental');
  await measured('unchanged incremental', 'fs', tree, '--incremental');
  if (values.restore) await measured('restore', 'restore', 'latest', `host1:${house.out}/r`);
} finally {
  await house.destroy(true);
}
