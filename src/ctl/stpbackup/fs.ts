/** stpbackup fs HOST:PATH... */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { STREAMS_MAX } from '../../backup/limits.js';
import { parseSize } from '../../daemon/size.js';
import { withServer } from './ask-server.js';
import { parseHostPath, runSession, type SessionVerbOptions, withSession } from './session-verb.js';

interface FsOptions extends SessionVerbOptions {
  readonly incremental?: boolean;
  readonly full?: boolean;
  readonly exclude?: readonly string[];
  readonly oneFileSystem?: boolean;
  readonly excludeCaches?: boolean;
  readonly dryRun?: boolean;
  readonly streams?: number;
  /** False with --no-resume. */
  readonly resume?: boolean;
  readonly deltaFrom?: number;
  readonly volumeSize?: string;
  readonly compress?: string;
}

function parseStreams(text: string): number {
  const streams = Number(text);
  if (Number.isInteger(streams) && streams >= 1 && streams <= STREAMS_MAX) return streams;
  throw new ConfigurationError(`--streams is ${text}; give a number from 1 to ${STREAMS_MAX}`);
}

function bytesOf(option: string, size: string): number {
  const parsed = parseSize(size);
  if ('problem' in parsed) throw new ConfigurationError(`${option}: ${parsed.problem}`);
  return parsed.bytes;
}

async function backUp(given: readonly string[], options: FsOptions): Promise<void> {
  const all = given.map(parseHostPath);
  const hosts = new Set(all.map(({ host }) => host));
  const [host] = hosts;
  if (hosts.size !== 1) {
    throw new ConfigurationError(`one backup has one host, not ${[...hosts].join(' and ')}`);
  }
  if (options.incremental && options.full) {
    throw new ConfigurationError('--incremental and --full exclude each other');
  }
  await runSession(options, '/v1/backup', {
    host,
    paths: all.map(({ path }) => path),
    incremental: options.incremental ?? false,
    dryRun: options.dryRun ?? false,
    streams: options.streams,
    resume: options.resume ?? true,
    deltaFrom: options.deltaFrom,
    selection: {
      exclude: options.exclude ?? [],
      oneFileSystem: options.oneFileSystem ?? false,
      excludeCaches: options.excludeCaches ?? false,
    },
    media: {
      ...(options.volumeSize !== undefined && {
        volumeBytes: bytesOf('--volume-size', options.volumeSize),
      }),
      ...(options.compress !== undefined && { compress: options.compress }),
    },
  });
}

export function addFs(program: Command): void {
  const fs = program
    .command('fs')
    .description('backs up file trees of a host into a new set')
    .argument('<host:path...>', 'host of the server configuration, and an absolute path there');
  withSession(withServer(fs))
    .option('--full', 'all of the trees, the default')
    .option('--incremental', 'what differs from the last set of the same host and paths')
    .option(
      '--exclude <pattern>',
      'leave out what matches, as in .gitignore, from / on; !PATTERN includes again; repeatable',
      (pattern: string, before: string[]) => [...before, pattern],
      [],
    )
    .option('--one-file-system', 'do not enter other file systems')
    .option('--exclude-caches', 'of directories with a CACHEDIR.TAG only the tag')
    .option('--streams <n>', 'streams that read large files at a time, 1 to 8', parseStreams)
    .option('--no-resume', 'send everything again that an interrupted backup left')
    .option(
      '--delta-from <size>',
      'of files from this size on store only changed blocks, such as 64MiB; 0: never (default 4MiB)',
      (size: string) => bytesOf('--delta-from', size),
    )
    .option('--volume-size <size>', 'cut media into files of at most this, such as 4GiB; 0: do not')
    .option('--compress <how>', 'zstd, zstd:LEVEL (1 to 19) or none')
    .option('--dry-run', 'store nothing, say what would be stored')
    .action(backUp);
}
