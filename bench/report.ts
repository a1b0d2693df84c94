/**
 * The README's table of the transport suite, from a committed run.
 *
 *   node dist/bench/report.js [--check]
 *
 * Replaces what stands between `<!-- bench:transport -->` and `<!-- /bench:transport -->` in
 * README.md by the table of bench/results/transport.json. `--check` changes nothing and exits with 1
 * if the README would change.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { ROOT } from './harness/native-programs.js';
import type { Row } from './harness/rows.js';
import { groupRows, markdownMatrix, markdownTable } from './harness/table.js';

const BEGIN = '<!-- bench:transport -->';
const END = '<!-- /bench:transport -->';

/** One JSON object a line. */
export const parseRows = (text: string): Row[] =>
  text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Row);

/** The README's part: one line a case. */
export function report(rows: readonly Row[]): string {
  const first = rows[0];
  if (first === undefined) throw new Error('no rows');
  if (rows.some((row) => row.regime === 'none')) throw new Error('rows of a tiny run');
  const rounds = Math.min(...rows.filter((r) => r.regime === 'near').map((r) => r.rounds));
  return [
    `Medians of ${rounds} and more near rounds, two pinned processes; ${first.cpu}, ` +
      `Node ${first.node.replace(/^v/, '')}, commit ${first.commit}.`,
    '',
    markdownMatrix(groupRows(rows)),
  ].join('\n');
}

/** bench/results/transport.md: every figure. */
export const fullReport = (rows: readonly Row[]): string =>
  [
    '# Transport, every figure',
    '',
    'Generated from transport.json by `npm run bench:report`. How it is measured: [../README.md](../README.md).',
    '',
    markdownTable(groupRows(rows)),
    '',
  ].join('\n');

/** @throws if the document has not exactly one pair of markers, in order */
export function withReport(document: string, table: string): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin || document.indexOf(BEGIN, begin + 1) >= 0) {
    throw new Error(`the document needs ${BEGIN} and, after it, ${END}, once`);
  }
  return `${document.slice(0, begin + BEGIN.length)}\n${table}\n${document.slice(end)}`;
}

function main(): void {
  const readme = `${ROOT}README.md`;
  const rows = parseRows(readFileSync(`${ROOT}bench/results/transport.json`, 'utf8'));
  const full = `${ROOT}bench/results/transport.md`;
  if (!process.argv.includes('--check')) writeFileSync(full, fullReport(rows));
  const before = readFileSync(readme, 'utf8');
  const after = withReport(before, report(rows));
  if (before === after) return;
  if (process.argv.includes('--check')) {
    process.stderr.write('README.md: the table is not that of bench/results/transport.json\n');
    process.exitCode = 1;
  } else writeFileSync(readme, after);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
