/** stpbackup find PATTERN */
import type { Command } from 'commander';
import { nameMatcher } from '../../library/find.js';
import type { Library } from '../../library/library.js';
import type { ManifestEntry } from '../../library/manifest.js';
import type { OutputOptions } from '../output.js';
import { entryDocument, entryLine } from './entry-view.js';
import { LongOutput, untilReaderGone } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

interface FindOptions extends LibraryPlace, OutputOptions {
  readonly host?: string;
  readonly set?: string;
}

type OnFound = (set: string, entry: ManifestEntry) => void;

function search(library: Library, pattern: string, options: FindOptions, onFound: OnFound): void {
  const matches = nameMatcher(pattern);
  const ids =
    options.set !== undefined
      ? [library.openSet(options.set).id]
      : library
          .list()
          .sets.filter((s) => options.host === undefined || s.host === options.host)
          .map((s) => s.id);
  for (const id of ids) {
    const set = library.openSet(id);
    set.verifyManifest();
    for (const record of set.manifest()) {
      if (record.kind === 'entry' && matches(record.path)) onFound(id, record);
    }
  }
}

export function addFind(program: Command): void {
  withLibrary(
    program
      .command('find')
      .description('finds entries by name in all sets, oldest first')
      .argument('<pattern>', 'such as *.conf, or with a slash: /etc/**/*.conf'),
  )
    .option('--host <name>', 'only in sets of this host')
    .option('--set <set>', 'only in this set')
    .option('--json', 'print one JSON object, an entry a line')
    .action((pattern: string, options: FindOptions) => {
      const json = options.json === true;
      const out = new LongOutput();
      let first = true;
      untilReaderGone(() => {
        if (json) out.put('{"found":[');
        search(readLibrary(options), pattern, options, (set, entry) => {
          const document = json ? JSON.stringify({ set, ...entryDocument(entry) }) : '';
          out.put(json ? `${first ? '\n' : ',\n'}${document}` : `${set} ${entryLine(entry)}`);
          first = false;
        });
        if (json) out.put('\n]}\n');
        out.flush();
      });
    });
}
