/**
 * How listings look: plain ASCII columns, numbers to the right, no colour. Column order is stable.
 * Main thread.
 */
import Table from 'cli-table3';

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
