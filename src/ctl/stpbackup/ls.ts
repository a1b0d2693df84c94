/** stpbackup ls SET [PATH] */
import type { Command } from 'commander';
import { SelectedSet, storedPath } from '../../backup/selection.js';
import type { StoredSet } from '../../library/library.js';
import type { OutputOptions } from '../output.js';
import { entryDocument, entryLine } from './entry-view.js';
import { LongOutput, untilReaderGone } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

function list(set: StoredSet, json: boolean): void {
  set.verifyManifest();
  const out = new LongOutput();
  let first = true;
  if (json) out.put(`{"set":${JSON.stringify(set.id)},"entries":[`);
  for (const record of set.manifest()) {
    if (record.kind !== 'entry') continue;
    if (json) out.put(`${first ? '\n' : ',\n'}${JSON.stringify(entryDocument(record))}`);
    else out.put(entryLine(record));
    first = false;
  }
  if (json) out.put('\n]}\n');
  out.flush();
}

export function addLs(program: Command): void {
  withLibrary(
    program
      .command('ls')
      .description('lists what a set holds, in the order of its media')
      .argument('<set>', 'id of a set, the beginning of just one, or latest')
      .argument('[path]', 'absolute path as it was: only what is there and below'),
  )
    .option('--json', 'print one JSON object, an entry a line')
    .action((name: string, path: string | undefined, options: LibraryPlace & OutputOptions) => {
      const whole = readLibrary(options).openSet(name);
      const set =
        path === undefined ? whole : new SelectedSet(whole, [storedPath(Buffer.from(path))]);
      untilReaderGone(() => list(set, options.json === true));
    });
}
