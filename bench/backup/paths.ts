/**
 * Who backs up, and how one round of each goes: stpbackup, and what people would run instead. What
 * is not measured (an empty repository, the removal of what a round made) lies outside the clock.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SessionReport } from '../../src/backup/server.js';
import type { BackupCase } from '../harness/cases.js';
import type { RoundResult } from '../harness/path.js';
import { quoted, type Timed, timed } from './command.js';
import { BackupHouse } from './house.js';
import type { TreeFacts } from './trees.js';

export interface BackupPath {
  readonly name: string;
  readonly cases: readonly BackupCase[];
  /** The program that must be there. */
  readonly needs?: string;
  /** Before the first round of `unchanged`: the backup that nothing changes after. */
  prepare?(tree: TreeFacts): Promise<void>;
  round(name: BackupCase, tree: TreeFacts): Promise<RoundResult>;
}

const entriesOf = (tree: TreeFacts): number => tree.files + tree.directories;

/** What a round did; the same of every path that took all of the tree. */
const digestOf = (entries: number, bytes: number): string =>
  createHash('sha256').update(`${entries} entries, ${bytes} bytes`).digest('hex').slice(0, 16);

const resultOf = (tree: TreeFacts, { seconds, cpuSeconds }: Timed, rss = 0): RoundResult => ({
  bytes: tree.bytes,
  messages: tree.files,
  seconds,
  cpuSeconds,
  rssAnonBytes: rss,
  digest: digestOf(entriesOf(tree), tree.bytes),
});

/** `stpbackup fs`, the whole command, against a client and a server that run. */
export function stpbackupPath(house: BackupHouse): BackupPath {
  const backUp = async (tree: TreeFacts, ...options: string[]) => {
    const result = await house.run('fs', `${BackupHouse.host}:${tree.path}`, '--json', ...options);
    // Events, one a line; the last one is the summary.
    const report = JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '') as SessionReport;
    return { ...result, report };
  };
  const full = async (tree: TreeFacts) => {
    const { report, ...result } = await backUp(tree);
    if (report.entries !== entriesOf(tree) || report.bytes !== tree.bytes || report.warnings > 0) {
      throw new Error(`stpbackup took something else than ${tree.path}: ${JSON.stringify(report)}`);
    }
    return { report, result };
  };
  return {
    name: 'stpbackup',
    cases: ['many-small', 'few-large', 'unchanged'],
    async prepare(tree) {
      await full(tree);
    },
    async round(name, tree) {
      if (name !== 'unchanged') {
        const { report, result } = await full(tree);
        await house.run('forget', report.set, '--prune');
        return resultOf(tree, result, result.rssAnonBytes);
      }
      const { report, ...result } = await backUp(tree, '--incremental');
      if (report.bytes > 0)
        throw new Error(`${tree.path} was unchanged: ${JSON.stringify(report)}`);
      return resultOf(tree, result, result.rssAnonBytes);
    },
  };
}

/** GNU tar into a pipe: the tree is read once and nothing is kept. */
const tarCat: BackupPath = {
  name: 'tar-cat',
  cases: ['many-small', 'few-large'],
  needs: 'tar',
  round: async (_name, tree) =>
    resultOf(tree, await timed(`tar cf - ${quoted(tree.path)} | cat >/dev/null`)),
};

const copy = (directory: string): BackupPath => ({
  name: 'cp-a',
  cases: ['many-small', 'few-large'],
  needs: 'cp',
  async round(_name, tree) {
    const to = join(directory, 'copy');
    const result = await timed(`cp -a ${quoted(tree.path)} ${quoted(to)}`);
    rmSync(to, { recursive: true });
    return resultOf(tree, result);
  },
});

interface Repository {
  readonly name: string;
  readonly environment: (base: string) => NodeJS.ProcessEnv;
  readonly init: (repository: string) => string;
  readonly create: (repository: string, tree: string) => string;
}

/** A program with a repository: full backups go into an empty one each, with empty caches. */
function repositoryPath(directory: string, of: Repository): BackupPath {
  const rig = (kind: 'empty' | 'kept') => {
    const base = join(directory, `${of.name}-${kind}`);
    return {
      base,
      repository: quoted(join(base, 'repository')),
      environment: { HOME: base, ...of.environment(base) },
    };
  };
  const empty = async (kind: 'empty' | 'kept'): Promise<void> => {
    const { base, repository, environment } = rig(kind);
    rmSync(base, { recursive: true, force: true });
    mkdirSync(base);
    await timed(`${of.init(repository)} >&2`, environment);
  };
  const create = (kind: 'empty' | 'kept', tree: TreeFacts): Promise<Timed> => {
    const { repository, environment } = rig(kind);
    return timed(of.create(repository, quoted(tree.path)), environment);
  };
  return {
    name: of.name,
    cases: ['many-small', 'unchanged'],
    needs: of.name,
    async prepare(tree) {
      await empty('kept');
      await create('kept', tree);
    },
    async round(name, tree) {
      if (name === 'unchanged') return resultOf(tree, await create('kept', tree));
      await empty('empty');
      const result = await create('empty', tree);
      rmSync(rig('empty').base, { recursive: true });
      return resultOf(tree, result);
    },
  };
}

const borg: Repository = {
  name: 'borg',
  environment: (base) => ({
    BORG_BASE_DIR: base,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
  }),
  init: (repository) => `borg init --encryption none ${repository}`,
  create: (repository, tree) =>
    `borg create --compression none ${repository}::{now:%Y%m%dT%H%M%S.%f} ${tree}`,
};

const restic: Repository = {
  name: 'restic',
  environment: (base) => ({ XDG_CACHE_HOME: base, RESTIC_PASSWORD: 'none' }),
  init: (repository) => `restic init --repo ${repository}`,
  create: (repository, tree) =>
    `restic backup --quiet --compression off --repo ${repository} ${tree}`,
};

export const rivalPaths = (directory: string): BackupPath[] => [
  tarCat,
  copy(directory),
  repositoryPath(directory, borg),
  repositoryPath(directory, restic),
];
