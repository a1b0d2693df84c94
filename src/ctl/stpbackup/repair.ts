/** stpbackup repair */
import type { Command } from 'commander';
import { type Repair, repairLibrary } from '../../library/repair.js';
import { EXIT_DAMAGED } from '../command-line.js';
import { type OutputOptions, orDash, print, printable, table, text } from '../output.js';
import { changeLibrary, type LibraryPlace, withLibrary, withMedia } from './open-library.js';

const columns = [
  text<Repair>('SET', (r) => r.set),
  text<Repair>('ACTION', (r) => r.action),
  text<Repair>('PART', (r) => orDash(r.part)),
  text<Repair>('WHY', (r) => printable(r.message)),
];

export function addRepair(program: Command): void {
  withMedia(
    withLibrary(
      program
        .command('repair')
        .description('makes damaged sets whole where it can, and moves the others to damaged/'),
    ),
  )
    .option('--dry-run', 'only say what would be done')
    .option('--json', 'print one JSON object')
    .action((options: LibraryPlace & OutputOptions & { dryRun?: true }) => {
      const dryRun = options.dryRun === true;
      const repairs = repairLibrary(changeLibrary(options), dryRun);
      print(options, { dryRun, repairs }, () =>
        repairs.length === 0 ? 'every set is sound\n' : table(columns, repairs),
      );
      if (repairs.some((r) => r.action === 'moved' || r.action === 'busy')) {
        process.exitCode = EXIT_DAMAGED;
      }
    });
}
