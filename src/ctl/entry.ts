/** Which files a program consists of. Main thread. */
import { statSync } from 'node:fs';
import { packageFile } from '../package-files.js';

function changedMs(file: URL): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY;
}

/**
 * The module to import: the bundle of `program`, unless modules were compiled after it. Both are
 * made by `npm run build`.
 */
export function mainOf(program: string): string {
  const bundle = packageFile(`dist/bundle/${program}.js`);
  const isCurrent = changedMs(bundle) >= changedMs(new URL(import.meta.url));
  return (isCurrent ? bundle : packageFile(`dist/src/ctl/${program}/main.js`)).href;
}
