/**
 * Rows of the suite `backup` as one table, for a terminal and for the README. Pure.
 */
import type { Row, RowRegime } from './rows.js';
import { alignedText, bytesText, markdown, numberText } from './table.js';

const OURS = 'stpbackup';

/** Seconds of theirs for one of ours; of a rate, ours for one of theirs: above 1, ours is faster. */
function timesAsFast(ours: Row | undefined, theirs: Row): string {
  if (ours === undefined || ours === theirs) return '';
  const ratio = ours.unit === 's' ? theirs.value / ours.value : ours.value / theirs.value;
  return `${numberText(ratio)}x`;
}

function cellsOf(rows: readonly Row[], regime: RowRegime): { head: string[]; body: string[][] } {
  const shown = rows.filter((row) => row.regime === regime);
  const head = [
    'case',
    'path',
    'value',
    'min..max',
    'stpbackup is',
    'MB/s',
    'CPU s a round',
    'RssAnon',
    'rounds',
  ];
  const body = shown.map((row) => {
    const ours = shown.find((r) => r.case === row.case && r.path === OURS);
    return [
      `${row.case}, ${bytesText(row.size)}`,
      row.path,
      `${numberText(row.value)} ${row.unit}`,
      `${numberText(row.min)}..${numberText(row.max)}`,
      timesAsFast(ours, row),
      row.case === 'unchanged' ? '' : numberText(row.bytes / 1e6 / row.elapsed_s),
      numberText(row.cpu_s / row.rounds),
      row.path === OURS ? bytesText(row.rss_anon) : '',
      String(row.rounds),
    ];
  });
  return { head, body };
}

/** RssAnon is that of client, server and stpd together, after a round. */
export function backupTable(rows: readonly Row[]): string {
  return (['none', 'near', 'far'] as const)
    .filter((regime) => rows.some((row) => row.regime === regime))
    .map((regime) => {
      const { head, body } = cellsOf(rows, regime);
      const title = regime === 'none' ? [] : [`${regime} rounds`];
      return [...title, ...alignedText(head, body)].map((line) => line.trimEnd()).join('\n');
    })
    .join('\n\n');
}

export function markdownBackup(rows: readonly Row[]): string {
  const { head, body } = cellsOf(rows, 'near');
  return markdown(head, body);
}
