/** stpbackup repair */
import type { Command } from 'commander';
import { type Repair, repairLibrary } from '../../library/repair.js';
import { EXIT_DAMAGED } from '../command-line.js';
import { orDash, printable } from '../output.js';
import { table, text } from '../table.js';
import { changeLibrary, type LibraryPlace, withLibrary, withMedia } from './open-library.js';
import { type WorkOptions, WorkView, withWork } from './work-view.js';

const columns = [
  text<Repair>('SET', (r) => r.set),
  text<Repair>('ACTION', (r) => r.action),
  text<Repair>('PART', (r) => orDash(r.part)),
  text<Repair>('WHY', (r) => printable(r.message)),
];

const isBad = (action: Repair['action']): boolean => action === 'moved' || action === 'busy';

export function addRepair(program: Command): void {
  withWork(
    withMedia(
      withLibrary(
        program
          .command('repair')
          .description('makes damaged sets whole where it can, and moves the others to damaged/'),
      ),
    ),
  )
    .option('--dry-run', 'only say what would be done')
    .action((options: LibraryPlace & WorkOptions & { dryRun?: true }) => {
      const dryRun = options.dryRun === true;
      const view = new WorkView('repair', options);
      // By the table.
      const isTold = !options.quiet && !options.events;
      const { repairs } = view.run(
        () => {
          const done = repairLibrary(changeLibrary(options), dryRun, (what, bytes, total) =>
            view.progress(bytes, total, `${what}: `),
          );
          for (const { set, action, message } of done) {
            if (isBad(action) && !isTold)
              view.problem(set, 'EUCLEAN', `${action}: ${printable(message)}`);
          }
          return { dryRun, repairs: done };
        },
        (d) => (d.repairs.length === 0 ? 'every set is sound\n' : table(columns, d.repairs)),
      );
      if (repairs.some((r) => isBad(r.action))) process.exitCode = EXIT_DAMAGED;
    });
}
