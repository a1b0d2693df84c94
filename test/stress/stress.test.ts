/**
 * The stress test in short: one run on all cores, one on a single one. STPD_SEED=n plans the same
 * again; who runs when is another matter. Longer: npm run test:stress.
 */
import test from 'ava';
import { seedFromEnvironment } from '../support/random.js';
import type { PlanShape } from './plan.js';
import { StressRun } from './run.js';

/** A run ends by its plan or by its watchdog, which counts ticks; this is far beyond. */
const TIMEOUT_MS = 600_000;

const shapes: readonly [string, PlanShape][] = [
  [
    'on all cores',
    { processes: 4, connections: 56, bytesMax: 5 << 20, oneCore: false, boardBytes: 4 << 20 },
  ],
  [
    'on one core',
    { processes: 3, connections: 26, bytesMax: 3 << 20, oneCore: true, boardBytes: 4 << 20 },
  ],
];

for (const [name, shape] of shapes) {
  test.serial(
    `processes, threads and faults ${name}: every byte, every end, nothing left`,
    async (t) => {
      t.timeout(TIMEOUT_MS);
      const seed = seedFromEnvironment();
      t.log(`STPD_SEED=${seed}`);
      const result = await new StressRun(seed, shape).run();
      t.log(JSON.stringify(result));
      t.true(result.wraps > 0, 'some stream has crossed 2^32');
    },
  );
}
