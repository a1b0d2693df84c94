/**
 * The C programs beside the benchmark: compiled when it starts, for this machine.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/** The package's root, seen from dist/bench/harness/. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

const PROGRAMS = ['on_cpus', 'spin_probe', 'memcpy_2p'] as const;
export type ProgramName = (typeof PROGRAMS)[number];
export type Programs = Readonly<Record<ProgramName, string>>;

const FLAGS = ['-std=gnu11', '-O3', '-march=native'];

/**
 * Paths of the programs, compiled now if they are not there, are of another source, or are of
 * another CPU (`-march=native`).
 * @returns or a sentence saying why there are none
 */
export function buildPrograms(compiler = process.env.CC ?? 'cc'): Programs | string {
  const sources = `${ROOT}bench/native/`;
  const target = `${ROOT}build/bench/`;
  const common = readFileSync(`${sources}two_processes.h`);
  const result: Partial<Record<ProgramName, string>> = {};
  mkdirSync(target, { recursive: true });
  for (const name of PROGRAMS) {
    const source = `${sources}${name}.c`;
    const program = `${target}${name}`;
    const stamp = createHash('sha256')
      .update(common)
      .update(readFileSync(source))
      .update(JSON.stringify([compiler, FLAGS, cpus()[0]?.model]))
      .digest('hex');
    const stampFile = `${program}.stamp`;
    result[name] = program;
    if (existsSync(program) && existsSync(stampFile)) {
      if (readFileSync(stampFile, 'utf8') === stamp) continue;
    }
    // Two runs may compile at once: each makes its own file, and the name changes in one step.
    const own = `${program}.${process.pid}`;
    const cc = spawnSync(compiler, [...FLAGS, '-o', own, source], { encoding: 'utf8' });
    if (cc.error !== undefined) {
      return `no C compiler: ${compiler}: ${cc.error.message}; install one (Debian: gcc) or set CC`;
    }
    if (cc.status !== 0) return `${compiler} could not compile ${source}:\n${cc.stderr}`;
    renameSync(own, program);
    writeFileSync(own, stamp);
    renameSync(own, stampFile);
  }
  return result as Programs;
}
