/**
 * Writes the programs of examples/, and what they print, into docs/programs.md and docs/pages.md,
 * and there the snippets of snippets.ts too: `npm run docs`. Tests run them all, and compare the
 * documents.
 *
 *   node dist/test/programs/document.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);

export const documents = ['docs/programs.md', 'docs/pages.md'].map((name) => ({
  name,
  path: fileURLToPath(new URL(name, root)),
}));

/** What each program prints, with the numbers of one run. */
export const PRINTS: Readonly<Record<string, string>> = {
  'http.mjs':
    '200 GET /first from host 1, uid 1000 - new\n' +
    '200 GET /second from host 1, uid 1000 - same connection\n',
  'https.mjs': '/secret over TLSv1.3\n',
  'undici.mjs': '200 echo\n',
  'ws.mjs': 'echo\n1000 enough\n',
  'postgres.mjs': "{ name: 'PostgreSQL', answer: 42 }\n",
  'pages.mjs': 'received 4096 pages from host 2, 0 of them copied\n',
  'records.mjs': 'received 1000000 records, 33999541 bytes, in order\n',
  'file.mjs': 'sent 98932688 bytes\nreceived 98932688 bytes\nthe same\n',
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

/** What stands between the marks of snippets.ts, from its own margin. */
function snippet(name: string): string {
  const text = readFileSync(new URL('test/programs/snippets.ts', root), 'utf8');
  const [, body] = text.match(new RegExp(`// \\[${name}\\]\n([\\s\\S]*?) *// \\[end\\]`)) ?? [];
  if (body === undefined) throw new Error(`no snippet '${name}' in test/programs/snippets.ts`);
  return `${indented(body.replaceAll(/^ {2}/gm, ''))}\n`;
}

/** The document with its programs and snippets as they are now. */
export function generated(document: string): string {
  return document.replaceAll(
    /(<!-- (example|snippet): ([\w.-]+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_whole, begin: string, kind: string, name: string, end: string) =>
      `${begin}\n${kind === 'example' ? part(name) : snippet(name)}\n${end}`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { path } of documents) writeFileSync(path, generated(readFileSync(path, 'utf8')));
}
