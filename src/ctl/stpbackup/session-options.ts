/**
 * Options of verbs that have sessions; it loads nothing of what the sessions need. Main thread.
 */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { parseRate, RATE_RULE } from '../../backup/rate.js';

/** A rate as an option. */
export function typedRate(given: string): number {
  const rate = parseRate(given);
  if (rate === null) throw new ConfigurationError(`--limit-rate ${given}: ${RATE_RULE}`);
  return rate;
}

/** Adds what every session has. */
export const withOutput = (command: Command): Command =>
  command
    .option(
      '--limit-rate <rate>',
      'move at most so many bytes a second, such as 100M; the configurations may allow less',
      typedRate,
    )
    .option('--quiet', 'say nothing unless something is wrong')
    .option('--json', 'print events, one JSON object a line (docs/events.schema.json)');

/** For options that may be given several times. */
export const collect = (value: string, before: readonly string[]): string[] => [...before, value];

/** Adds keys of encrypted sets. */
export const withIdentity = (command: Command): Command =>
  command.option(
    '--identity <file>',
    'identity of age that opens encrypted sets; repeatable',
    collect,
    [],
  );
