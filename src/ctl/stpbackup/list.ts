/** stpbackup list */
import type { Command } from 'commander';
import type { LibraryListing } from '../../library/library.js';
import type { SetSummary } from '../../library/set-writer.js';
import { type OutputOptions, print, printable } from '../output.js';
import { amount, table, text } from '../table.js';
import { askServer, type ServerOptions, withServer } from './ask-server.js';

const columns = [
  text<SetSummary>('SET', (s) => s.id),
  text<SetSummary>('HOST', (s) => s.host),
  amount<SetSummary>('ENTRIES', (s) => s.entries),
  amount<SetSummary>('BYTES', (s) => s.bytes),
  amount<SetSummary>('WARNINGS', (s) => s.warnings),
  text<SetSummary>('STARTED', (s) => s.startedAt),
  text<SetSummary>('ROOTS', (s) => printable(s.roots.join(' '))),
];

const listingText = ({ sets, damaged }: LibraryListing): string =>
  table(columns, sets) +
  damaged.map(({ id, reason }) => `damaged: ${id}: ${printable(reason)}\n`).join('');

export function addList(program: Command): void {
  withServer(program.command('list').description('lists the sets of the library, oldest first'))
    .option('--json', 'print one JSON object')
    .action(async (options: ServerOptions & OutputOptions) => {
      print(options, await askServer<LibraryListing>(options, '/v1/sets'), listingText);
    });
}
