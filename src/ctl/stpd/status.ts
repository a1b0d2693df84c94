/** `stpd status`: whether an array runs, and whether it answers. */
import type { Command } from 'commander';
import { ControlClient, NotRunningError } from '../../daemon/control-client.js';
import type { ArrayReport } from '../../daemon/reports.js';
import { messageOf } from '../../errors.js';
import { findHolder, resolveRunDirectory } from '../../run-directory.js';
import { EXIT_FAILURE, EXIT_NOT_RUNNING, EXIT_OK } from '../command-line.js';
import { humanDuration, humanSize, print } from '../output.js';
import type { StpdParts } from './start.js';

/** What `--json` prints. */
export interface StatusDocument {
  readonly status: {
    /** A process holds the run directory's lock. */
    readonly running: boolean;
    /** It also answers on its control socket. */
    readonly answering: boolean;
    readonly pid: number | null;
    readonly runDirectory: string;
    readonly array: ArrayReport | null;
    /** Why it does not answer; null where it does, or where none runs. */
    readonly problem: string | null;
  };
}

interface StatusOptions {
  readonly runDir?: string;
  readonly json?: boolean;
}

export async function statusOf(runDirectory: string, parts: StpdParts): Promise<StatusDocument> {
  const holder = await findHolder(runDirectory, parts.lockFile);
  const pid = holder?.pid ?? null;
  const base = { running: pid !== null, answering: false, pid, runDirectory, array: null };
  if (pid === null) return { status: { ...base, problem: null } };
  try {
    const { array } = await new ControlClient(runDirectory).array();
    return { status: { ...base, answering: true, array, problem: null } };
  } catch (error) {
    const between = `stpd (pid ${pid}) on ${runDirectory} is just starting or ending`;
    const problem = error instanceof NotRunningError ? between : messageOf(error);
    return { status: { ...base, problem } };
  }
}

function statusText({ status }: StatusDocument): string {
  const { pid, runDirectory, array, problem } = status;
  if (pid === null) return `stpd is not running on ${runDirectory}\n`;
  if (array === null) return `${problem}\n`;
  return (
    `stpd ${array.version} (pid ${pid}) serves ${runDirectory}: up ` +
    `${humanDuration(array.uptimeSeconds)}, ${array.boardsUsed} of ${array.boardsTotal} boards of ` +
    `${humanSize(array.boardBytes)} in use, STGs: ${array.stgs}, hosts: ${array.hosts}, ` +
    `sockets: ${array.sockets}\n`
  );
}

export function addStatus(program: Command, parts: StpdParts): void {
  program
    .command('status')
    .summary('tell whether the array runs')
    .description(
      'Exits with 0 if it runs and answers, 5 if it does not run, 1 if it does not answer.',
    )
    .option('--json', 'one JSON document: {"status": {...}}')
    .option('--run-dir <dir>', 'which array (default: STPD_RUN_DIR, or by user)')
    .addHelpText('after', '\nExamples:\n  stpd status\n  stpd status --json')
    .action(async (options: StatusOptions) => {
      const document = await statusOf(resolveRunDirectory(options.runDir), parts);
      print(options, document, statusText);
      const { running, answering } = document.status;
      process.exitCode = answering ? EXIT_OK : running ? EXIT_FAILURE : EXIT_NOT_RUNNING;
    });
}
