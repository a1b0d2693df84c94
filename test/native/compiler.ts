/**
 * Compiles what a test writes. The machine that built the addon has a compiler.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const COMPILE_TIMEOUT_MS = 60_000;

const candidates = { c: ['cc', 'gcc', 'clang'], cc: ['g++', 'clang++', 'c++'] } as const;
export type Language = keyof typeof candidates;

/** Compiles `text` in `directory`, and returns the program's (or library's) path. */
export function compile(
  directory: string,
  name: string,
  language: Language,
  text: string,
  flags: readonly string[],
): string {
  const source = join(directory, `${name}.${language}`);
  const output = join(directory, name);
  writeFileSync(source, text);
  for (const compiler of candidates[language]) {
    const result = spawnSync(compiler, [...flags, '-o', output, source], {
      encoding: 'utf8',
      timeout: COMPILE_TIMEOUT_MS,
    });
    if (result.error && (result.error as NodeJS.ErrnoException).code === 'ENOENT') continue;
    if (result.status !== 0) throw new Error(`${compiler} ${source}: ${result.stderr}`);
    return output;
  }
  throw new Error(`no compiler for ${language}: tried ${candidates[language].join(', ')}`);
}
