/**
 * Bundles programs and thread entries from dist/ into dist/bundle/ (docs/decisions/0036): a module an
 * import costs about a millisecond of start-up, and a verb needs up to two hundred.
 *
 *   node scripts/bundle.mjs
 *
 * Packages of plain JavaScript are bundled, too; what has binaries or threads of its own stays outside.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const dist = (...parts) => path.join(root, 'dist', ...parts);

const INSIDE = new Set(['cli-table3', 'commander', 'ignore', 'pg', 'pgpass', 'zod']);
/** What pg would load elsewhere, and does not here. */
const NEVER = ['pg-native', 'pg-cloudflare'];
const { bin, dependencies } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));

const programs = Object.keys(bin).map((name) => [name, dist('src/ctl', name, 'main.js')]);
const threads = fs
  .readdirSync(dist('workers'))
  .filter((file) => file.endsWith('.js'))
  .map((file) => [path.basename(file, '.js'), dist('workers', file)]);

/** Computed here: node:crypto and the tables take 10 ms of each program's and thread's start. */
const hashFile = dist('src/layout/hash.js');
const { layoutHash } = await import(pathToFileURL(hashFile).href);
const knownHash = {
  name: 'known-hash',
  setup({ onLoad }) {
    const contents = `export const layoutHash = () => ${JSON.stringify(layoutHash())};`;
    onLoad({ filter: /layout\/hash\.js$/ }, ({ path: file }) =>
      file === hashFile ? { contents } : undefined,
    );
  },
};

const options = {
  outdir: dist('bundle'),
  plugins: [knownHash],
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  keepNames: true,
  external: [...Object.keys(dependencies).filter((name) => !INSIDE.has(name)), ...NEVER],
  // Without `navigator`, which Node has from 21 on, pg finds out where it runs by what loads a client
  // of HTTP: 30 ms.
  define: { STPD_BUNDLED: 'true', navigator: '{"userAgent":"Node.js"}' },
  // What packages of CommonJS call.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
  },
  logLevel: 'warning',
};

fs.rmSync(dist('bundle'), { recursive: true, force: true });
// A thread is one file. A program is a file for each verb, and what several verbs need.
await build({ ...options, entryPoints: Object.fromEntries(threads) });
for (const [name, main] of programs) {
  const entryPoints = { [name]: main };
  await build({ ...options, entryPoints, splitting: true, chunkNames: `${name}-[hash]` });
}
