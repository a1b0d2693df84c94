/** stpbackup wal list, wal prune: archived WAL in the library. Main thread. */
import { type Command, InvalidArgumentError } from 'commander';
import {
  type BaseBackup,
  baseBackupsOf,
  type KeepWal,
  pruneWal,
  type WalFiles,
  type WalPruned,
  walArchives,
} from '../../library/wal-keep.js';
import { humanSize, type OutputOptions, print } from '../output.js';
import { amount, table, text } from '../table.js';
import { changeLibrary, type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

interface WalOptions extends LibraryPlace, OutputOptions {
  readonly host?: string;
  readonly name?: string;
}

interface PruneOptions extends WalOptions {
  readonly keepWal: KeepWal;
  readonly dryRun?: true;
}

/** A timeline of one archive. */
interface TimelineRow {
  readonly host: string;
  readonly name: string;
  readonly timeline: number;
  /** Whole ones. */
  readonly segments: number;
  readonly bytes: number;
  readonly first: string | null;
  readonly last: string | null;
  /** Between the first and the last: moments behind them cannot be reached from before them. */
  readonly missing: number;
  /** When the last one came, ISO 8601, UTC. */
  readonly archivedAt: string | null;
  /** How many base backups begin here. */
  readonly baseBackups: number;
}

interface WalDocument {
  readonly timelines: readonly TimelineRow[];
}

function timelinesOf(archive: WalFiles, backups: readonly BaseBackup[]): TimelineRow[] {
  const { host, name, files } = archive;
  const numbers = [...new Set(files.map(({ timeline }) => timeline))].sort((a, b) => a - b);
  return numbers.map((timeline) => {
    const all = files.filter((file) => file.timeline === timeline);
    const segments = all.filter(({ kind }) => kind === 'segment');
    const [first, last] = [segments[0], segments.at(-1)];
    const span = first && last ? Number(last.place - first.place) + 1 : 0;
    return {
      host,
      name,
      timeline,
      segments: segments.length,
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
      first: first?.name ?? null,
      last: last?.name ?? null,
      missing: span - segments.length,
      archivedAt: last ? new Date(last.archivedMs).toISOString() : null,
      baseBackups: backups.filter(({ ranges }) => ranges[0]?.timeline === timeline).length,
    };
  });
}

const listColumns = [
  text<TimelineRow>('HOST', (r) => r.host),
  text<TimelineRow>('NAME', (r) => r.name),
  amount<TimelineRow>('TIMELINE', (r) => r.timeline),
  amount<TimelineRow>('SEGMENTS', (r) => r.segments),
  amount<TimelineRow>('MISSING', (r) => r.missing),
  amount<TimelineRow>('BYTES', (r) => r.bytes),
  text<TimelineRow>('FIRST', (r) => r.first ?? '-'),
  text<TimelineRow>('LAST', (r) => r.last ?? '-'),
  text<TimelineRow>('ARCHIVED', (r) => r.archivedAt ?? '-'),
  amount<TimelineRow>('BACKUPS', (r) => r.baseBackups),
];

const pruneColumns = [
  text<WalPruned>('HOST', (p) => p.host),
  text<WalPruned>('NAME', (p) => p.name),
  amount<WalPruned>('KEPT', (p) => p.kept),
  amount<WalPruned>('REMOVED', (p) => p.removed.length),
  text<WalPruned>('FREED', (p) => humanSize(p.bytes)),
  text<WalPruned>('FROM', (p) => p.removed[0] ?? '-'),
  text<WalPruned>('TO', (p) => p.removed.at(-1) ?? '-'),
];

const keepWal = (given: string): KeepWal => {
  if (given === 'all') return 'all';
  if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
  throw new InvalidArgumentError('it is all, or how many base backups, 1 or more.');
};

const selected = (command: Command): Command =>
  withLibrary(command)
    .option('--host <name>', 'only of this host')
    .option('--name <name>', 'only of the PostgreSQL of this name')
    .option('--json', 'print one JSON object');

export function addWal(program: Command): void {
  const wal = program.command('wal').description("archived WAL of PostgreSQL's in the library");
  selected(wal.command('list').description('what is archived, a line for each timeline')).action(
    (options: WalOptions) => {
      const library = readLibrary(options);
      const timelines = walArchives(library, options).flatMap((archive) =>
        timelinesOf(archive, baseBackupsOf(library, archive)),
      );
      print<WalDocument>(options, { timelines }, (d) => table(listColumns, d.timelines));
    },
  );
  selected(wal.command('prune').description('removes what no base backup of its name needs'))
    .option(
      '--keep-wal <n>',
      'later moments are kept of so many base backups, the newest; of the others what makes them consistent',
      keepWal,
      'all',
    )
    .option('--dry-run', 'only say what would be removed')
    .action((options: PruneOptions) => {
      const dryRun = options.dryRun === true;
      const library = dryRun ? readLibrary(options) : changeLibrary(options);
      const pruned = walArchives(library, options).map((archive) =>
        pruneWal(library, archive, options.keepWal, dryRun),
      );
      print(options, { dryRun, pruned }, (d) => table(pruneColumns, d.pruned));
    });
}
