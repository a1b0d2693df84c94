/**
 * Commands before and after a backup, on the client.
 *
 * Only what the client's own configuration names is run; what a server sends is handed over in the
 * environment and never becomes a part of a line. A `before` that fails, by exit status, signal or
 * time, fails the backup. `after` runs once `before` was begun, however the backup went, the roots' own
 * first; it is told the outcome. Whatever runs is killed, as a process group, when its session ends or
 * its time is up. Event loop only.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { isCoded, stpError } from '../errors.js';
import { isAtOrBelow } from '../source/confine.js';
import type { Commands } from './config.js';
import { COMMAND_GRACE_MS, COMMAND_TAIL_BYTES } from './limits.js';
import { reasonOf } from './reason.js';

type When = 'before' | 'after';

interface Line {
  readonly when: When;
  readonly line: string;
  /** Null: of every backup. */
  readonly root: string | null;
}

/** What an `after` is told. */
export type Outcome =
  | {
      readonly set: string;
      readonly entries: number;
      readonly bytes: number;
      readonly complaints: number;
    }
  | { readonly failure: unknown };

export interface CommandLog {
  info(message: string): void;
  warn(message: string): void;
}

/** Commands that run now, of all sessions: who ends the process lets each `after` come to its end. */
const running = new Set<Promise<unknown>>();

/** Resolves when no command of any session is left. */
export async function commandsEnded(): Promise<void> {
  while (running.size > 0) await Promise.allSettled(running);
}

const realRoot = (root: string): Buffer | null => {
  try {
    return realpathSync.native(root, 'buffer') as Buffer;
  } catch {
    return null;
  }
};

/** The commands of one backup. */
export class BackupCommands {
  readonly #lines: readonly Line[];
  #begun = false;

  /**
   * @param paths real paths that are backed up
   * @param environment what every command is told
   */
  constructor(
    private readonly commands: Commands | undefined,
    paths: readonly Buffer[],
    private readonly environment: Readonly<Record<string, string>>,
    private readonly log: CommandLog,
  ) {
    const { roots = new Map() } = commands ?? {};
    const touched = [...roots].filter(([root]) => {
      const real = realRoot(root);
      return real && paths.some((path) => isAtOrBelow(path, real) || isAtOrBelow(real, path));
    });
    const lineOf = (when: When, line: string | undefined, root: string | null): Line[] =>
      line === undefined ? [] : [{ when, line, root }];
    const own = (when: When): Line[] => touched.flatMap(([r, c]) => lineOf(when, c[when], r));
    this.#lines = [
      ...lineOf('before', commands?.before, null),
      ...own('before'),
      ...own('after').reverse(),
      ...lineOf('after', commands?.after, null),
    ];
  }

  /** True if something is to be run when all is over. */
  get hasAfter(): boolean {
    return this.#lines.some(({ when }) => when === 'after');
  }

  /**
   * Runs what comes before.
   * @param over aborted when the session ends; then the command that runs is killed
   * @throws ECHILD naming the command and its exit status, ETIMEDOUT, the signal's reason
   */
  async before(over: AbortSignal): Promise<void> {
    this.#begun = true;
    for (const line of this.#lines) {
      if (line.when === 'before') await this.#run(line, {}, over);
    }
  }

  /** Runs what comes after; each failure is one of the reasons. Nothing where `before` was not begun. */
  async after(outcome: Outcome): Promise<Error[]> {
    const failures: Error[] = [];
    if (!this.#begun) return failures;
    for (const line of this.#lines) {
      if (line.when !== 'after') continue;
      try {
        await this.#run(line, outcomeOf(outcome), null);
      } catch (e) {
        failures.push(e as Error);
        this.log.warn(reasonOf(e).message);
      }
    }
    return failures;
  }

  async #run(line: Line, more: Record<string, string>, over: AbortSignal | null): Promise<void> {
    const environment = {
      ...this.environment,
      STPBACKUP_WHEN: line.when,
      ...(line.root !== null && { STPBACKUP_ROOT: line.root }),
      ...more,
    };
    const timeoutMs = this.commands?.timeoutMs ?? 0;
    const run = runCommand(line, environment, timeoutMs, over);
    running.add(run);
    try {
      await run;
      this.log.info(`${nameOf(line)}: done`);
    } finally {
      running.delete(run);
    }
  }
}

const nameOf = ({ when, line, root }: Line): string =>
  `${when}${root === null ? '' : ` of ${root}`} (${line})`;

function outcomeOf(outcome: Outcome): Record<string, string> {
  if ('failure' in outcome) {
    const { code, message } = reasonOf(outcome.failure);
    return {
      STPBACKUP_OUTCOME: 'failed',
      STPBACKUP_CODE: code,
      STPBACKUP_REASON: message.replaceAll('\0', '?'),
    };
  }
  const { set, entries, bytes, complaints } = outcome;
  return {
    STPBACKUP_OUTCOME: complaints > 0 ? 'warnings' : 'complete',
    STPBACKUP_SET: set,
    STPBACKUP_ENTRIES: String(entries),
    STPBACKUP_BYTES: String(bytes),
    STPBACKUP_WARNINGS: String(complaints),
  };
}

/** Ends a process group: SIGTERM, and SIGKILL for whoever does not care. */
function endGroup(child: ChildProcess): void {
  const kill = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch (e) {
      // Nobody of the group is left.
      if (!isCoded(e) || e.code !== 'ESRCH') throw e;
    }
  };
  kill('SIGTERM');
  const later = setTimeout(() => kill('SIGKILL'), COMMAND_GRACE_MS);
  child.once('exit', () => {
    clearTimeout(later);
    // What it started, and left behind.
    kill('SIGKILL');
  });
}

/** The end of what a command said, on one line. */
class Tail {
  #text = '';

  add(chunk: Buffer): void {
    this.#text = (this.#text + chunk.toString('utf8')).slice(-COMMAND_TAIL_BYTES);
  }

  get text(): string {
    const lines = this.#text.trim().split(/\s*\n\s*/);
    return lines.slice(-3).join('; ');
  }
}

function runCommand(
  line: Line,
  environment: Readonly<Record<string, string>>,
  timeoutMs: number,
  over: AbortSignal | null,
): Promise<void> {
  return new Promise((fulfil, reject) => {
    if (over?.aborted) {
      reject(over.reason);
      return;
    }
    const child = spawn('/bin/sh', ['-c', line.line], {
      cwd: '/',
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const said = new Tail();
    child.stdout?.on('data', (chunk: Buffer) => said.add(chunk));
    child.stderr?.on('data', (chunk: Buffer) => said.add(chunk));
    let early: unknown;
    const end = (why: unknown): void => {
      early ??= why;
      endGroup(child);
    };
    const onAbort = (): void => end(over?.reason);
    over?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => {
      const limit = `${timeoutMs / 1000} s ("commandSeconds")`;
      end(stpError('ETIMEDOUT', `${nameOf(line)} did not end within ${limit} and was killed`));
    }, timeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      over?.removeEventListener('abort', onAbort);
      // What it left in the background may hold these open.
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    const fail = (what: string): void => {
      const last = said.text === '' ? '' : `: ${said.text}`;
      reject(stpError('ECHILD', `${nameOf(line)} ${what}${last}`));
    };
    child.once('error', (e) => {
      settle();
      fail(`could not be started: ${e.message}`);
    });
    child.once('exit', (code, signal) => {
      // Its last words may still be in the pipe.
      setImmediate(() => {
        settle();
        if (early !== undefined) reject(early);
        else if (code === 0) fulfil();
        else fail(code === null ? `was ended by ${signal}` : `failed with exit status ${code}`);
      });
    });
  });
}
