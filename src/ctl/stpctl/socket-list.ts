/** `stpctl socket list`: the sockets of all hosts; a connection has two lines, one for each end. */
import type { Command } from 'commander';
import type { SocketReport, SocketsDocument } from '../../daemon/reports.js';
import { amount, humanSize, orDash, print, table, text } from '../output.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

const COLUMNS = [
  text<SocketReport>('MECHANISM', (s) => s.mechanism),
  text<SocketReport>('STG', (s) => s.stg),
  text<SocketReport>('STATE', (s) => s.state),
  amount<SocketReport>('HOST', (s) => s.localHost),
  amount<SocketReport>('PORT', (s) => s.localPort),
  amount<SocketReport>('PEER', (s) => orDash(s.peerHost)),
  amount<SocketReport>('PEER PORT', (s) => orDash(s.remotePort)),
  amount<SocketReport>('SEND QUEUE', (s) => humanSize(s.sendQueueBytes)),
  amount<SocketReport>('RECEIVE QUEUE', (s) => humanSize(s.receiveQueueBytes)),
  amount<SocketReport>('SENT', (s) => humanSize(s.bytesSent)),
  amount<SocketReport>('RECEIVED', (s) => humanSize(s.bytesReceived)),
  amount<SocketReport>('SEND WAITS', (s) => s.sendWaits),
  amount<SocketReport>('RECEIVE WAITS', (s) => s.receiveWaits),
];

export const socketsText = ({ sockets }: SocketsDocument): string => table(COLUMNS, sockets);

export function addSocketList(parent: Command): void {
  addVerb(parent, 'list', {
    summary: 'list the sockets of all hosts',
    document: '{"sockets": [...]}',
    examples: ['stpctl socket list', 'stpctl socket list --json'],
  }).action(async (options: VerbOptions) => {
    print(options, await clientOf(options).sockets(), socketsText);
  });
}
