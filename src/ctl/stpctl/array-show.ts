/** `stpctl array show`: the array and its directors. */
import type { Command } from 'commander';
import type { ArrayDocument, DirectorReport } from '../../daemon/reports.js';
import { humanDuration, humanSize, orDash, print } from '../output.js';
import { amount, sheet, table, text } from '../table.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

const DIRECTOR_COLUMNS = [
  amount<DirectorReport>('DIRECTOR', (d) => d.number),
  text<DirectorReport>('STATE', (d) => d.state),
  amount<DirectorReport>('LOAD', (d) => `${(d.load * 100).toFixed(1)} %`),
  amount<DirectorReport>('COMMANDS', (d) => d.commands),
  text<DirectorReport>('STGS', (d) => orDash(d.stgs.join(','))),
];

export function arrayText({ array }: ArrayDocument): string {
  const used = array.boardsUsed * array.boardBytes;
  const total = array.boardsTotal * array.boardBytes;
  const facts = sheet([
    ['instance', array.instance],
    ['state', array.state],
    ['pid', String(array.pid)],
    ['version', array.version],
    ['layout', `${array.layoutVersion} (${array.layoutHash.slice(0, 16)})`],
    ['up', `${humanDuration(array.uptimeSeconds)}, since ${array.startedAt}`],
    ['run directory', array.runDirectory],
    [
      'boards',
      `${array.boardsUsed} of ${array.boardsTotal} in use, ${humanSize(array.boardBytes)} each`,
    ],
    ['board memory', `${humanSize(used)} of ${humanSize(total)} in use`],
    ['memory claimed', humanSize(array.memoryBytes)],
    ['STGs', String(array.stgs)],
    ['hosts', String(array.hosts)],
    ['sockets', String(array.sockets)],
  ]);
  return `${facts}\n${table(DIRECTOR_COLUMNS, array.directors)}`;
}

export function addArrayShow(parent: Command): void {
  addVerb(parent, 'show', {
    summary: 'show the array and its directors',
    document: '{"array": {...}}',
    examples: ['stpctl array show', 'stpctl array show --json'],
  }).action(async (options: VerbOptions) => {
    print(options, await clientOf(options).array(), arrayText);
  });
}
