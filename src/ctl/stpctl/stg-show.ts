/** `stpctl stg show NAME`: one STG. */
import type { Command } from 'commander';
import type { StgDocument } from '../../daemon/reports.js';
import { checkStgName } from '../../daemon/stg-request.js';
import { humanSize, orDash, print, ranges } from '../output.js';
import { sheet } from '../table.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

/** Shown of hosts and connections; --json has more. */
const SHOWN_MAX = 5;

function most(all: readonly (readonly [string, number])[]): string {
  const shown = all.slice(0, SHOWN_MAX).map(([name, pages]) => `${name}: ${pages}`);
  return orDash(shown.join(', ') + (all.length > SHOWN_MAX ? ', ...' : ''));
}

const pageRows = (stg: StgDocument['stg']): (readonly [string, string])[] => [
  ['pages in use', `${stg.pagesOfConnections} by connections, ${stg.pagesOfHosts} held by hosts`],
  [
    'most pages, by host',
    most(
      stg.hostPages.map(({ host, sendPages, heldPages }) => [String(host), sendPages + heldPages]),
    ),
  ],
  ['most pages, by connection', most(stg.connectionPages.map(({ id, pages }) => [id, pages]))],
];

export const stgText = ({ stg }: StgDocument): string =>
  sheet([
    ['name', stg.name],
    ['generation', String(stg.generation)],
    ['state', stg.state],
    ['director', String(stg.director)],
    ['boards', `${stg.boards.length}: ${ranges(stg.boards)}`],
    ['memory', humanSize(stg.memoryBytes)],
    ['pages', `${stg.pagesFree} of ${stg.pagesTotal} free`],
    ...(stg.pagesFree === stg.pagesTotal ? [] : pageRows(stg)),
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
