/** stpbackup ls SET [PATH] */
import type { Command } from 'commander';
import { storedPath } from '../../backup/selection.js';
import type { StoredSet } from '../../library/library.js';
import { openChain, treeOf, verifyTree } from '../../library/set-tree.js';
import type { OutputOptions } from '../output.js';
import { entryDocument, entryLine } from './entry-view.js';
import { LongOutput, untilReaderGone } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary, withMedia } from './open-library.js';

function list(chain: readonly StoredSet[], selected: readonly Buffer[], json: boolean): void {
  verifyTree(chain);
  const { id } = chain.at(-1) as StoredSet;
  const out = new LongOutput();
  let first = true;
  if (json) out.put(`{"set":${JSON.stringify(id)},"entries":[`);
  for (const { entry } of treeOf(chain, selected)) {
    if (json) out.put(`${first ? '\n' : ',\n'}${JSON.stringify(entryDocument(entry))}`);
    else out.put(entryLine(entry));
    first = false;
  }
  if (json) out.put('\n]}\n');
  out.flush();
}

export function addLs(program: Command): void {
  withMedia(
    withLibrary(
      program
        .command('ls')
        .description('lists the tree of a set as it was then')
        .argument('<set>', 'id of a set, the beginning of just one, or latest')
        .argument('[path]', 'absolute path as it was: only what is there and below'),
    ),
  )
    .option('--json', 'print one JSON object, an entry a line')
    .action((name: string, path: string | undefined, options: LibraryPlace & OutputOptions) => {
      const library = readLibrary(options);
      const chain = openChain(library, library.openSet(name));
      const selected = path === undefined ? [] : [storedPath(Buffer.from(path))];
      untilReaderGone(() => list(chain, selected, options.json === true));
    });
}
