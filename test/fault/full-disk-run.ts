/** Starts full-disk-library.ts with the shim, and gathers what it says. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { finished } from '../support/array.js';
import { compileShim, type Fault, FaultControl } from './full-disk-shim.js';

const program = fileURLToPath(new URL('./full-disk-library.js', import.meta.url));

export interface FullDiskReport {
  /** Of each operation: calls on the disk, and how many of them were made to fail. */
  readonly tried: { readonly name: string; readonly calls: number; readonly tried: number }[];
  readonly wrong: string[];
}

/** @param step every how many calls one fails: 1 for all */
export async function tryFullDisk(
  mode: Fault['mode'],
  code: Fault['code'],
  step: number,
): Promise<FullDiskReport> {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'stpd-full-')));
  try {
    const under = join(base, 'under');
    mkdirSync(under);
    const control = join(base, 'control');
    new FaultControl(control).close();
    const env = {
      ...process.env,
      ...FaultControl.environment(compileShim(base), control, under),
    };
    const args = [program, control, under, mode, code, `${step}`];
    const done = await finished(spawn(process.execPath, args, { env }));
    if (done.code !== 0)
      throw new Error(`${done.signal ?? done.code}: ${done.stderr}${done.stdout}`);
    const lines = done.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    return {
      tried: lines.filter((line) => line.tried !== undefined),
      wrong: lines
        .filter((line) => line.wrong !== undefined)
        .map(({ name, at, call, wrong }) => `${name}, call ${at} (${call}): ${wrong}`),
    };
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}
