/** Writes the JSON schemas of docs/: of both configuration files, and of the events of --json. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { schemaFiles } from '../dist/src/ctl/stpbackup/schemas.js';

for (const [name, text] of schemaFiles()) {
  writeFileSync(fileURLToPath(new URL(`../docs/${name}`, import.meta.url)), text);
}
