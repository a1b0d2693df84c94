/** `stpctl stg list`: the STGs, one a line. */
import type { Command } from 'commander';
import type { StgReport, StgsDocument } from '../../daemon/reports.js';
import { humanSize, print, ranges } from '../output.js';
import { amount, table, text } from '../table.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

const COLUMNS = [
  text<StgReport>('NAME', (s) => s.name),
  text<StgReport>('STATE', (s) => s.state),
  text<StgReport>('BOARDS', (s) => ranges(s.boards)),
  amount<StgReport>('MEMORY', (s) => humanSize(s.memoryBytes)),
  amount<StgReport>('PAGES FREE', (s) => `${s.pagesFree}/${s.pagesTotal}`),
  amount<StgReport>('PORTS', (s) => `${s.portsUsed}/${s.portsMax}`),
  amount<StgReport>('CONNECTIONS', (s) => `${s.connectionsUsed}/${s.connectionsMax}`),
  amount<StgReport>('HOSTS', (s) => s.members.length),
  amount<StgReport>('DIRECTOR', (s) => s.director),
];

export const stgsText = ({ stgs }: StgsDocument): string => table(COLUMNS, stgs);

export function addStgList(parent: Command): void {
  addVerb(parent, 'list', {
    summary: 'list the STGs',
    document: '{"stgs": [...]}',
    examples: ['stpctl stg list', 'stpctl stg list --json'],
  }).action(async (options: VerbOptions) => {
    print(options, await clientOf(options).stgs(), stgsText);
  });
}
