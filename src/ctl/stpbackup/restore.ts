/** stpbackup restore SET HOST:TARGET [PATH...] */
import type { Command } from 'commander';
import { withServer } from './ask-server.js';
import { accessOptions, type LibraryPlace, withMedia } from './open-library.js';
import { parseHostPath, runSession, type SessionVerbOptions, withSession } from './session-verb.js';

type RestoreOptions = SessionVerbOptions & LibraryPlace;

export function addRestore(program: Command): void {
  const restore = program
    .command('restore')
    .description('restores a set, or some of its paths, into a directory of a host')
    .argument('<set>', 'id of a set, the beginning of just one, or latest')
    .argument('<host:target>', 'host, and a new or empty directory below its restoreRoots')
    .argument('[path...]', 'absolute paths as they were; all of the set when none is named');
  withMedia(withSession(withServer(restore))).action(
    async (set: string, to: string, paths: string[], options: RestoreOptions) => {
      const { host, path: target } = parseHostPath(to);
      const access = accessOptions(options);
      await runSession(options, '/v1/restore', { set, host, target, paths, access });
    },
  );
}
