/** The columns of `socket list` and `top`: what is shown of a sample, and what it is sorted by. */
import type {
  BoardFigures,
  DirectorFigures,
  HostFigures,
  SocketReport,
  StgFigures,
} from '../../view/figures.js';
import { humanSize, orDash, printable } from '../output.js';
import type { Column } from '../table.js';

export interface SortableColumn<Row> extends Column<Row> {
  readonly sort: (row: Row) => number | string;
}

type Cell<Row> = (row: Row) => string | number;

const left = <Row>(head: string, cell: (row: Row) => string, sort: Cell<Row> = cell) =>
  ({ head, align: 'left', cell, sort }) as const;

const right = <Row>(head: string, sort: Cell<Row>, cell: Cell<Row> = sort) =>
  ({ head, align: 'right', cell: (row: Row) => String(cell(row)), sort }) as const;

const UNITS = ['', 'k', 'M', 'G', 'T'] as const;

/** A count, or a count a second: `0.4`, `17`, `12.3k`. */
export function humanCount(count: number | null): string {
  if (count === null) return '-';
  let amount = count;
  let unit = 0;
  while (amount >= 999.95 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit++;
  }
  const whole = unit === 0 && (Number.isInteger(amount) || amount >= 10);
  return `${whole ? Math.round(amount) : amount.toFixed(1)}${UNITS[unit]}`;
}

/** Bytes a second; the head says `/S`. */
export const humanRate = (rate: number | null): string =>
  rate === null ? '-' : humanSize(Math.round(rate));

const rate = <Row>(head: string, value: (row: Row) => number | null) =>
  right<Row>(
    head,
    (row) => value(row) ?? -1,
    (row) => humanRate(value(row)),
  );
const bytes = <Row>(head: string, value: (row: Row) => number) =>
  right<Row>(head, value, (row) => humanSize(value(row)));
const perSecond = <Row>(head: string, value: (row: Row) => number | null) =>
  right<Row>(
    head,
    (row) => value(row) ?? -1,
    (row) => humanCount(value(row)),
  );
const count = <Row>(head: string, value: (row: Row) => number) =>
  right<Row>(head, value, (row) => humanCount(value(row)));

/** Longest name that a column shows: what a host calls itself may be any text. */
const NAME_SHOWN_MAX = 24;

function shortName(name: string | null): string {
  if (name === null) return '-';
  const clean = printable(name);
  return clean.length > NAME_SHOWN_MAX ? `${clean.slice(0, NAME_SHOWN_MAX - 1)}~` : clean;
}

/** `3 name[4711] uid 1000`; a dash where nobody is known. */
function hostText(
  host: number | null,
  name: string | null,
  pid: number | null,
  uid: number | null,
): string {
  if (host === null) return '-';
  return `${host} ${shortName(name)}[${pid ?? '?'}] uid ${uid ?? '?'}`;
}

/** As ss has it. */
const stateText = (socket: SocketReport): string =>
  socket.state === 'ESTABLISHED' ? 'ESTAB' : socket.state;

/** `STP`, or `TCP: peer not attached`. */
export function viaText({ mechanism, reason }: SocketReport): string {
  const name = mechanism.toUpperCase();
  return reason === null ? name : `${name}: ${printable(reason)}`;
}

const listens = (socket: SocketReport): boolean => socket.waiting !== null;

const SOCKET = left<SocketReport>('SOCKET', (s) => s.id);
const STATE = left<SocketReport>('STATE', stateText);
/** Of a listener, as ss has it: RECV-Q are those who wait for accept, SEND-Q is the backlog. */
const QUEUES: readonly SortableColumn<SocketReport>[] = [
  right(
    'RECV-Q',
    (s) => (listens(s) ? 0 : s.receiveQueueBytes),
    (s) =>
      listens(s) ? String((s.waiting ?? 0) + (s.pending ?? 0)) : humanSize(s.receiveQueueBytes),
  ),
  right(
    'SEND-Q',
    (s) => (listens(s) ? 0 : s.sendQueueBytes),
    (s) => (listens(s) ? String(s.backlog ?? 0) : humanSize(s.sendQueueBytes)),
  ),
];
const ENDS: readonly SortableColumn<SocketReport>[] = [
  right('PORT', (s) => s.localPort),
  left('HOST', (s) => hostText(s.localHost, s.localName, s.localPid, s.localUid)),
  right(
    'PEER',
    (s) => s.remotePort ?? -1,
    (s) => orDash(s.remotePort),
  ),
  left(
    'PEER-HOST',
    (s) => s.remoteAddress ?? hostText(s.peerHost, s.peerName, s.peerPid, s.peerUid),
  ),
];
const ofConnection = (head: string, value: (s: SocketReport) => number | null, form = humanCount) =>
  right<SocketReport>(
    head,
    (s) => value(s) ?? -1,
    (s) => (s.end === null ? '-' : form(value(s))),
  );
const MOVEMENT: readonly SortableColumn<SocketReport>[] = [
  ofConnection('OUT/S', (s) => s.sendBytesPerSecond, humanRate),
  ofConnection('IN/S', (s) => s.receiveBytesPerSecond, humanRate),
];
const WAITS: readonly SortableColumn<SocketReport>[] = [
  ofConnection('WAITS-OUT', (s) => s.sendWaits),
  ofConnection('WAITS-IN', (s) => s.receiveWaits),
  ofConnection('PAGES-OUT', (s) => s.sendPages),
  ofConnection('PAGES-IN', (s) => s.receivePages),
];
const COUNTS: readonly SortableColumn<SocketReport>[] = [
  ofConnection('WAKES', (s) => s.wakesSent),
  ofConnection('SPARED', (s) => s.wakesSuppressed),
  ofConnection('HITS', (s) => s.pollHits),
  ofConnection('MISSES', (s) => s.pollMisses),
  ofConnection('SAFETY', (s) => s.safetyFirings),
];
const VIA = left<SocketReport>('VIA', viaText);

/** Who talks to whom first, as in ss. */
export const SOCKET_LIST_COLUMNS = [
  SOCKET,
  STATE,
  ...QUEUES,
  ...ENDS,
  ...MOVEMENT,
  ...WAITS,
  ...COUNTS,
  VIA,
];
/** What changes first: terminals are narrow. */
export const SOCKET_TOP_COLUMNS = [
  SOCKET,
  STATE,
  ...MOVEMENT,
  ...QUEUES,
  ...WAITS,
  ...ENDS,
  ...COUNTS,
  VIA,
];

export const BOARD_COLUMNS: readonly SortableColumn<BoardFigures>[] = [
  right('BOARD', (b) => b.number),
  left('STG', (b) => orDash(b.stg)),
  right('PAGES', (b) => b.pages),
  right('USED', (b) => b.pagesUsed),
  perSecond('ACCESSES/S', (b) => b.accessesPerSecond),
  rate('MOVED/S', (b) => b.bytesPerSecond),
  perSecond('CONTENDED/S', (b) => b.contendedPerSecond),
  count('ACCESSES', (b) => b.accesses),
  count('CONTENDED', (b) => b.contended),
  count('BYPASSED', (b) => b.bypassed),
  bytes('TOTAL', (b) => b.bytesMoved),
  right('STEALS', (b) => b.steals),
];

const percent = (part: number, whole: number): string =>
  whole === 0 ? '-' : `${((part * 100) / whole).toFixed(0)} %`;

export const STG_COLUMNS: readonly SortableColumn<StgFigures>[] = [
  left('STG', (s) => s.name),
  left('STATE', (s) => s.state),
  right('BOARDS', (s) => s.boards),
  right(
    'PAGES-USED',
    (s) => s.pagesUsed,
    (s) => `${s.pagesUsed}/${s.pagesTotal}`,
  ),
  right(
    'FULL',
    (s) => s.pagesUsed / Math.max(s.pagesTotal, 1),
    (s) => percent(s.pagesUsed, s.pagesTotal),
  ),
  right('IN-LISTS', (s) => s.pagesOfConnections),
  right('HELD', (s) => s.pagesOfHosts),
  right(
    'CONNECTIONS',
    (s) => s.connectionsUsed,
    (s) => `${s.connectionsUsed}/${s.connectionsMax}`,
  ),
  right(
    'PORTS',
    (s) => s.portsUsed,
    (s) => `${s.portsUsed}/${s.portsMax}`,
  ),
  right('HOSTS', (s) => s.hosts),
  rate('MOVED/S', (s) => s.bytesPerSecond),
  bytes('TOTAL', (s) => s.bytesMoved),
  right('DIRECTOR', (s) => s.director),
];

export const HOST_COLUMNS: readonly SortableColumn<HostFigures>[] = [
  right('HOST', (h) => h.id),
  left('NAME', (h) => shortName(h.name)),
  right('PID', (h) => h.pid),
  right('UID', (h) => h.uid),
  left('STG', (h) => h.stg),
  right('SOCKETS', (h) => h.sockets),
  right('PAGES', (h) => h.sendPages),
  right('HELD', (h) => h.heldPages),
  rate('OUT/S', (h) => h.sendBytesPerSecond),
  rate('IN/S', (h) => h.receiveBytesPerSecond),
  perSecond('WAKES/S', (h) => h.wakesSentPerSecond),
  perSecond('SPARED/S', (h) => h.wakesSuppressedPerSecond),
  perSecond('HITS/S', (h) => h.pollHitsPerSecond),
  perSecond('MISSES/S', (h) => h.pollMissesPerSecond),
  count('WAKES', (h) => h.wakesSent),
  count('SPARED', (h) => h.wakesSuppressed),
  count('HITS', (h) => h.pollHits),
  count('MISSES', (h) => h.pollMisses),
  right('SAFETY', (h) => h.safetyFirings),
];

export const DIRECTOR_COLUMNS: readonly SortableColumn<DirectorFigures>[] = [
  right('DIRECTOR', (d) => d.number),
  left('STGS', (d) => orDash(d.stgs.join(','))),
  right(
    'CPU',
    (d) => d.load ?? -1,
    (d) => (d.load === null ? '-' : `${(d.load * 100).toFixed(1)} %`),
  ),
  perSecond('COMMANDS/S', (d) => d.commandsPerSecond),
  perSecond('LOOPS/S', (d) => d.loopsPerSecond),
  count('COMMANDS', (d) => d.commands),
  count('LOOPS', (d) => d.loops),
  count('WAKES', (d) => d.wakesSent),
  count('SPARED', (d) => d.wakesSuppressed),
  count('HITS', (d) => d.pollHits),
  count('MISSES', (d) => d.pollMisses),
  right('SAFETY', (d) => d.safetyFirings),
];
