/**
 * Rows as a table: one for each case and size, paths below each other, with the two ratios that
 * matter. Pure; used by the terminal and by the README's generator.
 */
import type { Row, RowRegime } from './rows.js';

/** What the better of these two gives is 1. */
const SOCKETS = ['tcp', 'unix'];
const CEILINGS = ['memcpy-2p', 'memcpy-2p-sum'] as const;

export interface Group {
  readonly case: string;
  readonly size: number;
  readonly unit: Row['unit'];
  readonly rows: readonly Row[];
}

/** Groups in the order in which their first rows come. */
export function groupRows(rows: readonly Row[]): Group[] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.case} ${row.size}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map((of) => {
    const { case: name, size, unit } = of[0] as Row;
    return { case: name, size, unit, rows: of };
  });
}

const isRate = (row: Row): boolean => row.unit === 'GB/s';

/** How many times as good `row` is: more GB/s, or fewer µs. */
const timesAsGood = (row: Row, other: Row): number =>
  isRate(row) ? row.value / other.value : other.value / row.value;

/** Against the better of TCP and Unix socket in the same regime; undefined where neither ran. */
export function timesBestSocket(group: Group, row: Row): number | undefined {
  const ratios = group.rows
    .filter((r) => r.regime === row.regime && SOCKETS.includes(r.path))
    .map((r) => timesAsGood(row, r));
  return ratios.length === 0 ? undefined : Math.min(...ratios);
}

/** Against one path in the same regime. */
export function timesPath(group: Group, row: Row, path: string): number | undefined {
  const other = group.rows.find((r) => r.regime === row.regime && r.path === path);
  return other === undefined ? undefined : timesAsGood(row, other);
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB'];

export function bytesText(bytes: number): string {
  let n = bytes;
  let unit = 0;
  while (n >= 1024 && unit < BYTE_UNITS.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n >= 100 || Number.isInteger(n) ? n.toFixed(0) : n.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

export function numberText(n: number | undefined): string {
  if (n === undefined) return '-';
  if (n >= 100) return n.toFixed(0);
  if (n >= 10) return n.toFixed(1);
  return n >= 0.095 ? n.toFixed(2) : n.toPrecision(2);
}

const ratioText = (n: number | undefined): string => (n === undefined ? '-' : `${numberText(n)}x`);

/** Column heads and cells of one group; the first column is text, the others are numbers. */
export function tableOf(group: Group): { head: string[]; body: string[][] } {
  const main: RowRegime = group.rows.some((r) => r.regime === 'none') ? 'none' : 'near';
  const isLatency = group.unit === 'µs';
  const head = [
    'path',
    `${main === 'none' ? '' : 'near '}${group.unit}`,
    'min..max',
    'x best socket',
    'x memcpy-2p',
    'x memcpy-2p-sum',
    ...(isLatency ? ['p99', 'p99.9'] : []),
    'CPU s/s',
    'RssAnon',
    'rounds',
    `far ${group.unit}`,
    'far x best socket',
    'far rounds',
  ];
  const paths = [...new Set(group.rows.map((r) => r.path))];
  const body = paths.map((path) => {
    const own = (regime: RowRegime): Row | undefined =>
      group.rows.find((r) => r.path === path && r.regime === regime);
    const row = own(main);
    const far = own('far');
    const ofRow = <T>(f: (r: Row) => T): T | undefined => (row === undefined ? undefined : f(row));
    return [
      path,
      numberText(row?.value),
      ofRow((r) => `${numberText(r.min)}..${numberText(r.max)}`) ?? '-',
      ratioText(ofRow((r) => timesBestSocket(group, r))),
      ...CEILINGS.map((ceiling) => ratioText(ofRow((r) => timesPath(group, r, ceiling)))),
      ...(isLatency ? [numberText(row?.p99), numberText(row?.p999)] : []),
      numberText(ofRow((r) => r.cpu_s / r.elapsed_s)),
      ofRow((r) => bytesText(r.rss_anon)) ?? '-',
      String(row?.rounds ?? 0),
      numberText(far?.value),
      ratioText(far === undefined ? undefined : timesBestSocket(group, far)),
      String(far?.rounds ?? 0),
    ];
  });
  return { head, body };
}

export const groupTitle = ({ case: name, size, rows }: Group): string => {
  const offered = rows[0]?.offered;
  return `${name}, ${bytesText(size)}${offered === undefined ? '' : `, ${offered}/s offered`}`;
};

/** For a terminal. */
export function textTable(group: Group): string {
  const { head, body } = tableOf(group);
  const widths = head.map((h, i) => Math.max(h.length, ...body.map((r) => r[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ');
  return [groupTitle(group), line(head), ...body.map(line)].join('\n');
}

/** Where each path stands in the README's matrix; a column without any row is left out. */
const COLUMNS: readonly (readonly [path: string, title: string])[] = [
  ['stp-zero-copy', 'STP, in place'],
  ['stp-copy', 'STP, blocking copy'],
  ['stp-duplex', 'STP, Duplex'],
  ['tcp', 'TCP'],
  ['unix', 'Unix socket'],
  ['memcpy-2p', 'C, copy'],
  ['memcpy-2p-sum', 'C, in place'],
];

/**
 * For the README: a line a case, a column a path; below the value of an STP path how many times as
 * good it is as the better socket. Near rows only, `far` where asked for.
 */
export function markdownMatrix(groups: readonly Group[], regime: RowRegime = 'near'): string {
  const cellOf = (group: Group, path: string): string => {
    const row = group.rows.find((r) => r.path === path && r.regime === regime);
    if (row === undefined) return '';
    const times = path.startsWith('stp-') ? timesBestSocket(group, row) : undefined;
    const value = numberText(row.value);
    return times === undefined ? value : `${value} (**${ratioText(times)}**)`;
  };
  const columns = COLUMNS.filter(([path]) => groups.some((group) => cellOf(group, path) !== ''));
  const lines = [
    `| | ${columns.map(([, title]) => title).join(' | ')} |`,
    `|---|${columns.map(() => '--:|').join('')}`,
  ];
  for (const group of groups) {
    const cells = columns.map(([path]) => cellOf(group, path));
    if (cells.every((cell) => cell === '')) continue;
    lines.push(`| ${groupTitle(group)}, ${group.unit} | ${cells.join(' | ')} |`);
  }
  return lines.join('\n');
}

/** Every figure of a run, the near rows only. */
export function markdownTable(groups: readonly Group[]): string {
  const lines = [
    '| case | path | value | min..max | x best of TCP, Unix | x memcpy-2p | x memcpy-2p-sum | CPU s/s | far |',
    '|---|---|--:|--:|--:|--:|--:|--:|--:|',
  ];
  for (const group of groups) {
    for (const row of group.rows) {
      if (row.regime === 'far') continue;
      const far = group.rows.find((r) => r.path === row.path && r.regime === 'far');
      const cells = [
        groupTitle(group),
        `\`${row.path}\``,
        `${numberText(row.value)} ${row.unit}`,
        `${numberText(row.min)}..${numberText(row.max)}`,
        ratioText(timesBestSocket(group, row)),
        ...CEILINGS.map((ceiling) => ratioText(timesPath(group, row, ceiling))),
        numberText(row.cpu_s / row.elapsed_s),
        far === undefined ? '-' : `${numberText(far.value)} ${far.unit}`,
      ];
      lines.push(`| ${cells.join(' | ')} |`);
    }
  }
  return lines.join('\n');
}
