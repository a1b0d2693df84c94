/** `stpctl stg create NAME`: takes free boards and makes an STG of them. */
import type { Command } from 'commander';
import { checkStgBody } from '../../daemon/stg-request.js';
import { flagOf, typedNumber, typedNumbers } from '../command-line.js';
import { print } from '../output.js';
import { withProgress } from '../progress.js';
import { stgText } from './stg-show.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

type Typed = number | string;

interface CreateOptions extends VerbOptions {
  readonly boards?: Typed;
  readonly ports?: Typed;
  readonly connections?: Typed;
  readonly allowUid?: Typed[];
  readonly allowGid?: Typed[];
}

const FLAGS: Readonly<Record<string, string>> = {
  name: 'name',
  boardCount: '--boards',
  allowUids: '--allow-uid',
  allowGids: '--allow-gid',
};

export function addStgCreate(parent: Command): void {
  addVerb(parent, 'create <name>', {
    summary: 'create an STG from free boards',
    document: '{"stg": {...}}',
    examples: [
      'stpctl stg create backup --boards 8 --ports 16',
      'stpctl stg create shared --boards 4 --ports 8 --allow-uid 1000 --allow-gid 44',
    ],
  })
    .requiredOption('--boards <n>', 'boards to take, at least 4', typedNumber)
    .requiredOption('--ports <n>', 'listeners and explicit binds it may have', typedNumber)
    .option('--connections <n>', 'connections it may have (default: as configured)', typedNumber)
    .option(
      '--allow-uid <uid>',
      'a user that may attach (default: as configured); repeat',
      typedNumbers,
    )
    .option('--allow-gid <gid>', 'a group that may attach; repeat', typedNumbers)
    .action(async (name: string, options: CreateOptions) => {
      const given = {
        name,
        boardCount: options.boards,
        ports: options.ports,
        connections: options.connections,
        allowUids: options.allowUid,
        allowGids: options.allowGid,
      };
      const body = checkStgBody(given, (key) => FLAGS[key] ?? flagOf(key));
      const created = clientOf(options).createStg(body);
      const what = `creating ${name}: ${body.boardCount} boards are filled`;
      print(options, await withProgress(what, created), stgText);
    });
}
