/**
 * `npm run test:stress [-- --seconds N --seed S --hostile]`: runs of the stress test, one seed after
 * the other, until the time is over or one fails. With a seed, that one alone unless there is time
 * for those after it. With `--hostile`, runs in which hosts write noise. Exit code 0 or 1.
 */
import { parseArgs } from 'node:util';
import { Dice } from '../support/random.js';
import { HostileRun, type HostileShape } from './hostile-run.js';
import type { PlanShape } from './plan.js';
import { StressRun } from './run.js';

const SECONDS_DEFAULT = 120;

function shapeOf(seed: number): PlanShape {
  const dice = new Dice(seed ^ 0x51ce55);
  return {
    processes: dice.whole(2, 6),
    connections: dice.whole(20, 160),
    bytesMax: dice.one([64 << 10, 1 << 20, 8 << 20]),
    oneCore: dice.chance(0.4),
    boardBytes: dice.one([2 << 20, 4 << 20, 16 << 20]),
  };
}

function hostileShapeOf(seed: number): HostileShape {
  const dice = new Dice(seed ^ 0x51ce55);
  const rounds = (most: number): number => (dice.chance(0.7) ? dice.whole(1, most) : 0);
  return { memory: dice.whole(100, 4000), ring: rounds(100), attach: rounds(1000) };
}

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    hostile: { type: 'boolean' },
  },
});
const given = values.seed === undefined ? undefined : Number(values.seed) >>> 0;
const seconds = Number(values.seconds ?? (given === undefined ? SECONDS_DEFAULT : 0));
const until = performance.now() + seconds * 1000;
let seed = given ?? Math.floor(Math.random() * 2 ** 32);
do {
  const hostile = values.hostile === true;
  const shape = hostile ? hostileShapeOf(seed) : shapeOf(seed);
  const start = performance.now();
  process.stdout.write(`seed ${seed} ${JSON.stringify(shape)}\n`);
  try {
    const result =
      'memory' in shape
        ? await new HostileRun(seed, shape).run()
        : await new StressRun(seed, shape).run();
    const took = Math.round(performance.now() - start);
    process.stdout.write(`  ${took} ms ${JSON.stringify(result)}\n`);
  } catch (error) {
    process.stdout.write(`${(error as Error).stack}\n`);
    process.stdout.write(
      `failed: npm run test:stress -- --seed ${seed}${hostile ? ' --hostile' : ''}\n`,
    );
    process.exitCode = 1;
  }
  seed = (seed + 1) >>> 0;
} while (performance.now() < until && process.exitCode === undefined);
