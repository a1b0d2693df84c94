/** `stpctl stg grow NAME`: adds boards and connection slots to an STG that is in use. */
import type { Command } from 'commander';
import { checkGrowBody, checkStgName } from '../../daemon/stg-request.js';
import { flagOf, typedNumber } from '../command-line.js';
import { print } from '../output.js';
import { withProgress } from '../progress.js';
import { stgText } from './stg-show.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

interface GrowOptions extends VerbOptions {
  readonly boards?: number | string;
  readonly connections?: number | string;
}

const FLAGS: Readonly<Record<string, string>> = { boardCount: '--boards' };

export function addStgGrow(parent: Command): void {
  addVerb(parent, 'grow <name>', {
    summary: 'add free boards, or connections, to an STG while it is in use',
    document: '{"stg": {...}}',
    examples: [
      'stpctl stg grow backup --boards 4',
      'stpctl stg grow backup --boards 4 --connections 8192',
    ],
  })
    .option('--boards <n>', 'boards to add', typedNumber)
    .option('--connections <n>', 'connections to add', typedNumber)
    .action(async (given: string, options: GrowOptions) => {
      const name = checkStgName(given);
      const wanted = { boardCount: options.boards, connections: options.connections };
      const body = checkGrowBody(wanted, (key) => FLAGS[key] ?? flagOf(key));
      const grown = clientOf(options).growStg(name, body);
      const what = `growing ${name}: ${body.boardCount ?? 0} boards are filled`;
      print(options, await withProgress(what, grown), stgText);
    });
}
