/** stpbackup find PATTERN */
import type { Command } from 'commander';
import { isCoded } from '../../errors.js';
import { Catalog, type FoundEntry } from '../../library/catalog.js';
import { type NameMatcher, nameMatcher } from '../../library/find.js';
import type { Library, StoredSet } from '../../library/library.js';
import type { ManifestEntry } from '../../library/manifest.js';
import { openChain, treeOf, verifyTree } from '../../library/set-tree.js';
import type { SetSummary } from '../../library/set-writer.js';
import type { OutputOptions } from '../output.js';
import { entryDocument, entryLine } from './entry-view.js';
import { LongOutput, untilReaderGone } from './long-output.js';
import { type LibraryPlace, readLibrary, withLibrary, withMedia } from './open-library.js';

interface FindOptions extends LibraryPlace, OutputOptions {
  readonly host?: string;
  readonly set?: string;
  readonly catalog: boolean;
}

/** Done, and something was left out: it is named on stderr. */
const EXIT_WARNINGS = 3;

type OnFound = (set: string, entry: ManifestEntry) => void;

const isSealed = ({ coding }: SetSummary): boolean => coding?.encrypt !== undefined;

function canOpen(chain: readonly StoredSet[]): boolean {
  try {
    for (const set of chain) if (set.isSealed) set.openManifest().close();
    return true;
  } catch (e) {
    if (isCoded(e) && e.code === 'EACCES') return false;
    throw e;
  }
}

/** Reads the manifests themselves. */
function scan(
  library: Library,
  matches: NameMatcher,
  chosen: (set: SetSummary) => boolean,
  onFound: OnFound,
): void {
  for (const { id } of library.list().sets.filter(chosen)) {
    const chain = openChain(library, library.openSet(id));
    if (!canOpen(chain)) {
      process.stderr.write(`${id}: encrypted and not searched; name a key with --identity FILE\n`);
      process.exitCode = EXIT_WARNINGS;
      continue;
    }
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
  for (const { set, entry } of found ?? []) onFound(set, entry);
  // The catalog has nothing of what is encrypted.
  const rest = found === null ? chosen : (s: SetSummary) => chosen(s) && isSealed(s);
  scan(library, matches, rest, onFound);
}

export function addFind(program: Command): void {
  withMedia(
    withLibrary(
      program
        .command('find')
        .description('finds entries by name in all sets, oldest first')
        .argument('<pattern>', 'such as *.conf, or with a slash: /etc/**/*.conf'),
    ),
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
