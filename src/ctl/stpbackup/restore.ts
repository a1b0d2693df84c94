/** stpbackup restore SET HOST:TARGET [PATH...] */
import { type Command, Option } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import type { RestoreOptions } from '../../backup/restore-order.js';
import { overwriteModes } from '../../library/restore-plan.js';
import { withServer } from './ask-server.js';
import { accessOptions, type LibraryPlace, withMedia } from './open-library.js';
import { parseHostPath, runSession, type SessionVerbOptions, withSession } from './session-verb.js';

interface Given extends SessionVerbOptions, LibraryPlace {
  readonly overwrite: RestoreOptions['overwrite'];
  readonly stripComponents?: string;
  readonly map: readonly string[];
  readonly mapUser: readonly string[];
  readonly mapGroup: readonly string[];
  readonly owner: boolean;
  readonly dryRun?: true;
  readonly verify?: true;
}

/** `FROM=TO`; the first `=` parts the two, `\=` is one of FROM's own. */
function pathPair(given: string): { from: string; to: string } {
  const [, from = '', to = ''] = /^((?:\\.|[^=\\])*)=(.*)$/su.exec(given) ?? [];
  if (from.startsWith('/') && to.startsWith('/'))
    return { from: from.replace(/\\(.)/gsu, '$1'), to };
  throw new ConfigurationError(`--map ${given} is not /FROM=/TO, such as /srv/www=/www`);
}

function idPair(option: string, given: string): readonly [number, number] {
  const [, from, to] = /^(\d{1,10}):(\d{1,10})$/.exec(given) ?? [];
  if (from !== undefined && to !== undefined) return [Number(from), Number(to)];
  throw new ConfigurationError(`${option} ${given} is not FROM:TO in numbers, such as 1000:1001`);
}

function orderOf(given: Given): RestoreOptions {
  const strip = Number(given.stripComponents ?? 0);
  if (!Number.isInteger(strip) || strip < 0) {
    throw new ConfigurationError(`--strip-components ${given.stripComponents} is no number`);
  }
  if (strip > 0 && given.map.length > 0) {
    throw new ConfigurationError('--strip-components and --map exclude each other');
  }
  if (given.dryRun && given.verify) {
    throw new ConfigurationError('--dry-run writes nothing that --verify could read');
  }
  return {
    overwrite: given.overwrite,
    strip,
    maps: given.map.map(pathPair),
    owners: given.owner,
    users: given.mapUser.map((pair) => idPair('--map-user', pair)),
    groups: given.mapGroup.map((pair) => idPair('--map-group', pair)),
    dryRun: given.dryRun ?? false,
    verify: given.verify ?? false,
  };
}

const repeatable = (flags: string, what: string): Option =>
  new Option(flags, `${what}; repeatable`)
    .argParser((one: string, before: string[]) => [...before, one])
    .default([], 'none');

export function addRestore(program: Command): void {
  const restore = program
    .command('restore')
    .description('restores a set, or some of its paths, into a directory of a host')
    .argument('<set>', 'id of a set, the beginning of just one, or latest')
    .argument('<host:target>', 'host, and a directory below its restoreRoots; / is in place')
    .argument('[path...]', 'absolute paths as they were; all of the set when none is named')
    .addOption(
      new Option('--overwrite <mode>', 'what becomes of what is in the target; refuse: not empty')
        .choices(overwriteModes)
        .default('refuse'),
    )
    .option('--strip-components <n>', 'leave out the first N names of every path')
    .addOption(repeatable('--map <from=to>', 'what was at or below FROM goes to TO of the target'))
    .addOption(repeatable('--map-user <from:to>', 'a number of a user for another'))
    .addOption(repeatable('--map-group <from:to>', 'a number of a group for another'))
    .option('--no-owner', 'everything belongs to whom the client runs as')
    .option('--dry-run', 'write nothing, say what would be made, replaced and left')
    .option('--verify', 'read everything back afterwards and compare it with the set');
  withMedia(withSession(withServer(restore))).action(
    async (set: string, to: string, paths: string[], given: Given) => {
      const { host, path: target } = parseHostPath(to);
      const options = orderOf(given);
      const access = accessOptions(given);
      await runSession(given, '/v1/restore', { set, host, target, paths, options, access });
    },
  );
}
