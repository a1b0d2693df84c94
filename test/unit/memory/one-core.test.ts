/** Two threads that share a core. */
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const PROGRAM = fileURLToPath(new URL('./one-core-program.js', import.meta.url));
const WATCHDOG_MS = 150_000;

/** The first core that this process may use. */
function oneCore(): string {
  const status = readFileSync('/proc/self/status', 'utf8');
  return /^Cpus_allowed_list:\s*(\d+)/m.exec(status)?.[1] ?? '0';
}

const missing = spawnSync('taskset', ['-V']).error;
if (missing !== undefined) console.log(`skipped: one core: ${missing.message} (util-linux)`);

(missing === undefined ? test : test.skip)(
  'who looks for an answer lets the peer run that shares its core',
  async (t) => {
    t.timeout(WATCHDOG_MS);
    const { stdout } = await promisify(execFile)(
      'taskset',
      ['-c', oneCore(), process.execPath, PROGRAM],
      { timeout: WATCHDOG_MS },
    );
    t.log(`after ${stdout.trim()} rounds`);
    t.true(Number(stdout) >= 1);
  },
);
