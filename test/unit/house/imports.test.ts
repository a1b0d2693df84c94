/**
 * Imports run downwards only; `import type` counts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

/** What each room may import besides itself and the base files. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  layout: [],
  memory: ['layout'],
  cache: ['layout', 'memory'],
  view: ['layout', 'memory'],
  director: ['layout', 'memory', 'cache'],
  nbd: ['layout', 'memory', 'cache', 'director'],
  socket: ['layout', 'memory'],
  connect: ['layout', 'memory', 'socket'],
  source: [],
  library: ['source'],
  backup: ['layout', 'memory', 'socket', 'connect', 'source', 'library'],
  daemon: ['layout', 'memory', 'view', 'cache', 'director', 'nbd', 'socket'],
  ctl: ['layout', 'memory', 'view', 'socket', 'connect', 'source', 'library', 'backup', 'daemon'],
};

/** Files at the top of src/ that every room may import. They import only each other and layout. */
const baseFiles = [
  'assert',
  'clock',
  'errors',
  'json-text',
  'limits',
  'native',
  'notify',
  'package-files',
  'run-directory',
];
/** The library's face: imports from rooms, is imported by none. */
const faces = ['index'];

interface Import {
  readonly from: string;
  readonly to: string;
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const found = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']+)'/g);
  return [...found].map(([, specifier]) => resolve(dirname(file), specifier as string));
}

const roomOf = (file: string): string => relative(join(root, 'src'), file).split('/')[0] as string;

function allImports(): Import[] {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' });
  return files
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => {
      const file = join(root, 'src', name);
      return importsOf(file).map((to) => ({ from: file, to }));
    });
}

function complaint({ from, to }: Import): string | undefined {
  const source = roomOf(from).replace(/\.ts$/, '');
  const target = roomOf(to).replace(/\.js$/, '');
  const where = `${relative(root, from)} imports ${relative(root, to)}`;
  if (relative(join(root, 'src'), to).startsWith('..')) return `${where}: outside of src/`;
  if (source === target || faces.includes(source)) return undefined;
  if (baseFiles.includes(target)) return undefined;
  const allowed = baseFiles.includes(source) ? ['layout'] : rooms[source];
  if (allowed === undefined) return `${where}: '${source}' is no room of the house`;
  return allowed.includes(target) ? undefined : `${where}: '${source}' may not know '${target}'`;
}

test('imports run downwards only', (t) => {
  const imports = allImports();
  t.true(imports.length > 100, 'the check sees the imports');
  t.deepEqual(
    imports.map(complaint).filter((text) => text !== undefined),
    [],
  );
});

test('the check sees an import that runs upwards', (t) => {
  const at = (path: string): string => join(root, 'src', path);
  const upward = { from: at('director/channel-director.ts'), to: at('socket/host.js') };
  t.regex(complaint(upward) ?? '', /'director' may not know 'socket'/);
});

test('only one C++ file includes V8', (t) => {
  const native = join(root, 'native');
  const with8 = readdirSync(native).filter((name) =>
    /#include\s*<v8/.test(readFileSync(join(native, name), 'utf8')),
  );
  t.deepEqual(with8, ['external_buffer.cc']);
});
