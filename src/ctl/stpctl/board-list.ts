/** `stpctl board list`: what every memory board is doing. */
import type { Command } from 'commander';
import type { BoardReport, BoardsDocument } from '../../daemon/reports.js';
import { humanSize, orDash, print } from '../output.js';
import { amount, table, text } from '../table.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

const COLUMNS = [
  amount<BoardReport>('BOARD', (b) => b.number),
  text<BoardReport>('STG', (b) => orDash(b.stg)),
  amount<BoardReport>('SIZE', (b) => humanSize(b.bytes)),
  amount<BoardReport>('PAGES', (b) => b.pages),
  amount<BoardReport>('USED', (b) => b.pagesUsed),
  amount<BoardReport>('ACCESSES', (b) => b.accesses),
  amount<BoardReport>('CONTENDED', (b) => b.contended),
  amount<BoardReport>('BYPASSED', (b) => b.bypassed),
  amount<BoardReport>('MOVED', (b) => humanSize(b.bytesMoved)),
  amount<BoardReport>('STEALS', (b) => b.steals),
];

export const boardsText = ({ boards }: BoardsDocument): string => table(COLUMNS, boards);

export function addBoardList(parent: Command): void {
  addVerb(parent, 'list', {
    summary: 'list the memory boards, their use and their counters',
    document: '{"boards": [...]}',
    examples: ['stpctl board list', 'stpctl board list --json'],
  }).action(async (options: VerbOptions) => {
    print(options, await clientOf(options).boards(), boardsText);
  });
}
