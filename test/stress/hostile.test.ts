/**
 * Hosts that write noise, in short: into their STG's memory, into their own member rings, at the
 * attach socket. STPD_SEED=n writes the same noise again, at another moment. Longer:
 * npm run test:stress -- --hostile.
 */
import test from 'ava';
import { seedFromEnvironment } from '../support/random.js';
import { HostileRun } from './hostile-run.js';

const TIMEOUT_MS = 600_000;

test('noise breaks streams of its STG, and neither a process, stpd, nor another STG', async (t) => {
  t.timeout(TIMEOUT_MS);
  const seed = seedFromEnvironment();
  t.log(`STPD_SEED=${seed}`);
  const result = await new HostileRun(seed, { memory: 2000, ring: 30, attach: 300 }).run();
  t.log(JSON.stringify(result));
  t.true(result.clean > 0);
  t.true(result.broken > 0, 'the noise has reached streams');
});
