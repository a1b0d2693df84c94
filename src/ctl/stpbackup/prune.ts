/** stpbackup prune */
import type { Command } from 'commander';
import { type Pruned, prune } from '../../library/forget.js';
import { humanSize, type OutputOptions, print, sheet } from '../output.js';
import { changeLibrary, type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

export interface PruneDocument extends Pruned {
  readonly dryRun: boolean;
}

export const prunedText = ({ sets, bytes, dryRun }: PruneDocument): string =>
  sheet([
    [dryRun ? 'would remove' : 'removed', `${sets.length} sets`],
    [dryRun ? 'would free' : 'freed', `${bytes} bytes (${humanSize(bytes)})`],
  ]);

export function addPrune(program: Command): void {
  withLibrary(program.command('prune').description('removes what was forgotten from the disk'))
    .option('--dry-run', 'only say what would be removed')
    .option('--json', 'print one JSON object')
    .action((options: LibraryPlace & OutputOptions & { dryRun?: true }) => {
      const dryRun = options.dryRun === true;
      const library = dryRun ? readLibrary(options) : changeLibrary(options);
      print(options, { ...prune(library, dryRun), dryRun }, prunedText);
    });
}
