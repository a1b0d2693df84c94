/** stpbackup catalog rebuild */
import type { Command } from 'commander';
import { Catalog, type CatalogFacts } from '../../library/catalog.js';
import { type OutputOptions, print } from '../output.js';
import { sheet } from '../table.js';
import { type LibraryPlace, readLibrary, withLibrary } from './open-library.js';

const factsText = ({ sets, paths, entries }: CatalogFacts): string =>
  sheet([
    ['sets', `${sets}`],
    ['paths', `${paths}`],
    ['entries', `${entries}`],
  ]);

export function addCatalog(program: Command): void {
  const catalog = program.command('catalog').description('the index that find uses');
  withLibrary(catalog.command('rebuild').description('makes it anew, from the sets alone'))
    .option('--json', 'print one JSON object')
    .action((options: LibraryPlace & OutputOptions) => {
      print(options, new Catalog(readLibrary(options)).rebuild(), factsText);
    });
}
