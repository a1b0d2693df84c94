/** Near, far, discarded, inconclusive: with a clock and a probe that the test owns. */
import test from 'ava';
import { REGIME_LIMITS, type Regime, regimeOf } from '../../../bench/harness/regime.js';
import { type Cell, type Round, runSchedule } from '../../../bench/harness/schedule.js';

const ROUND_SECONDS = 0.25;

/** A machine whose clock moves by rounds and pauses; `probeNs` gets the number of the probe. */
function machineOf(probeNs: (n: number) => number) {
  let now = 0;
  let probes = 0;
  const order: string[] = [];
  const cell = (name: string): Cell<string> => ({
    name,
    run: async () => {
      now += ROUND_SECONDS;
      order.push(name);
      return name;
    },
  });
  return {
    order,
    cell,
    machine: {
      probe: async () => probeNs(probes++),
      now: () => now,
      pause: async (ms: number) => {
        now += ms / 1000;
      },
    },
  };
}

const options = { limits: REGIME_LIMITS, nearRounds: 9, lostSecondsMax: 600 };

const countOf = (rounds: readonly Round<string>[] | undefined, regime: Regime): number =>
  (rounds ?? []).filter((r) => r.regime === regime).length;

test('a round is near only if both probes are under 200 ns', (t) => {
  t.is(regimeOf(199.9, 199.9, REGIME_LIMITS), 'near');
  t.is(regimeOf(200, 100, REGIME_LIMITS), 'discarded');
  t.is(regimeOf(100, 200, REGIME_LIMITS), 'discarded');
});

test('a round is far only if both probes are over 300 ns', (t) => {
  t.is(regimeOf(300.1, 300.1, REGIME_LIMITS), 'far');
  t.is(regimeOf(300, 400, REGIME_LIMITS), 'discarded');
  t.is(regimeOf(100, 400, REGIME_LIMITS), 'discarded');
  t.is(regimeOf(250, 250, REGIME_LIMITS), 'discarded');
});

test('on a near machine every path gets nine near rounds, in turn', async (t) => {
  const { machine, cell, order } = machineOf(() => 60);
  const [a, b, c] = [cell('a'), cell('b'), cell('c')];
  const { rounds, inconclusive } = await runSchedule([[a, b], [c]], machine, options);
  t.deepEqual(inconclusive, []);
  t.deepEqual(
    [a, b, c].map((x) => countOf(rounds.get(x), 'near')),
    [9, 9, 9],
  );
  t.is(order.join(''), 'abc'.repeat(9));
});

test('a machine that stays far is inconclusive when the time is over', async (t) => {
  const { machine, cell } = machineOf(() => 400);
  const [a, b] = [cell('a'), cell('b')];
  const { rounds, inconclusive } = await runSchedule([[a, b]], machine, options);
  t.deepEqual(inconclusive, [a, b]);
  t.is(countOf(rounds.get(a), 'near'), 0);
  t.is(countOf(rounds.get(a), 'far'), 9);
  t.true(machine.now() >= 600 && machine.now() < 601, `ended at ${machine.now()} s`);
});

test('only rounds that did not count use the time up', async (t) => {
  const { machine, cell } = machineOf(() => 60);
  const cells = Array.from({ length: 100 }, (_, i) => cell(String(i)));
  const { inconclusive } = await runSchedule([cells], machine, { ...options, lostSecondsMax: 1 });
  t.deepEqual(inconclusive, []);
  t.is(machine.now(), 100 * 9 * ROUND_SECONDS);
});

test('progress counts the near rounds that were wanted', async (t) => {
  const { machine, cell } = machineOf((n) => (n === 4 ? 400 : 60));
  const seen: string[] = [];
  await runSchedule([[cell('a')]], machine, {
    ...options,
    nearRounds: 4,
    onRound: (_cell, regime, { done, wanted }) => seen.push(`${regime} ${done}/${wanted}`),
  });
  t.deepEqual(seen, [
    'near 1/4',
    'near 2/4',
    'near 3/4',
    'discarded 3/4',
    'discarded 3/4',
    'near 4/4',
  ]);
});

test('a flip within a round discards that round only', async (t) => {
  // Probe 0 precedes the first round; the fifth probe sees the machine far for a moment.
  const { machine, cell } = machineOf((n) => (n === 4 ? 400 : 60));
  const a = cell('a');
  const { rounds, inconclusive } = await runSchedule([[a]], machine, options);
  t.deepEqual(inconclusive, []);
  const regimes = (rounds.get(a) ?? []).map((r) => r.regime);
  t.deepEqual(regimes.slice(0, 6), ['near', 'near', 'near', 'discarded', 'discarded', 'near']);
  t.is(countOf(rounds.get(a), 'near'), 9);
});

test('probes between the limits decide nothing', async (t) => {
  const { machine, cell } = machineOf(() => 250);
  const a = cell('a');
  const { rounds, inconclusive } = await runSchedule([[a]], machine, {
    ...options,
    lostSecondsMax: 5,
  });
  t.deepEqual(inconclusive, [a]);
  t.is(countOf(rounds.get(a), 'near') + countOf(rounds.get(a), 'far'), 0);
});

test('all paths of a group go on until the last of them has its rounds', async (t) => {
  // With two paths, even probes follow rounds of b: b is discarded in its first three rounds.
  const { machine, cell } = machineOf((n) => (n > 0 && n <= 6 && n % 2 === 0 ? 250 : 60));
  const [a, b, c] = [cell('a'), cell('b'), cell('c')];
  const { rounds } = await runSchedule([[a, b], [c]], machine, options);
  t.is(countOf(rounds.get(b), 'near'), 9);
  t.true((rounds.get(a) ?? []).length === (rounds.get(b) ?? []).length);
});

test('a failing round fails the run', async (t) => {
  const { machine } = machineOf(() => 60);
  const broken: Cell<string> = {
    name: 'broken',
    run: () => Promise.reject(new Error('wrong digest')),
  };
  await t.throwsAsync(runSchedule([[broken]], machine, options), { message: 'wrong digest' });
});
