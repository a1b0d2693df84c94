/** `stpd start`: checks everything that can be checked, then serves, in the background by default. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { reportStart, type StartReport, startInBackground } from '../../daemon/background.js';
import {
  CONFIGURATION_FILE_DEFAULT,
  type Configuration,
  checkSettings,
  LOG_LEVELS,
  readConfigurationFile,
  resolveConfiguration,
} from '../../daemon/configuration.js';
import { logPath } from '../../daemon/log.js';
import { checkMemory } from '../../daemon/memory-check.js';
import type { ArrayFactory } from '../../daemon/reports.js';
import { formatSize } from '../../daemon/size.js';
import {
  AlreadyRunningError,
  findHolder,
  LOG_FILE,
  type LockFile,
  prepareRunDirectory,
  resolveRunDirectory,
} from '../../run-directory.js';
import {
  EXIT_FAILURE,
  EXIT_OK,
  errorText,
  exitCodeOf,
  flagOf,
  plainMessage,
  typedNumber,
  typedNumbers,
} from '../command-line.js';
import { withProgress } from '../progress.js';

/** What the verbs of stpd are made with. */
export interface StpdParts {
  /** The script that a background daemon runs again. */
  readonly script: string;
  readonly createArray: ArrayFactory;
  readonly lockFile: LockFile;
}

type Typed = number | string;

export interface StartOptions {
  readonly foreground?: boolean;
  readonly detached?: boolean;
  readonly runDir?: string;
  readonly config?: string;
  readonly boards?: Typed;
  readonly boardSize?: Typed;
  readonly memory?: Typed;
  readonly directors?: Typed;
  readonly connections?: Typed;
  readonly logFile?: string;
  readonly logLevel?: string;
  readonly allowUid?: readonly Typed[];
  readonly allowGid?: readonly Typed[];
}

const EXAMPLES = `
Examples:
  stpd start                                     256 MiB on this user's run directory
  stpd start --memory 1GiB --directors 2
  stpd start --run-dir /tmp/array --foreground   log to the terminal, end with Ctrl-C

Sizes are bytes, or a whole number with KiB, MiB, GiB or TiB.`;

/** The options of a start; `restart` has them too. */
export function addStartOptions(command: Command): Command {
  return command
    .option(
      '--run-dir <dir>',
      'where sockets, lock and log are (default: STPD_RUN_DIR, or by user)',
    )
    .option(
      '--config <file>',
      `configuration, JSON (default: ${CONFIGURATION_FILE_DEFAULT} if there)`,
    )
    .option('--boards <n>', 'memory boards (default: 16)', typedNumber)
    .option('--board-size <size>', 'memory of a board (default: 16MiB)', typedNumber)
    .option('--memory <size>', 'memory of all boards together, instead of --boards', typedNumber)
    .option('--directors <n>', 'channel directors (default: 1)', typedNumber)
    .option('--connections <n>', 'connections of an STG that does not say', typedNumber)
    .option('--log-file <file>', `log of a daemon in the background (default: RUN/${LOG_FILE})`)
    .option('--log-level <level>', `${LOG_LEVELS.join(', ')} (default: info)`)
    .option('--allow-uid <uid>', 'who may attach to an STG that does not say; repeat', typedNumbers)
    .option('--allow-gid <gid>', 'the same, by group; repeat', typedNumbers);
}

/** What flags are called where their key is called something else. */
const FLAGS: Readonly<Record<string, string>> = {
  allowUids: '--allow-uid',
  allowGids: '--allow-gid',
};

/** @throws ValidationError, MemoryRefusedError */
export function configurationOf(options: StartOptions): Configuration {
  const given = {
    boards: options.boards,
    boardSize: options.boardSize,
    memory: options.memory,
    directors: options.directors,
    connections: options.connections,
    logFile: options.logFile === undefined ? undefined : resolve(options.logFile),
    logLevel: options.logLevel,
    allowUids: options.allowUid,
    allowGids: options.allowGid,
  };
  const present = Object.entries(given).filter(([, value]) => value !== undefined);
  const flags = checkSettings(Object.fromEntries(present), (key) => FLAGS[key] ?? flagOf(key));
  const file = readConfigurationFile(options.config ?? null);
  const configuration = resolveConfiguration(file, flags);
  checkMemory(configuration);
  return configuration;
}

/** The options as they were given, for the daemon that runs in the background. */
function argumentsOf(options: StartOptions): string[] {
  const { foreground: _, ...passed } = options;
  return Object.entries(passed).flatMap(([key, value]) =>
    [value].flat().map((one) => `${flagOf(key)}=${one}`),
  );
}

/** Serves until it is told to end, then ends the process. */
async function serve(
  parts: StpdParts,
  options: StartOptions,
  configuration: Configuration,
  runDirectory: string,
): Promise<never> {
  const background = options.detached === true;
  let report: StartReport | undefined;
  const say = (first: StartReport): Promise<void> => {
    report ??= first;
    return report === first ? reportStart(first) : Promise.resolve();
  };
  try {
    // Only the daemon itself pays for loading its server.
    const { runDaemon } = await import('../../daemon/main.js');
    if (background) process.chdir('/');
    await runDaemon({
      configuration,
      runDirectory,
      background,
      createArray: parts.createArray,
      lockFile: parts.lockFile,
      onServing: () => void say({ served: true, pid: process.pid }),
    });
    process.exit(EXIT_OK);
  } catch (error) {
    const exitCode = exitCodeOf(error) || EXIT_FAILURE;
    // It has a log from the moment on which it owns the run directory.
    const logFile = logPath(configuration, runDirectory);
    const logged = !(error instanceof AlreadyRunningError) && existsSync(logFile);
    const message = `${plainMessage(error)}${logged ? `; see ${logFile}` : ''}`;
    if (background) await say({ served: false, message, exitCode });
    else process.stderr.write(errorText('stpd', error));
    process.exit(exitCode);
  }
}

/** Starts a daemon in the background and says how that went. Sets the exit code. */
export async function startDaemon(
  parts: StpdParts,
  options: StartOptions,
  configuration: Configuration,
  runDirectory: string,
): Promise<void> {
  prepareRunDirectory(runDirectory);
  const holder = await findHolder(runDirectory, parts.lockFile);
  if (holder !== undefined) throw new AlreadyRunningError(runDirectory, holder.pid);
  const logFile = logPath(configuration, runDirectory);
  const args = [
    'start',
    '--foreground',
    '--detached',
    ...argumentsOf({ ...options, runDir: runDirectory }),
  ];
  const report = await withProgress(
    'stpd is starting',
    startInBackground({ script: parts.script, args, logFile }),
  );
  if (!report.served) {
    process.stderr.write(errorText('stpd', new Error(report.message)));
    process.exitCode = report.exitCode;
    return;
  }
  const { boards, boardBytes } = configuration;
  process.stdout.write(
    `stpd (pid ${report.pid}) serves ${runDirectory}: ${boards} boards of ` +
      `${formatSize(boardBytes)}, log ${logFile}\n`,
  );
}

export function addStart(program: Command, parts: StpdParts): void {
  addStartOptions(program.command('start'))
    .summary('start the array')
    .description('Starts a storage array: a daemon that owns the memory and makes connections.')
    .option('--foreground', 'do not detach; log to stderr')
    .addOption(new Option('--detached').hideHelp())
    .addHelpText('after', EXAMPLES)
    .action(async (options: StartOptions) => {
      const runDirectory = resolveRunDirectory(options.runDir);
      const configuration = configurationOf(options);
      if (options.foreground) await serve(parts, options, configuration, runDirectory);
      else await startDaemon(parts, options, configuration, runDirectory);
    });
}
