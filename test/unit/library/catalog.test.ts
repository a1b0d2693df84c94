import { existsSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Catalog } from '../../../src/library/catalog.js';
import { nameMatcher } from '../../../src/library/find.js';
import { Library } from '../../../src/library/library.js';
import { backUp, listing, makeSmallTree, tryCatalogFlips } from './flips.js';
import { inDirectory, lockFile } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const all = () => true;
const everything = (library: Library, catalog: Catalog) => listing(library, catalog);
const scanned = (library: Library) => listing(library, null);

const withCatalog = (body: (library: Library, catalog: Catalog, source: string) => void): void =>
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeSmallTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile });
    backUp(library, source);
    backUp(library, source);
    body(library, new Catalog(library), source);
  });

test('it says what the manifests say, and follows what is made and removed', (t) => {
  withCatalog((library, catalog, source) => {
    t.is(everything(library, catalog), scanned(library));
    writeFileSync(join(source, 'new'), 'n');
    const id = backUp(library, source);
    t.is(catalog.find(nameMatcher('new'), all).length, 1);
    rmSync(join(library.directory, 'sets', id), { recursive: true });
    t.is(catalog.find(nameMatcher('new'), all).length, 0);
    t.is(everything(library, catalog), scanned(library));
    t.like(catalog.rebuild(), { sets: 2, entries: 16, paths: 8 });
  });
});

test('a catalog that was not finished, is cut, or is gone is made anew', (t) => {
  withCatalog((library, catalog) => {
    const good = everything(library, catalog);
    const path = join(library.directory, 'catalog.sqlite');
    truncateSync(path, 4096);
    t.is(everything(library, catalog), good);
    rmSync(path);
    t.is(everything(library, catalog), good);
    rmSync(join(library.directory, 'catalog.json'));
    writeFileSync(path, 'no database');
    t.is(everything(library, catalog), good);
    t.true(existsSync(join(library.directory, 'catalog.json')));
  });
});

test('listings over a catalog with a changed bit equal those over a new one', (t) => {
  t.log(`seed ${seed}`);
  t.deepEqual(tryCatalogFlips(60, seed), { flips: 60, missed: [], silent: [] });
});
