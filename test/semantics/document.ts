/**
 * Writes the generated parts of docs/sockets.md from the situations, the wanted differences and the
 * absent members: `npm run docs`. A test compares them.
 *
 *   node dist/test/semantics/document.js docs/sockets.md
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { allSituations } from './all-situations.js';
import { type Difference, differences } from './differences.js';
import { absent } from './members.js';

const cell = (text: string): string => text.replaceAll('|', '\\|');

function differencesTable(): string {
  const rows = new Map<string, Difference[]>();
  for (const difference of differences) {
    const { net, stp, why, before } = difference;
    const key = JSON.stringify([before, net, stp, why]);
    rows.set(key, [...(rows.get(key) ?? []), difference]);
  }
  const nodes = (before: number | undefined): string =>
    before === undefined ? 'all' : `before ${before}`;
  return [
    '| situation | `node:net` | STP | why | Node |',
    '|---|---|---|---|---|',
    ...[...rows.values()].map((same) => {
      const { net, stp, why, before } = same[0] as Difference;
      const titles = same.map(({ situation }) => situation).join('; ');
      return `| ${[titles, net, stp, why, nodes(before)].map(cell).join(' | ')} |`;
    }),
  ].join('\n');
}

function absentTable(): string {
  return [
    '| not there | why |',
    '|---|---|',
    ...absent.map(
      ({ names, why }) => `| ${names.map((name) => `\`${name}\``).join(', ')} | ${cell(why)} |`,
    ),
  ].join('\n');
}

function situationsTable(): string {
  const different = new Map(differences.map(({ situation, before }) => [situation, before]));
  const mark = (title: string): string => {
    if (!different.has(title)) return 'same';
    const before = different.get(title);
    return before === undefined ? '**differs**' : `same from Node ${before} on`;
  };
  return [
    '| | situation | |',
    '|---|---|---|',
    ...allSituations.map(({ group, title }) => `| ${group} | ${cell(title)} | ${mark(title)} |`),
  ].join('\n');
}

const parts: Readonly<Record<string, () => string>> = {
  differences: differencesTable,
  absent: absentTable,
  situations: situationsTable,
  count: () => `${allSituations.length} situations.`,
};

/** The document with its generated parts as they are now. */
export function generated(document: string): string {
  return document.replaceAll(
    /(<!-- generated: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_whole, begin: string, name: string, end: string) => {
      const part = parts[name];
      if (part === undefined) throw new Error(`docs/sockets.md: there is no part '${name}'`);
      return `${begin}${part()}\n${end}`;
    },
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = process.argv[2] ?? 'docs/sockets.md';
  writeFileSync(path, generated(readFileSync(path, 'utf8')));
}
