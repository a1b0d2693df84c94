/**
 * Runs a Promela model: spin makes a verifier of it, the C compiler a program, and that looks at
 * every state there is. Only the models' tests use it.
 */
import { execFile, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The sources, also when this runs compiled from dist/. */
export const modelDirectory = fileURLToPath(new URL('../../../test/model/', import.meta.url));

const RUN_TIMEOUT_MS = 150_000;
/** Steps of the longest path; far more than any path has. */
const DEPTH_MAX = 100_000;

export interface Verdict {
  /** What spin found first, or undefined. */
  readonly error: 'invalid end state' | 'assertion violated' | 'acceptance cycle' | undefined;
  readonly states: number;
  /** Why the search does not prove anything, or undefined. */
  readonly incomplete: string | undefined;
  /** Lines of the model with steps that were taken, and with steps that were not. */
  readonly reached: readonly string[];
  readonly unreached: readonly string[];
  readonly output: string;
}

/** Why the models cannot be run here, or undefined. */
export function missing(): string | undefined {
  if (spawnSync('spin', ['-V']).status !== 0) {
    return 'spin is not installed (Debian package spin)';
  }
  return spawnSync('cc', ['--version']).status === 0 ? undefined : 'there is no C compiler (cc)';
}

function run(directory: string, command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { cwd: directory, timeout: RUN_TIMEOUT_MS, maxBuffer: 64 << 20 };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      const output = stdout + stderr;
      if (error === null) resolve(output);
      else reject(new Error(`${command} ${args.join(' ')}: ${error.message}\n${output}`));
    });
  });
}

/** The numbers of a process's states that were never come to. */
function neverOf(output: string): Set<string> {
  const never = new Set<string>();
  let process = '';
  for (const line of output.split('\n')) {
    process = /^unreached in (?:proctype )?(\S+)/.exec(line)?.[1] ?? process;
    const state = /^\t\S+, state (\d+), /.exec(line);
    if (state !== null) never.add(`${process} ${state[1]}`);
  }
  return never;
}

/** Where an inline stands in several places, one that is come to is enough. */
function linesOf(machines: string, output: string): Pick<Verdict, 'reached' | 'unreached'> {
  const never = neverOf(output);
  const lines = { reached: [] as string[], unreached: [] as string[] };
  let process = '';
  for (const line of machines.split('\n')) {
    process = /^(?:proctype )?(:?\w+:?)$/.exec(line)?.[1] ?? process;
    const edge = /^\tstate +(\d+) .*\] \S+\.pml:(\d+) => (.*)$/.exec(line);
    if (edge === null || edge[3] === '(dead)') continue; /* the kill, which is everywhere */
    lines[never.has(`${process} ${edge[1]}`) ? 'unreached' : 'reached'].push(edge[2] as string);
  }
  return lines;
}

/**
 * Looks at every state of a model with these definitions.
 * @param optimise takes the compiler seconds, and pays from a million states on
 */
export async function verify(
  model: string,
  definitions: readonly string[],
  optimise = false,
): Promise<Verdict> {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-model-'));
  try {
    for (const file of readdirSync(modelDirectory)) {
      if (file.endsWith('.pml')) copyFileSync(join(modelDirectory, file), join(directory, file));
    }
    const defined = definitions.map((definition) => `-D${definition}`);
    /* -o3: no step is merged into another, so that all can be told apart. */
    await run(directory, 'spin', ['-a', '-o3', ...defined, model]);
    const lively = definitions.includes('LIVELY');
    const flags = lively ? ['-DNFAIR=3'] : ['-DSAFETY', '-DNOFAIR'];
    await run(directory, 'cc', [optimise ? '-O1' : '-O0', '-w', ...flags, '-o', 'pan', 'pan.c']);
    const output = await run(directory, './pan', [
      `-m${DEPTH_MAX}`,
      ...(lively ? ['-a', '-f'] : []),
    ]);
    const machines = await run(directory, './pan', ['-d']);
    const error = /^pan:\d+: (invalid end state|assertion violated|acceptance cycle)/m.exec(output);
    const incomplete = /max search depth too small|out of memory|hash conflict.*lossy/.exec(output);
    return {
      error: error?.[1] as Verdict['error'],
      states: Number(/([\d.e+]+) states, stored/.exec(output)?.[1] ?? 0),
      incomplete: incomplete?.[0] ?? (/errors: \d+/.test(output) ? undefined : output),
      ...linesOf(machines, output),
      output,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
