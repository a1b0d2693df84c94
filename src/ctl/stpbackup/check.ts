/** stpbackup check [SET...] */
import { randomInt } from 'node:crypto';
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { monotonicMs } from '../../clock.js';
import type { CheckDepth, SetProblem } from '../../library/check.js';
import { checkLibrary, type LibraryCheck } from '../../library/check-library.js';
import { EXIT_DAMAGED } from '../command-line.js';
import { humanSize, printable } from '../output.js';
import { sheet } from '../table.js';
import { type LibraryPlace, readLibrary, withLibrary, withMedia } from './open-library.js';
import { type WorkOptions, WorkView, withWork } from './work-view.js';

interface CheckOptions extends LibraryPlace, WorkOptions {
  readonly structure?: true;
  readonly data?: true;
  readonly share?: string;
  readonly seed?: string;
}

interface CheckDocument extends LibraryCheck {
  readonly depth: CheckDepth['kind'];
  readonly seed: number | null;
  readonly seconds: number;
  readonly found: readonly SetProblem[];
  /** Volumes that were moved off. */
  readonly absent: readonly { set: string; volume: string; name: string }[];
}

const SEED_MAX = 2 ** 31 - 1;
/** Problems after this many are only counted: a disk that died has one for each file. */
const PROBLEMS_KEPT_MAX = 10_000;

/** Numbers from 0 to 1 that follow from the seed (splitmix, 32 bits). */
function drawFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

function depthOf(options: CheckOptions, seed: number): CheckDepth {
  const given = [options.structure, options.data, options.share].filter((o) => o !== undefined);
  if (given.length > 1) {
    throw new ConfigurationError('give one of --structure, --data and --share PERCENT');
  }
  if (options.data) return { kind: 'data' };
  if (options.share === undefined) return { kind: 'structure' };
  const percent = Number(options.share);
  if (!(percent > 0 && percent <= 100)) {
    throw new ConfigurationError(
      `--share ${options.share} is not a percentage over 0 and up to 100`,
    );
  }
  return { kind: 'share', share: percent / 100, draw: drawFrom(seed) };
}

function seedOf(options: CheckOptions): number {
  if (options.seed === undefined) return randomInt(SEED_MAX);
  const seed = Number(options.seed);
  if (Number.isInteger(seed) && seed >= 0 && seed <= SEED_MAX) return seed;
  throw new ConfigurationError(`--seed ${options.seed} is not a whole number up to ${SEED_MAX}`);
}

function volumeRows({ volumes, absentVolumes, sealedSets }: CheckDocument): [string, string][] {
  const rows: [string, string][] = [];
  if (volumes > 0) rows.push(['volumes', `${volumes}, ${absentVolumes} not here`]);
  if (sealedSets.length > 0) {
    const what = `${sealedSets.length} without their identity: only their files were compared`;
    rows.push(['encrypted', what]);
  }
  return rows;
}

function summaryText(d: CheckDocument): string {
  const rate = humanSize(Math.round(d.bytes / Math.max(d.seconds, 0.001)));
  const rows: [string, string][] = [
    ['checked', d.depth === 'share' ? `structure, and a share of the data` : d.depth],
    ['sets', `${d.sets}, ${d.damagedSets.length} damaged`],
    ['entries', `${d.entries}`],
    ['files read', `${d.filesRead}`],
    ['media', `${d.bytes} bytes (${humanSize(d.bytes)})`],
    ...volumeRows(d),
    ['time', `${d.seconds.toFixed(2)} s, ${rate}/s`],
    ['problems', `${d.problems}`],
  ];
  if (d.seed !== null) rows.push(['seed', `${d.seed}`]);
  return sheet(rows);
}

function check(names: readonly string[], options: CheckOptions): void {
  const seed = seedOf(options);
  const depth = depthOf(options, seed);
  const startMs = monotonicMs();
  const view = new WorkView('check', options);
  const found: SetProblem[] = [];
  const absent: { set: string; volume: string; name: string }[] = [];
  const work = (): CheckDocument => {
    const result = checkLibrary(readLibrary(options), names, depth, {
      onAbsent(set, { text, name }) {
        absent.push({ set, volume: text, name });
        view.problem(set, 'ENOENT', `not here: ${printable(text)}, the file ${name}`);
      },
      onProblem(problem) {
        if (found.length < PROBLEMS_KEPT_MAX) found.push(problem);
        view.problem(problem.set, 'EUCLEAN', `${problem.part}: ${printable(problem.message)}`);
      },
      onProgress: (bytes, total) => view.progress(bytes, total),
    });
    return {
      ...result,
      depth: depth.kind,
      seed: depth.kind === 'share' ? seed : null,
      seconds: (monotonicMs() - startMs) / 1000,
      found,
      absent,
    };
  };
  if (view.run(work, summaryText).problems > 0) process.exitCode = EXIT_DAMAGED;
}

export function addCheck(program: Command): void {
  withWork(
    withMedia(
      withLibrary(
        program
          .command('check')
          .description('checks that sets hold what they promise; all sets when none is named')
          .argument('[set...]', 'ids of sets, the beginning of just one, or latest'),
      ),
    ),
  )
    .option(
      '--structure',
      'digests of summary and manifest, and each header of the media (default)',
    )
    .option('--data', 'structure, each digest of a file, and the digest of the whole media')
    .option('--share <percent>', 'structure, and the data of a random share of the files')
    .option('--seed <number>', 'draw the same share again')
    .action(check);
}
