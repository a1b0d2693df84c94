/**
 * Whole commands, timed by the shell that runs them: elapsed and CPU seconds of all their processes.
 */
import { spawn } from 'node:child_process';

export interface Timed {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly stdout: string;
}

/** One argument of a shell line. */
export const quoted = (argument: string): string => `'${argument.replaceAll("'", "'\\''")}'`;

/**
 * What a command gets of this process's environment: as much as cron gives, and what chooses a
 * behaviour of stpd. A variable that only this machine sets is no part of what is compared:
 * NODE_EXTRA_CA_CERTS alone adds 65 ms to each start of Node 20.
 */
const ambient = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) => /^(PATH|HOME|TMPDIR|STPD_\w+)$/.test(name)),
  );

/** bash's own clock, to the millisecond; what the line prints to stderr goes before it. */
export function timed(line: string, environment: NodeJS.ProcessEnv = {}): Promise<Timed> {
  const script = `set -o pipefail; TIMEFORMAT='%R %U %S'; time { ${line}; }`;
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', script], {
      env: { ...ambient(), LC_ALL: 'C', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text: Buffer) => {
      stdout += text.toString();
    });
    child.stderr.on('data', (text: Buffer) => {
      stderr += text.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      const times = /^([\d.]+) ([\d.]+) ([\d.]+)$/m.exec(stderr.trimEnd().split('\n').at(-1) ?? '');
      if (code !== 0 || times === null) reject(new Error(`${line}: exit ${code}\n${stderr}`));
      else {
        const [elapsed, user, system] = times.slice(1).map(Number) as [number, number, number];
        resolve({ seconds: elapsed, cpuSeconds: user + system, stdout });
      }
    });
  });
}
