/** stpbackup forget [SET...] */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { forgetSets, prune } from '../../library/forget.js';
import type { LibraryListing } from '../../library/library.js';
import {
  applyRules,
  type KeepRules,
  type RuleName,
  ruleNames,
  type Verdict,
} from '../../library/retention.js';
import { printable } from '../output.js';
import { table, text } from '../table.js';
import { changeLibrary, type LibraryPlace, readLibrary, withLibrary } from './open-library.js';
import { type PruneDocument, prunedText } from './prune.js';
import { type WorkOptions, WorkView, withWork } from './work-view.js';

interface ForgetOptions extends LibraryPlace, WorkOptions, Readonly<Record<string, unknown>> {
  readonly host?: string;
  readonly dryRun?: true;
  readonly prune?: true;
}

interface ForgetDocument {
  readonly dryRun: boolean;
  readonly kept: readonly { readonly set: string; readonly reasons: readonly string[] }[];
  readonly forgotten: readonly string[];
  readonly pruned: PruneDocument | null;
}

const optionOf = (rule: RuleName): string => `keep${rule[0]?.toUpperCase()}${rule.slice(1)}`;
const COUNT_MAX = 1_000_000;

function rulesOf(options: ForgetOptions): KeepRules {
  const rules: Partial<Record<RuleName, number>> = {};
  for (const rule of ruleNames) {
    const given = options[optionOf(rule)];
    if (given === undefined) continue;
    const count = Number(given);
    if (!Number.isInteger(count) || count < 0 || count > COUNT_MAX) {
      throw new ConfigurationError(`--keep-${rule} ${given} is not a number of sets`);
    }
    rules[rule] = count;
  }
  return rules;
}

/** What to judge by: names, or rules that keep something. */
function judgeOf(
  names: readonly string[],
  options: ForgetOptions,
  idOf: (name: string) => string,
): (listing: LibraryListing) => Verdict[] {
  const rules = rulesOf(options);
  const keeps = Object.values(rules).some((count) => count > 0);
  if (names.length > 0 ? Object.keys(rules).length > 0 : !keeps) {
    throw new ConfigurationError(
      'name sets, or give a rule that keeps some, such as --keep-daily 7 --keep-monthly 12',
    );
  }
  if (names.length === 0) {
    return ({ sets }) =>
      applyRules(
        sets.filter((set) => options.host === undefined || set.host === options.host),
        rules,
      );
  }
  const ids = names.map(idOf);
  return ({ sets }) => sets.filter((s) => ids.includes(s.id)).map((set) => ({ set, reasons: [] }));
}

const columns = [
  text<Verdict>('SET', (v) => v.set.id),
  text<Verdict>('HOST', (v) => v.set.host),
  text<Verdict>('ROOTS', (v) => printable(v.set.roots.join(' '))),
  text<Verdict>('KEPT', (v) => v.reasons.join(', ') || 'no'),
];

export function addForget(program: Command): void {
  const command = withLibrary(
    program
      .command('forget')
      .description('takes sets out of the listing, by rules or by name; prune removes them')
      .argument('[set...]', 'sets to forget; none: all that no rule keeps'),
  );
  for (const rule of ruleNames) {
    const what = rule === 'last' ? 'the newest sets' : `the newest set of each of so many, ${rule}`;
    command.option(`--keep-${rule} <n>`, `keep ${what}; for each host and its roots`);
  }
  command
    .option('--host <name>', 'only sets of this host')
    .option('--dry-run', 'only say what would be forgotten')
    .option('--prune', 'remove what is forgotten at once')
    .action((names: string[], options: ForgetOptions) => {
      const judge = judgeOf(names, options, (name) => readLibrary(options).openSet(name).id);
      const view = new WorkView('forget', options);
      let verdicts: readonly Verdict[] = [];
      const work = (): ForgetDocument => {
        const dryRun = options.dryRun === true;
        const library = dryRun ? readLibrary(options) : changeLibrary(options);
        verdicts = forgetSets(library, { judge, dryRun });
        const prunes = options.prune === true && !dryRun;
        const onBytes = (bytes: number, total: number) => view.progress(bytes, total);
        return {
          dryRun,
          kept: verdicts
            .filter((v) => v.reasons.length > 0)
            .map(({ set, reasons }) => ({ set: set.id, reasons })),
          forgotten: verdicts.filter((v) => v.reasons.length === 0).map((v) => v.set.id),
          pruned: prunes ? { ...prune(library, false, onBytes), dryRun: false } : null,
        };
      };
      view.run(work, ({ pruned }) => {
        const rest = pruned === null ? '' : prunedText(pruned);
        return table(columns, verdicts) + rest;
      });
    });
  withWork(command);
}
