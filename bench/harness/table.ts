/**
 * Rows as a table: one for each case and size, paths below each other, with the two ratios that
 * matter. Pure; used by the terminal and by the README's generator.
 */
import { specOf, type Unit } from './cases.js';
import type { Row, RowRegime } from './rows.js';

/** What the better of these two gives is 1. */
const SOCKETS = ['tcp', 'unix'];
const CEILINGS = ['memcpy-2p', 'memcpy-2p-sum'] as const;
/** Cases that sockets do not have, and the one of theirs that they are compared with. */
const SOCKETS_OF: Partial<Record<string, string>> = {
  'ping-pong-nopoll': 'ping-pong',
  'ping-pong-spin': 'ping-pong',
};

export interface Group {
  readonly case: string;
  readonly size: number;
  readonly unit: Unit;
  readonly rows: readonly Row[];
  /** Of TCP and Unix sockets, in this case or the one that it is compared with. */
  readonly sockets: readonly Row[];
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
    const socketCase = SOCKETS_OF[name] ?? name;
    const sockets = rows.filter(
      (r) => r.case === socketCase && r.size === size && SOCKETS.includes(r.path),
    );
    return { case: name, size, unit, rows: of, sockets };
  });
}

/** How many times as good `row` is: more of a rate, less of a time or of memory. */
const timesAsGood = (row: Row, other: Row): number =>
  (specOf(row.case)?.more ?? true) ? row.value / other.value : other.value / row.value;

/** Against the better of TCP and Unix socket in the same regime; undefined where neither ran. */
export function timesBestSocket(group: Group, row: Row): number | undefined {
  const ratios = group.sockets
    .filter((r) => r.regime === row.regime)
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
  if (n >= 1e6) return `${(n / 1e6).toPrecision(3)} M`;
  if (n >= 1e4) return `${(n / 1e3).toPrecision(3)} K`;
  if (n >= 100) return n.toFixed(0);
  if (n === 0) return '0';
  if (n >= 10) return n.toFixed(1);
  return n >= 0.095 ? n.toFixed(2) : n.toPrecision(2);
}

/** A value in its unit's own way. */
const valueText = (n: number | undefined, unit: Unit): string =>
  unit === 'bytes' && n !== undefined ? bytesText(n) : numberText(n);

const ratioText = (n: number | undefined): string => (n === undefined ? '-' : `${numberText(n)}x`);

/** Columns of which only some cases have something to say. */
const EXTRA_COLUMNS: readonly (readonly [title: string, of: (row: Row) => string | undefined])[] = [
  ['stpd CPU s/s', (r) => optional(r.cpu_stpd_s, (s) => numberText(s / r.elapsed_s))],
  ['greedy GB/s', (r) => optional(r.greedy_gbs, numberText)],
  ['least share', (r) => optional(r.share_min, numberText)],
  ['pages while idle', (r) => optional(r.pages_idle, String)],
  ['left', (r) => optional(r.left, String)],
];

const optional = (n: number | undefined, text: (n: number) => string): string | undefined =>
  n === undefined ? undefined : text(n);

/** Column heads and cells of one group; the first column is text, the others are numbers. */
export function tableOf(group: Group): { head: string[]; body: string[][] } {
  const main: RowRegime = group.rows.some((r) => r.regime === 'none') ? 'none' : 'near';
  const isLatency = group.unit === 'µs';
  const text = (n: number | undefined): string => valueText(n, group.unit);
  const extra = EXTRA_COLUMNS.filter(([, of]) => group.rows.some((r) => of(r) !== undefined));
  const head = [
    'path',
    `${main === 'none' ? '' : 'near '}${group.unit}`,
    'min..max',
    'x best socket',
    'x memcpy-2p',
    'x memcpy-2p-sum',
    ...(isLatency ? ['p99', 'p99.9'] : []),
    ...extra.map(([title]) => title),
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
      text(row?.value),
      ofRow((r) => `${text(r.min)}..${text(r.max)}`) ?? '-',
      ratioText(ofRow((r) => timesBestSocket(group, r))),
      ...CEILINGS.map((ceiling) => ratioText(ofRow((r) => timesPath(group, r, ceiling)))),
      ...(isLatency ? [numberText(row?.p99), numberText(row?.p999)] : []),
      ...extra.map(([, of]) => ofRow(of) ?? '-'),
      numberText(ofRow((r) => r.cpu_s / r.elapsed_s)),
      ofRow((r) => bytesText(r.rss_anon)) ?? '-',
      String(row?.rounds ?? 0),
      text(far?.value),
      ratioText(far === undefined ? undefined : timesBestSocket(group, far)),
      String(far?.rounds ?? 0),
    ];
  });
  return { head, body };
}

export const groupTitle = ({ case: name, size, rows }: Group): string => {
  const { offered, connections } = rows[0] ?? {};
  return [
    name,
    ...(size > 0 ? [bytesText(size)] : []),
    ...(offered === undefined ? [] : [`${offered}/s offered`]),
    ...(connections === undefined ? [] : [`${connections} connections`]),
  ].join(', ');
};

export const alignedText = (
  head: readonly string[],
  body: readonly (readonly string[])[],
): string[] => {
  const widths = head.map((h, i) => Math.max(h.length, ...body.map((r) => r[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ');
  return [line(head), ...body.map(line)];
};

/** For a terminal. */
export function textTable(group: Group): string {
  const { head, body } = tableOf(group);
  return [groupTitle(group), ...alignedText(head, body)].join('\n');
}

/** Paths whose ratios are what the suite is for. */
const STP_PATHS: readonly (readonly [path: string, title: string])[] = [
  ['stp-zero-copy', 'STP, in place'],
  ['stp-copy', 'STP, blocking copy'],
  ['stp-duplex', 'STP, Duplex'],
  ['stp-onread', 'STP, onread'],
];

/**
 * The end of a run: how many times as good each STP path is as the better of TCP and Unix socket,
 * and, after the slash, as `memcpy-2p`.
 */
export function ratioCells(
  groups: readonly Group[],
  regime: RowRegime,
): { head: string[]; body: string[][] } {
  const paths = STP_PATHS.filter(([path]) =>
    groups.some((g) => g.rows.some((r) => r.path === path)),
  );
  const body = groups.flatMap((group) => {
    const cells = paths.map(([path]) => {
      const row = group.rows.find((r) => r.path === path && r.regime === regime);
      if (row === undefined) return '';
      const socket = timesBestSocket(group, row);
      const ceiling = timesPath(group, row, 'memcpy-2p');
      if (socket === undefined && ceiling === undefined) return '';
      return ceiling === undefined
        ? ratioText(socket)
        : `${ratioText(socket)} / ${ratioText(ceiling)}`;
    });
    return cells.every((cell) => cell === '') ? [] : [[groupTitle(group), ...cells]];
  });
  return { head: ['', ...paths.map(([, title]) => title)], body };
}

/** Undefined where no STP path stands beside something else. */
export function ratioTable(groups: readonly Group[], regime: RowRegime): string | undefined {
  const { head, body } = ratioCells(groups, regime);
  if (body.length === 0) return undefined;
  const title = 'Times as good as the better of TCP and Unix socket / as memcpy-2p';
  return [`${title}${regime === 'none' ? '' : `, ${regime} rounds`}`, ...alignedText(head, body)]
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Where each path stands in the README's matrix; a column without any row is left out. */
const COLUMNS: readonly (readonly [path: string, title: string])[] = [
  ...STP_PATHS,
  ['tcp', 'TCP'],
  ['unix', 'Unix socket'],
  ['zeromq-ipc', 'zeromq ipc'],
  ['message-port', 'MessagePort (threads)'],
  ['memcpy-2p', 'C, copy'],
  ['memcpy-2p-sum', 'C, in place'],
];

export const markdown = (head: readonly string[], body: readonly (readonly string[])[]): string =>
  [
    `| ${head.join(' | ')} |`,
    `|---|${head
      .slice(1)
      .map(() => '--:|')
      .join('')}`,
    ...body.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n');

/**
 * For the README: a line a case, a column a path; below the value of an STP path how many times as
 * good it is as the better socket. Near rows only, `far` where asked for.
 */
export function markdownMatrix(groups: readonly Group[], regime: RowRegime = 'near'): string {
  const cellOf = (group: Group, path: string): string => {
    const row = group.rows.find((r) => r.path === path && r.regime === regime);
    if (row === undefined) return '';
    const times = path.startsWith('stp-') ? timesBestSocket(group, row) : undefined;
    const value = valueText(row.value, row.unit);
    return times === undefined ? value : `${value} (**${ratioText(times)}**)`;
  };
  const columns = COLUMNS.filter(([path]) => groups.some((group) => cellOf(group, path) !== ''));
  const body = groups.flatMap((group) => {
    const cells = columns.map(([path]) => cellOf(group, path));
    if (cells.every((cell) => cell === '')) return [];
    const unit = group.unit === 'bytes' ? 'RssAnon' : group.unit;
    return [[`${groupTitle(group)}, ${unit}`, ...cells]];
  });
  return markdown(['', ...columns.map(([, title]) => title)], body);
}

/** For the README: the table of ratios that a run ends with. */
export function markdownRatios(groups: readonly Group[], regime: RowRegime = 'near'): string {
  const { head, body } = ratioCells(groups, regime);
  return markdown(head, body);
}

/** Every figure of a run, the near rows only. */
export function markdownTable(groups: readonly Group[]): string {
  const head = [
    'case',
    'path',
    'value',
    'min..max',
    'p99',
    'x best of TCP, Unix',
    'x memcpy-2p',
    'x memcpy-2p-sum',
    'CPU s/s',
    'RssAnon',
    'rounds',
    'far',
  ];
  const body = groups.flatMap((group) =>
    group.rows
      .filter((row) => row.regime !== 'far')
      .map((row) => {
        const far = group.rows.find((r) => r.path === row.path && r.regime === 'far');
        const text = (n: number): string => valueText(n, row.unit);
        const unit = row.unit === 'bytes' ? '' : ` ${row.unit}`;
        return [
          groupTitle(group),
          `\`${row.path}\``,
          `${text(row.value)}${unit}`,
          `${text(row.min)}..${text(row.max)}`,
          numberText(row.p99),
          ratioText(timesBestSocket(group, row)),
          ...CEILINGS.map((ceiling) => ratioText(timesPath(group, row, ceiling))),
          numberText(row.cpu_s / row.elapsed_s),
          bytesText(row.rss_anon),
          String(row.rounds),
          far === undefined ? '-' : `${text(far.value)}${unit}`,
        ];
      }),
  );
  return markdown(head, body);
}
