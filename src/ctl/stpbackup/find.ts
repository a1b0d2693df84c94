/** stpbackup find PATTERN */
import type { Command } from 'commander';
import { isCoded } from '../../errors.js';
import { Catalog, type FoundEntry } from '../../library/catalog.js';
import { type NameMatcher, nameMatcher } from '../../library/find.js';
import type { Library } from '../../library/library.js';
import type { ManifestEntry } from '../../library/manifest.js';
import { openChain, treeOf, verifyTree } from '../../library/set-tree.js';
import type { SetSummary } from '../../library/set-writer.js';
import type { OutputOptions } from '../output.js';
import { entryDocument, entryLine } from './entry-view.js';
import { LongOutput, untilReaderGone } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

interface FindOptions extends LibraryPlace, OutputOptions {
  readonly host?: string;
  readonly set?: string;
  readonly catalog: boolean;
}

type OnFound = (set: string, entry: ManifestEntry) => void;

/** Reads the manifests themselves. */
function scan(
  library: Library,
  matches: NameMatcher,
  chosen: (set: SetSummary) => boolean,
  onFound: OnFound,
): void {
  for (const { id } of library.list().sets.filter(chosen)) {
    const chain = openChain(library, library.openSet(id));
    verifyTree(chain);
    for (const { entry } of treeOf(chain)) if (matches(entry.path)) onFound(id, entry);
  }
}

/** A library that may not be written has no catalog that could be brought up to date. */
const unwritable: ReadonlySet<string> = new Set(['EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT']);

function search(library: Library, pattern: string, options: FindOptions, onFound: OnFound): void {
  const matches = nameMatcher(pattern);
  const only = options.set === undefined ? undefined : library.openSet(options.set).id;
  const chosen = (set: SetSummary): boolean =>
    (only === undefined || set.id === only) &&
    (options.host === undefined || set.host === options.host);
  let found: FoundEntry[] | null = null;
  try {
    if (options.catalog) found = new Catalog(library).find(matches, chosen);
  } catch (e) {
    if (!isCoded(e) || !unwritable.has(e.code)) throw e;
  }
  if (found === null) scan(library, matches, chosen, onFound);
  else for (const { set, entry } of found) onFound(set, entry);
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
    .option('--no-catalog', 'read the manifests themselves')
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
