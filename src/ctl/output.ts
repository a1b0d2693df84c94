/**
 * How listings look: plain ASCII columns, numbers to the right, no colour, and one JSON document.
 *
 * Column order and JSON names are stable. Foreign text (what a host calls itself) never reaches a
 * terminal with its control characters. Main thread.
 */
import Table from 'cli-table3';

export { humanSize } from '../daemon/size.js';

export interface Column<Row> {
  readonly head: string;
  readonly align: 'left' | 'right';
  readonly cell: (row: Row) => string;
}

export const text = <Row>(head: string, cell: (row: Row) => string): Column<Row> => ({
  head,
  align: 'left',
  cell,
});

export const amount = <Row>(head: string, cell: (row: Row) => string | number): Column<Row> => ({
  head,
  align: 'right',
  cell: (row) => String(cell(row)),
});

const NOTHING = '-';

/** What is not there is a dash. */
export const orDash = (value: string | number | null): string =>
  value === null || value === '' ? NOTHING : String(value);

/** Everything but printable ASCII becomes a question mark. */
export const printable = (foreign: string): string => foreign.replace(/[^\x20-\x7e]/g, '?');

const BLANK = '';
const NO_FRAME = {
  top: BLANK,
  'top-mid': BLANK,
  'top-left': BLANK,
  'top-right': BLANK,
  bottom: BLANK,
  'bottom-mid': BLANK,
  'bottom-left': BLANK,
  'bottom-right': BLANK,
  left: BLANK,
  'left-mid': BLANK,
  mid: BLANK,
  'mid-mid': BLANK,
  right: BLANK,
  'right-mid': BLANK,
  middle: '  ',
};

function layOut(
  rows: readonly (readonly string[])[],
  aligns: readonly ('left' | 'right')[],
): string {
  const lines = new Table({
    chars: NO_FRAME,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0, compact: true },
    colAligns: [...aligns],
  });
  lines.push(...rows.map((row) => [...row]));
  return lines
    .toString()
    .split('\n')
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const heads = columns.map((column) => column.head);
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  return layOut(
    [heads, ...cells],
    columns.map((column) => column.align),
  );
}

/** One thing: a name and a value on each line. */
export const sheet = (pairs: readonly (readonly [string, string])[]): string =>
  layOut(pairs, ['left', 'left']);

/** Whole numbers with their ranges: `0-7,12`. */
export function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}

/** `3 d 4 h`, `5 min 6 s`: the two largest units. */
export function humanDuration(seconds: number): string {
  const whole = Math.floor(seconds);
  const units: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = units.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

export interface OutputOptions {
  readonly json?: boolean | undefined;
}

/** Prints the document itself, or what `form` makes of it. */
export function print<T>(options: OutputOptions, document: T, form: (document: T) => string): void {
  const json = options.json === true;
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : form(document));
}
