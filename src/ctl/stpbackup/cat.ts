/** stpbackup cat SET PATH */
import type { Command } from 'commander';
import { storedPath } from '../../backup/selection.js';
import { readFileOf } from '../../library/read-file.js';
import { openChain } from '../../library/set-tree.js';
import { untilReaderGone, writeOut } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary, withMedia } from './open-library.js';

export function addCat(program: Command): void {
  withMedia(
    withLibrary(
      program
        .command('cat')
        .description('writes a file of a set to stdout, once all of it has its digest')
        .argument('<set>', 'id of a set, the beginning of just one, or latest')
        .argument('<path>', 'absolute path as it was'),
    ),
  ).action((name: string, path: string, options: LibraryPlace) => {
    const library = readLibrary(options);
    const chain = openChain(library, library.openSet(name));
    untilReaderGone(() => readFileOf(chain, storedPath(Buffer.from(path)), { update: writeOut }));
  });
}
