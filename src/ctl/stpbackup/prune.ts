/** stpbackup prune */
import type { Command } from 'commander';
import { type Pruned, prune } from '../../library/forget.js';
import { humanSize } from '../output.js';
import { sheet } from '../table.js';
import { changeLibrary, type LibraryPlace, readLibrary, withLibrary } from './open-library.js';
import { type WorkOptions, WorkView, withWork } from './work-view.js';

export interface PruneDocument extends Pruned {
  readonly dryRun: boolean;
}

export const prunedText = ({ sets, bytes, dryRun }: PruneDocument): string =>
  sheet([
    [dryRun ? 'would remove' : 'removed', `${sets.length} sets`],
    [dryRun ? 'would free' : 'freed', `${bytes} bytes (${humanSize(bytes)})`],
  ]);

export function addPrune(program: Command): void {
  withWork(
    withLibrary(program.command('prune').description('removes what was forgotten from the disk')),
  )
    .option('--dry-run', 'only say what would be removed')
    .action((options: LibraryPlace & WorkOptions & { dryRun?: true }) => {
      const dryRun = options.dryRun === true;
      const view = new WorkView('prune', options);
      view.run(() => {
        const library = dryRun ? readLibrary(options) : changeLibrary(options);
        return { ...prune(library, dryRun, (b, total) => view.progress(b, total)), dryRun };
      }, prunedText);
    });
}
