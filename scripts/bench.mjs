/**
 * `npm run bench -- SUITE ...`: runs the compiled benchmark.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/bench/main.js', import.meta.url);
if (!existsSync(fileURLToPath(main))) {
  process.stderr.write('bench: dist/ is missing; compile first: npm run build:ts\n');
  process.exit(1);
}
await import(main.href);
