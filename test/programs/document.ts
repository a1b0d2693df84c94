/**
 * Writes the programs of examples/, and what they print, into docs/programs.md: `npm run docs`. A
 * test runs them, and compares the document.
 *
 *   node dist/test/programs/document.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);

export const DOCUMENT = fileURLToPath(new URL('docs/programs.md', root));

/** What each program prints, with the numbers of one run. */
export const PRINTS: Readonly<Record<string, string>> = {
  'http.mjs':
    '200 GET /first from host 1, uid 1000 - new\n' +
    '200 GET /second from host 1, uid 1000 - same connection\n',
  'https.mjs': '/secret over TLSv1.3\n',
  'undici.mjs': '200 echo\n',
  'ws.mjs': 'echo\n1000 enough\n',
  'postgres.mjs': "{ name: 'PostgreSQL', answer: 42 }\n",
};

const indented = (text: string): string =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `    ${line}`))
    .join('\n');

function part(name: string): string {
  const program = indented(readFileSync(new URL(`examples/${name}`, root), 'utf8'));
  const prints = PRINTS[name];
  const output = prints === undefined ? '' : `\nPrints\n\n${indented(prints)}\n`;
  return `${program}\n${output}`;
}

/** The document with its programs as they are now. */
export function generated(document: string): string {
  return document.replaceAll(
    /(<!-- example: ([\w.-]+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_whole, begin: string, name: string, end: string) => `${begin}\n${part(name)}\n${end}`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(DOCUMENT, generated(readFileSync(DOCUMENT, 'utf8')));
}
