/**
 * The README's charts and tables, from the committed runs.
 *
 *   node dist/bench/report.js [--check]
 *
 * Replaces what stands between `<!-- bench:SUITE -->` and `<!-- /bench:SUITE -->` in README.md by what
 * bench/results/SUITE.json gives, and draws the charts of `transport` anew. `--check` changes nothing
 * and exits with 1 if the README would change.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { markdownBackup } from './harness/backup-table.js';
import { chartFile, chartOf } from './harness/chart.js';
import { ROOT } from './harness/native-programs.js';
import type { Row } from './harness/rows.js';
import { groupRows, markdownMatrix, markdownRatios, markdownTable } from './harness/table.js';
import { isSoloCase } from './suites/transport-paths.js';

type Suite = 'transport' | 'backup';

/** One JSON object a line. */
export const parseRows = (text: string): Row[] =>
  text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Row);

const CHART_TEXT =
  'Throughput of STP, TCP, Unix sockets, zeromq and MessagePort by message size, and how many ' +
  'times as good STP is as the better of TCP and Unix socket; the tables below have the figures';

function measuredBy(rows: readonly Row[]): Row {
  const first = rows[0];
  if (first === undefined) throw new Error('no rows');
  if (rows.some((row) => row.regime === 'none')) throw new Error('rows of a tiny run');
  return first;
}

const machineText = ({ cpu, node, commit }: Row): string =>
  `${cpu}, two cores, Node ${node.replace(/^v/, '')}, commit ${commit}`;

/** The README's part: chart, ratios, and one line a case. */
export function report(rows: readonly Row[]): string {
  const first = measuredBy(rows);
  const groups = groupRows(rows);
  const alternating = rows.filter((r) => r.regime === 'near' && !isSoloCase(r.case));
  const rounds = Math.min(...alternating.map((r) => r.rounds));
  return [
    '<picture>',
    '  <source media="(prefers-color-scheme: dark)" srcset="bench/results/transport-dark.svg">',
    `  <img alt="${CHART_TEXT}" src="bench/results/transport.svg">`,
    '</picture>',
    '',
    `Medians of ${rounds} and more near rounds; ${machineText(first)}. ` +
      'Times as good as the better of TCP and Unix socket, and after the slash as `memcpy-2p`, two C processes that copy in and out:',
    '',
    markdownRatios(groups),
    '',
    'The figures themselves, in bold how many times as good as the better socket:',
    '',
    markdownMatrix(groups),
  ].join('\n');
}

/** The README's part of the suite `backup`. */
export function backupReport(rows: readonly Row[]): string {
  const first = measuredBy(rows);
  const rounds = Math.min(...rows.filter((r) => r.regime === 'near').map((r) => r.rounds));
  return [
    `Medians of ${rounds} rounds, tmpfs to tmpfs; ${machineText(first)}:`,
    '',
    markdownBackup(rows),
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

/** @throws if the document has not exactly one pair of the suite's markers, in order */
export function withReport(document: string, suite: Suite, text: string): string {
  const [opening, closing] = [`<!-- bench:${suite} -->`, `<!-- /bench:${suite} -->`];
  const begin = document.indexOf(opening);
  const end = document.indexOf(closing);
  if (begin < 0 || end < begin || document.indexOf(opening, begin + 1) >= 0) {
    throw new Error(`the document needs ${opening} and, after it, ${closing}, once`);
  }
  return `${document.slice(0, begin + opening.length)}\n${text}\n${document.slice(end)}`;
}

const resultsOf = (suite: Suite): string => `${ROOT}bench/results/${suite}.json`;

function main(): void {
  const readme = `${ROOT}README.md`;
  const json = resultsOf('transport');
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
  const transport = withReport(before, 'transport', report(rows));
  const backup = resultsOf('backup');
  const after = existsSync(backup)
    ? withReport(transport, 'backup', backupReport(parseRows(readFileSync(backup, 'utf8'))))
    : transport;
  if (before === after) return;
  if (process.argv.includes('--check')) {
    process.stderr.write('README.md: the tables are not those of bench/results/\n');
    process.exitCode = 1;
  } else writeFileSync(readme, after);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
