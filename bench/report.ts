/**
 * The README's chart and tables of the transport suite, from a committed run.
 *
 *   node dist/bench/report.js [--check]
 *
 * Replaces what stands between `<!-- bench:transport -->` and `<!-- /bench:transport -->` in
 * README.md by what bench/results/transport.json gives, and draws the charts anew. `--check` changes nothing and exits with 1
 * if the README would change.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { chartFile, chartOf } from './harness/chart.js';
import { ROOT } from './harness/native-programs.js';
import type { Row } from './harness/rows.js';
import { groupRows, markdownMatrix, markdownRatios, markdownTable } from './harness/table.js';
import { isSoloCase } from './suites/transport-paths.js';

const BEGIN = '<!-- bench:transport -->';
const END = '<!-- /bench:transport -->';

/** One JSON object a line. */
export const parseRows = (text: string): Row[] =>
  text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Row);

const CHART_TEXT =
  'Throughput of STP, TCP, Unix sockets, zeromq and MessagePort by message size, and how many ' +
  'times as good STP is as the better of TCP and Unix socket; the tables below have the figures';

/** The README's part: chart, ratios, and one line a case. */
export function report(rows: readonly Row[]): string {
  const first = rows[0];
  if (first === undefined) throw new Error('no rows');
  if (rows.some((row) => row.regime === 'none')) throw new Error('rows of a tiny run');
  const groups = groupRows(rows);
  const alternating = rows.filter((r) => r.regime === 'near' && !isSoloCase(r.case));
  const rounds = Math.min(...alternating.map((r) => r.rounds));
  return [
    '<picture>',
    '  <source media="(prefers-color-scheme: dark)" srcset="bench/results/transport-dark.svg">',
    `  <img alt="${CHART_TEXT}" src="bench/results/transport.svg">`,
    '</picture>',
    '',
    `Medians of ${rounds} and more near rounds; ${first.cpu}, two cores, ` +
      `Node ${first.node.replace(/^v/, '')}, commit ${first.commit}. Times as good as the better of ` +
      'TCP and Unix socket, and after the slash as `memcpy-2p`, two C processes that copy in and out:',
    '',
    markdownRatios(groups),
    '',
    'The figures themselves, in bold how many times as good as the better socket:',
    '',
    markdownMatrix(groups),
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
  const json = `${ROOT}bench/results/transport.json`;
  const rows = parseRows(readFileSync(json, 'utf8'));
  const full = `${ROOT}bench/results/transport.md`;
  if (!process.argv.includes('--check')) {
    writeFileSync(full, fullReport(rows));
    for (const theme of ['light', 'dark'] as const) {
      const chart = chartOf(rows, theme);
      if (chart !== undefined) writeFileSync(chartFile(json, theme), chart);
    }
  }
  const before = readFileSync(readme, 'utf8');
  const after = withReport(before, report(rows));
  if (before === after) return;
  if (process.argv.includes('--check')) {
    process.stderr.write('README.md: the table is not that of bench/results/transport.json\n');
    process.exitCode = 1;
  } else writeFileSync(readme, after);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
