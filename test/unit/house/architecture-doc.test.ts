/**
 * What ARCHITECTURE.md names is there: each file, and each function or word of the code in it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const text = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');

const files = ['src', 'native', 'workers', 'test/unit/house'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|cc|h)$/.test(name))
    .map((name) => join(folder, name)),
);
const source = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));

const named = (file: string): string[] => files.filter((path) => `/${path}`.endsWith(`/${file}`));

/** In a row of a table, `file: name, name` says where each name is. */
const places = [...text.matchAll(/`([\w/.-]+\.(?:ts|cc|h))(?:: ([^`]+))?`/g)].map(
  ([, file = '', names = '']) => ({ file, names: names.split(/,\s*/).filter(Boolean) }),
);

test('each file that ARCHITECTURE.md names is there', (t) => {
  t.true(places.length > 40);
  for (const { file } of places) {
    t.not(named(file).length, 0, file);
  }
});

test('each name stands in the file beside which ARCHITECTURE.md has it', (t) => {
  for (const { file, names } of places) {
    const where = named(file);
    for (const name of names) {
      const word = (name.split('::').at(-1) ?? '').replace(/\(\)$/, '').split('.').at(-1) ?? '';
      t.true(
        where.some((path) => source.get(path)?.includes(word)),
        `${name} in ${file}`,
      );
    }
  }
});
