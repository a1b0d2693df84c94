/**
 * What a run was made with.
 */
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { ROOT } from './native-programs.js';
import type { RunIdentity } from './rows.js';

export function runIdentity(): RunIdentity {
  const git = (...args: string[]): string => {
    const { status, stdout } = spawnSync('git', ['-C', ROOT, ...args], { encoding: 'utf8' });
    return status === 0 ? stdout.trim() : '';
  };
  const commit = git('rev-parse', '--short=12', 'HEAD') || 'unknown';
  const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
  return {
    node: process.version,
    commit: changed ? `${commit}-changed` : commit,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
  };
}
