/**
 * What `stpctl top` shows and how keys change it, without a terminal: samples, keys and a size go
 * in, lines come out. Every line fits the width, whatever hosts call themselves. Pure; main thread.
 */
import type { Figures } from '../../view/figures.js';
import { humanDuration, humanSize } from '../output.js';
import {
  BOARD_COLUMNS,
  DIRECTOR_COLUMNS,
  HOST_COLUMNS,
  humanRate,
  SOCKET_TOP_COLUMNS,
  type SortableColumn,
  STG_COLUMNS,
} from './view-columns.js';

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

export interface ScreenStatus {
  readonly runDirectory: string;
  /** Where the figures come from. */
  readonly source: string;
  readonly intervalMs: number;
  /** What keeps new figures from coming. */
  readonly problem: string | undefined;
}

export type ScreenCommand = 'quit' | 'suspend' | 'redraw' | 'faster' | 'slower' | 'pause' | 'none';

interface View {
  readonly name: string;
  readonly table: Table;
}

const INVERSE = '\x1b[7m';
const BOLD = '\x1b[1m';
const PLAIN = '\x1b[0m';

const HELP = [
  '1 to 5, Tab      boards, STGs, sockets, hosts, directors',
  '< >, left right  sort by the column before or after',
  'r                the other order',
  'up down, Page    scroll; Home goes back to the first line',
  'p, space         stop and go on',
  '+ -              look more often, less often',
  'q, Ctrl-C        leave',
  '',
  'OUT/S, IN/S      bytes a second that the socket or host sends and receives',
  'SEND-Q, RECV-Q   bytes on their way; of a listener: its backlog, and who waits there',
  'WAITS-OUT, -IN   times it waited for an empty page to write to, for a full one to read from',
  'PAGES-OUT, -IN   pages of 64 KiB in its lists',
  'PAGES, HELD      of a host: pages that it sends with, pages that it has taken out of streams',
  'WAKES, SPARED    peers it rang because they slept, and those that were awake',
  'HITS, MISSES     polls before sleep that found work, and those that did not',
  'SAFETY           wake-ups that only the safety timer found: none are expected',
  '',
  'any key goes back',
];

/** One view's rows with a sort order and a place to look at. */
class Table {
  readonly #columns: readonly SortableColumn<unknown>[];
  readonly #rows: (figures: Figures) => readonly unknown[];
  /** Widest cell so far: columns that jump about cannot be read. */
  readonly #widths: number[];
  #sort: number;
  #descending: boolean;
  #first = 0;

  constructor(
    columns: readonly SortableColumn<unknown>[],
    rows: (figures: Figures) => readonly unknown[],
    sortHead: string,
  ) {
    this.#columns = columns;
    this.#rows = rows;
    this.#sort = Math.max(
      columns.findIndex(({ head }) => head === sortHead),
      0,
    );
    this.#descending = this.#sort > 0;
    this.#widths = columns.map(({ head }) => head.length + 2);
  }

  get sortedBy(): string {
    return `${this.#columns[this.#sort]?.head} ${this.#descending ? 'descending' : 'ascending'}`;
  }

  sortNext(step: 1 | -1): void {
    const count = this.#columns.length;
    this.#sort = (this.#sort + step + count) % count;
    this.#descending = this.#columns[this.#sort]?.align === 'right';
    this.#first = 0;
  }

  reverse(): void {
    this.#descending = !this.#descending;
    this.#first = 0;
  }

  scroll(lines: number): void {
    this.#first = Math.max(0, this.#first + lines);
  }

  home(): void {
    this.#first = 0;
  }

  #sorted(figures: Figures): unknown[] {
    const key = (this.#columns[this.#sort] as SortableColumn<unknown>).sort;
    const sign = this.#descending ? -1 : 1;
    /* Rows that are equal stay in the order of memory, so they do not dance. */
    return this.#rows(figures)
      .map((row) => ({ row, by: key(row) }))
      .sort((a, b) => sign * compare(a.by, b.by))
      .map(({ row }) => row);
  }

  /** The head, and `height` lines of the rows from where it was scrolled to. */
  lines(figures: Figures, height: number): { head: string; body: string[]; more: string } {
    const all = this.#sorted(figures);
    this.#first = Math.min(this.#first, Math.max(0, all.length - height));
    const shown = all.slice(this.#first, this.#first + height);
    const cells = shown.map((row) => this.#columns.map((column) => column.cell(row)));
    for (const row of cells) {
      row.forEach((cell, i) => {
        this.#widths[i] = Math.max(this.#widths[i] as number, cell.length);
      });
    }
    const heads = this.#columns.map(({ head }, i) =>
      i === this.#sort ? `${head} ${this.#descending ? 'v' : '^'}` : head,
    );
    const last = this.#first + shown.length;
    const whole = shown.length === all.length;
    return {
      head: this.#line(heads),
      body: cells.map((row) => this.#line(row)),
      more: whole ? `${all.length}` : `${this.#first + 1} to ${last} of ${all.length}`,
    };
  }

  #line(cells: readonly string[]): string {
    return cells
      .map((cell, i) => {
        const width = this.#widths[i] as number;
        return this.#columns[i]?.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join(' ')
      .trimEnd();
  }
}

const compare = (a: number | string, b: number | string): number =>
  typeof a === 'number' && typeof b === 'number'
    ? a - b
    : String(a).localeCompare(String(b), 'en', { numeric: true });

/** The columns know their rows; a table only passes them on. */
const tableOf = <Row>(
  columns: readonly SortableColumn<Row>[],
  rows: (figures: Figures) => readonly Row[],
  sortHead: string,
): Table => new Table(columns as readonly SortableColumn<unknown>[], rows, sortHead);

export class TopScreen {
  readonly #views: readonly View[] = [
    { name: 'boards', table: tableOf(BOARD_COLUMNS, (f) => f.boards, 'BOARD') },
    { name: 'STGs', table: tableOf(STG_COLUMNS, (f) => f.stgs, 'MOVED/S') },
    { name: 'sockets', table: tableOf(SOCKET_TOP_COLUMNS, (f) => f.sockets, 'OUT/S') },
    { name: 'hosts', table: tableOf(HOST_COLUMNS, (f) => f.hosts, 'OUT/S') },
    { name: 'directors', table: tableOf(DIRECTOR_COLUMNS, (f) => f.directors, 'DIRECTOR') },
  ];
  #view = 2;
  #help = false;
  #paused = false;
  #page = 10;

  get paused(): boolean {
    return this.#paused;
  }

  /** One key, as `splitKeys` gives it. */
  key(key: string): ScreenCommand {
    if (key === '\x03') return 'quit';
    if (key === '\x1a') return 'suspend';
    if (this.#help) {
      this.#help = false;
      return key === 'q' ? 'quit' : 'redraw';
    }
    const { table } = this.#views[this.#view] as View;
    switch (key) {
      case 'q':
        return 'quit';
      case '+':
        return 'faster';
      case '-':
        return 'slower';
      case 'p':
      case ' ':
        this.#paused = !this.#paused;
        return 'pause';
      case 'h':
      case '?':
        this.#help = true;
        return 'redraw';
      case '\t':
        this.#view = (this.#view + 1) % this.#views.length;
        return 'redraw';
      case '\x1b[Z':
        this.#view = (this.#view + this.#views.length - 1) % this.#views.length;
        return 'redraw';
      case '<':
      case '\x1b[D':
        table.sortNext(-1);
        return 'redraw';
      case '>':
      case '\x1b[C':
        table.sortNext(1);
        return 'redraw';
      case 'r':
        table.reverse();
        return 'redraw';
      case '\x1b[A':
      case 'k':
        table.scroll(-1);
        return 'redraw';
      case '\x1b[B':
      case 'j':
        table.scroll(1);
        return 'redraw';
      case '\x1b[5~':
        table.scroll(-this.#page);
        return 'redraw';
      case '\x1b[6~':
        table.scroll(this.#page);
        return 'redraw';
      case '\x1b[H':
      case '\x1b[1~':
        table.home();
        return 'redraw';
      case '\x0c':
        return 'redraw';
      default:
        return this.#switch(key);
    }
  }

  #switch(key: string): ScreenCommand {
    const view = Number(key) - 1;
    if (this.#views[view] === undefined) return 'none';
    this.#view = view;
    return 'redraw';
  }

  /** A full screen: as many lines as it has rows, each with its attributes. */
  frame(figures: Figures | undefined, size: ScreenSize, status: ScreenStatus): string[] {
    const fit = (text: string): string => text.slice(0, size.columns);
    const across = (text: string): string => fit(text).padEnd(size.columns);
    const top = [
      `${BOLD}${fit(titleLine(figures, size, status))}${PLAIN}`,
      fit(figures === undefined ? '' : totalsLine(figures)),
      this.#tabs(size.columns),
    ];
    const height = Math.max(0, size.rows - top.length - 2);
    this.#page = Math.max(1, height - 1);
    const body = this.#body(figures, height, fit, across);
    const bottom = status.problem ?? this.#footer;
    const foot = status.problem === undefined ? fit(bottom) : `${INVERSE}${across(bottom)}${PLAIN}`;
    const lines = [...top, ...body];
    while (lines.length < size.rows - 1) lines.push('');
    return [...lines.slice(0, Math.max(0, size.rows - 1)), foot].slice(0, size.rows);
  }

  #body(
    figures: Figures | undefined,
    height: number,
    fit: (text: string) => string,
    across: (text: string) => string,
  ): string[] {
    if (this.#help) return ['', ...HELP.slice(0, height)].map(fit);
    if (figures === undefined) return [];
    const { table, name } = this.#views[this.#view] as View;
    const { head, body, more } = table.lines(figures, height);
    this.#shown = `${name}: ${more}, by ${table.sortedBy}`;
    return [`${INVERSE}${across(head)}${PLAIN}`, ...body.map(fit)];
  }

  #shown = '';

  get #footer(): string {
    if (this.#paused) return 'PAUSED: p goes on';
    return `${this.#shown}   q quit  < > sort  r reverse  p pause  h help`;
  }

  #tabs(columns: number): string {
    let room = columns;
    return this.#views
      .map(({ name }, i) => {
        const label = ` ${i + 1} ${name} `.slice(0, room);
        room -= label.length;
        return i === this.#view && label !== '' ? `${INVERSE}${label}${PLAIN}` : label;
      })
      .join('');
  }
}

function titleLine(
  figures: Figures | undefined,
  { columns }: ScreenSize,
  { runDirectory, source, intervalMs }: ScreenStatus,
): string {
  const every = `every ${intervalMs / 1000} s`;
  const time = figures === undefined ? '' : new Date(figures.takenAt).toTimeString().slice(0, 8);
  const left = `stpctl top  ${runDirectory}  ${source}`;
  const right = `${time}  ${every}`;
  const room = columns - right.length - 1;
  return room < 20 ? left : `${left.slice(0, room).padEnd(room)} ${right}`;
}

function totalsLine({ array, stgs, hosts, takenAt }: Figures): string {
  const sum = (value: (stg: Figures['stgs'][number]) => number | null): number =>
    stgs.reduce((total, stg) => total + (value(stg) ?? 0), 0);
  const rates = stgs.some(({ bytesPerSecond }) => bytesPerSecond !== null);
  const upMs = Date.parse(takenAt) - Date.parse(array.startedAt);
  return [
    `up ${humanDuration(Math.max(0, upMs / 1000))}`,
    `boards ${array.boardsUsed}/${array.boardsTotal} of ${humanSize(array.boardBytes)}`,
    `pages ${sum((s) => s.pagesUsed)}/${sum((s) => s.pagesTotal)}`,
    `connections ${sum((s) => s.connectionsUsed)}`,
    `hosts ${hosts.length}`,
    `moved ${rates ? `${humanRate(sum((s) => s.bytesPerSecond))}/s` : '-'}`,
  ].join('   ');
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what keys send
const KEY = /\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|[\s\S]/g;

/** A chunk of the keyboard's bytes as keys: escape sequences stay together, in one spelling. */
export const splitKeys = (chunk: string): string[] =>
  (chunk.match(KEY) ?? []).map((key) => key.replace('\x1bO', '\x1b['));
