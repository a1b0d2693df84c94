/** What every verb of stpctl has: a run directory, `--json`, and a client. */
import type { Command } from 'commander';
import { ControlClient } from '../../daemon/control-client.js';
import { resolveRunDirectory } from '../../run-directory.js';
import type { OutputOptions } from '../output.js';

export interface VerbOptions extends OutputOptions {
  readonly runDir?: string;
}

export interface VerbText {
  /** For the list of verbs. */
  readonly summary: string;
  /** Shape of the document, such as `{"boards": [...]}`. */
  readonly document: string;
  readonly examples: readonly string[];
}

/** @param signature name and arguments, as commander takes them */
export function addVerb(parent: Command, signature: string, text: VerbText): Command {
  return parent
    .command(signature)
    .summary(text.summary)
    .description(`${text.summary[0]?.toUpperCase()}${text.summary.slice(1)}.`)
    .option('--json', `one JSON document: ${text.document}`)
    .option('--run-dir <dir>', 'which array (default: STPD_RUN_DIR, or by user)')
    .addHelpText('after', `\nExamples:\n${text.examples.map((line) => `  ${line}\n`).join('')}`);
}

export const clientOf = (options: VerbOptions): ControlClient =>
  new ControlClient(resolveRunDirectory(options.runDir));
