/** The version of this package, as its package.json states it. */
import { readFileSync } from 'node:fs';
import { packageFile } from '../package-files.js';

const file = packageFile('package.json');

export const VERSION: string = (JSON.parse(readFileSync(file, 'utf8')) as { version: string })
  .version;
