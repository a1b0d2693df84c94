import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Catalog } from '../../../src/library/catalog.js';
import { nameMatcher } from '../../../src/library/find.js';
import { Library } from '../../../src/library/library.js';
import { openChain, treeOf } from '../../../src/library/set-tree.js';
import { backUp, makeSmallTree } from './flips.js';
import { inDirectory, lockFile, randomFrom } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const all = () => true;

/** What find says of everything there is, by the catalog. */
const everything = (catalog: Catalog): string =>
  JSON.stringify(
    catalog
      .find(nameMatcher('*'), all)
      .map(({ set, entry }) => [set, entry.path.toString(), entry.size]),
  );

/** The same without a catalog. */
function scanned(library: Library): string {
  const rows: unknown[] = [];
  for (const { id } of library.list().sets) {
    for (const { entry } of treeOf(openChain(library, library.openSet(id)))) {
      rows.push([id, entry.path.toString(), entry.size]);
    }
  }
  return JSON.stringify(rows);
}

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
    t.is(everything(catalog), scanned(library));
    writeFileSync(join(source, 'new'), 'n');
    const id = backUp(library, source);
    t.is(catalog.find(nameMatcher('new'), all).length, 1);
    rmSync(join(library.directory, 'sets', id), { recursive: true });
    t.is(catalog.find(nameMatcher('new'), all).length, 0);
    t.is(everything(catalog), scanned(library));
    t.like(catalog.rebuild(), { sets: 2, entries: 16, paths: 8 });
  });
});

test('a catalog that was not finished, is cut, or is gone is made anew', (t) => {
  withCatalog((library, catalog) => {
    const good = everything(catalog);
    const path = join(library.directory, 'catalog.sqlite');
    truncateSync(path, 4096);
    t.is(everything(catalog), good);
    rmSync(path);
    t.is(everything(catalog), good);
    rmSync(join(library.directory, 'catalog.json'));
    writeFileSync(path, 'no database');
    t.is(everything(catalog), good);
    t.true(existsSync(join(library.directory, 'catalog.json')));
  });
});

test('listings over a catalog with a changed bit equal those over a new one', (t) => {
  t.log(`seed ${seed}`);
  const random = randomFrom(seed);
  withCatalog((library, catalog) => {
    const good = everything(catalog);
    for (let i = 0; i < 60; i++) {
      const name = i % 6 === 0 ? 'catalog.json' : 'catalog.sqlite';
      const path = join(library.directory, name);
      const bytes = readFileSync(path);
      const at = Math.floor(random() * bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      writeFileSync(path, bytes);
      t.is(everything(catalog), good, `${name}, byte ${at}`);
    }
  });
});
