/** `stpctl stg show NAME`: one STG. */
import type { Command } from 'commander';
import type { StgDocument } from '../../daemon/reports.js';
import { checkStgName } from '../../daemon/stg-request.js';
import { humanSize, orDash, print, ranges, sheet } from '../output.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

export const stgText = ({ stg }: StgDocument): string =>
  sheet([
    ['name', stg.name],
    ['generation', String(stg.generation)],
    ['state', stg.state],
    ['director', String(stg.director)],
    ['boards', `${stg.boards.length}: ${ranges(stg.boards)}`],
    ['memory', humanSize(stg.memoryBytes)],
    ['pages', `${stg.pagesFree} of ${stg.pagesTotal} free`],
    ['ports', `${stg.portsUsed} of ${stg.portsMax} in use`],
    ['connections', `${stg.connectionsUsed} of ${stg.connectionsMax} in use`],
    ['hosts', orDash(ranges(stg.members))],
    ...(stg.membersBehind.length === 0
      ? []
      : ([['hosts that have not mapped all', ranges(stg.membersBehind)]] as const)),
    ['allowed uids', orDash(stg.allowUids.join(','))],
    ['allowed gids', orDash(stg.allowGids.join(','))],
  ]);

export function addStgShow(parent: Command): void {
  addVerb(parent, 'show <name>', {
    summary: 'show an STG',
    document: '{"stg": {...}}',
    examples: ['stpctl stg show backup', 'stpctl stg show backup --json'],
  }).action(async (name: string, options: VerbOptions) => {
    print(options, await clientOf(options).stg(checkStgName(name)), stgText);
  });
}
