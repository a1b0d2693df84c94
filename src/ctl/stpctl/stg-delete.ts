/** `stpctl stg delete NAME`: destroys an STG and its memory. */
import type { Command } from 'commander';
import { checkStgName } from '../../daemon/stg-request.js';
import { print } from '../output.js';
import { withProgress } from '../progress.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

interface DeleteOptions extends VerbOptions {
  readonly force?: boolean;
}

export function addStgDelete(parent: Command): void {
  addVerb(parent, 'delete <name>', {
    summary: 'delete an STG and give its boards back',
    document: '{"deleted": "NAME"}',
    examples: ['stpctl stg delete backup', 'stpctl stg delete backup --force'],
  })
    .option('--force', 'also if hosts use it: their connections are reset')
    .action(async (name: string, options: DeleteOptions) => {
      const deletion = clientOf(options).deleteStg(checkStgName(name), options.force === true);
      const document = await withProgress(`deleting ${name}`, deletion);
      print(options, document, ({ deleted }) => `${deleted} is deleted\n`);
    });
}
