/** `stpctl socket list`: the sockets of all hosts; a connection has two lines, one for each end. */
import type { Command } from 'commander';
import { shown } from '../../daemon/shown.js';
import { ValidationError } from '../../daemon/validation.js';
import { resolveRunDirectory } from '../../run-directory.js';
import type { Figures, SocketReport, SocketState } from '../../view/figures.js';
import { print } from '../output.js';
import { table } from '../table.js';
import { intervalMsOf, sampleOver } from './interval.js';
import { addVerb, type VerbOptions } from './verb.js';
import { SOCKET_LIST_COLUMNS } from './view-columns.js';
import { openView } from './view-source.js';

const INTERVAL_SECONDS_DEFAULT = 0.2;

export interface SocketFilter {
  readonly stg?: string;
  readonly port?: number;
  /** Its number, or what it calls itself. */
  readonly host?: string;
  readonly state?: SocketState;
}

interface SocketListOptions extends VerbOptions {
  readonly stg?: string;
  readonly port?: string;
  readonly host?: string;
  readonly state?: string;
  readonly interval?: string;
}

const STATES: readonly SocketState[] = [
  'LISTEN',
  'BOUND',
  'ESTABLISHED',
  'FIN-WAIT',
  'CLOSE-WAIT',
  'CLOSING',
  'RESET',
];

/** @throws ValidationError */
export function socketFilter(options: Omit<SocketListOptions, 'interval'>): SocketFilter {
  const { stg, port, host, state } = options;
  const wanted = state?.toUpperCase();
  const known = STATES.find((name) => name === (wanted === 'ESTAB' ? 'ESTABLISHED' : wanted));
  if (wanted !== undefined && known === undefined) {
    throw new ValidationError([`--state: ${shown(state)} is none of ${STATES.join(', ')}, ESTAB`]);
  }
  if (port !== undefined && !/^[0-9]{1,5}$/.test(port)) {
    throw new ValidationError([`--port: ${shown(port)} is not a port: a number up to 65535`]);
  }
  return {
    ...(stg === undefined ? {} : { stg }),
    ...(port === undefined ? {} : { port: Number(port) }),
    ...(host === undefined ? {} : { host }),
    ...(known === undefined ? {} : { state: known }),
  };
}

export function filterSockets(
  sockets: readonly SocketReport[],
  { stg, port, host, state }: SocketFilter,
): SocketReport[] {
  const isHost = (number: number | null, name: string | null): boolean =>
    String(number) === host || name === host;
  return sockets.filter(
    (s) =>
      (stg === undefined || s.stg === stg) &&
      (port === undefined || s.localPort === port || s.remotePort === port) &&
      (host === undefined || isHost(s.localHost, s.localName) || isHost(s.peerHost, s.peerName)) &&
      (state === undefined || s.state === state),
  );
}

/** What `--json` prints. */
export interface SocketListDocument {
  readonly sockets: readonly SocketReport[];
  readonly sampled: {
    /** `memory`: read by this program; `control`: told by stpd. */
    readonly source: 'memory' | 'control';
    readonly at: string;
    readonly intervalMs: number | null;
  };
}

export const socketsText = ({ sockets }: Pick<SocketListDocument, 'sockets'>): string =>
  table(SOCKET_LIST_COLUMNS, sockets);

export function addSocketList(parent: Command): void {
  addVerb(parent, 'list', {
    summary: 'list the sockets of all hosts',
    document: '{"sockets": [...], "sampled": {...}}',
    examples: [
      'stpctl socket list',
      'stpctl socket list --stg backup --state LISTEN',
      'stpctl socket list --host 3 --interval 1 --json',
    ],
  })
    .option('--stg <name>', 'only of this STG')
    .option('--port <n>', 'only with this port at either end')
    .option('--host <id>', 'only with this host at either end: its number, or its name')
    .option('--state <state>', `only in this state: ${STATES.join(', ')}`)
    .option('--interval <seconds>', `time that rates are taken over (${INTERVAL_SECONDS_DEFAULT})`)
    .action(async (options: SocketListOptions) => {
      const filter = socketFilter(options);
      const intervalMs = intervalMsOf(options.interval, INTERVAL_SECONDS_DEFAULT);
      const source = await openView(resolveRunDirectory(options.runDir));
      const figures: Figures = await sampleOver(source, intervalMs);
      const document: SocketListDocument = {
        sockets: filterSockets(figures.sockets, filter),
        sampled: { source: source.source, at: figures.takenAt, intervalMs: figures.intervalMs },
      };
      print(options, document, socketsText);
    });
}
