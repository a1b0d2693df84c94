/**
 * Where the parts of this package are: modules run from dist/src, or bundled from dist/bundle, which
 * programs start from because loading some hundred files takes longer than many of their tasks
 * (scripts/bundle.mjs, docs/decisions/0036-programs-are-bundled.md). Any thread.
 */

/** Defined by the bundler alone. */
declare const STPD_BUNDLED: boolean | undefined;

const isBundled = typeof STPD_BUNDLED !== 'undefined';

/** A file of the package. This module is two directories below its top, either way. */
export const packageFile = (path: string): URL => new URL(`../../${path}`, import.meta.url);

/** Entry of a thread, by its name in workers/. */
export const workerFile = (name: string): URL =>
  packageFile(`dist/${isBundled ? 'bundle' : 'workers'}/${name}.js`);
