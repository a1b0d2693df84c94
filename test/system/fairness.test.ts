/**
 * Greedy and modest senders side by side, in pools that are short of pages and in one that is not:
 * each comes to its share, and nobody waits without end.
 */
import test, { type ExecutionContext } from 'ava';
import { startArray } from '../support/array.js';
import { type ManyHost, startManyHost } from '../support/many-host.js';

const PAGE_BYTES = 65536;

interface Stage {
  readonly receiver: ManyHost;
  readonly sender: ManyHost;
  readonly neighbour: ManyHost;
  readonly sink: number;
  readonly echo: number;
}

/** A receiver of greedy and modest streams, a host that will be greedy, and one that will not. */
async function stage(
  t: ExecutionContext<unknown>,
  memory: { boards: number; boardSize: string },
): Promise<Stage> {
  const { runDirectory } = await startArray(t, { ...memory, connections: 2048 });
  const [receiver, sender, neighbour] = await Promise.all([
    startManyHost(t, runDirectory, { name: 'receiver' }),
    startManyHost(t, runDirectory, { name: 'greedy' }),
    startManyHost(t, runDirectory, { name: 'modest' }),
  ]);
  /* Modest ones first: `counts` has the greedy ones behind them. */
  const { port: echo = 0 } = await receiver.ask({ do: 'serve', kind: 'echo' });
  const { port: sink = 0 } = await receiver.ask({ do: 'serve', kind: 'sink' });
  return { receiver, sender, neighbour, sink, echo };
}

const summary = (milliseconds: readonly number[]): string => {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(1);
  return `median ${at(0.5)} ms, longest ${at(1)} ms`;
};

/** What each greedy stream has brought, since `before`. */
async function moved({ receiver }: Stage, before: readonly number[]): Promise<number[]> {
  const { counts = [], errors = [] } = await receiver.ask({ do: 'counts' });
  if (errors.length > 0) throw new Error(errors[0]);
  return counts.slice(0, before.length).map((count, i) => count - (before[i] ?? 0));
}

async function greedyBeside(
  t: ExecutionContext<unknown>,
  on: Stage,
  options: { greedy: number; rounds: number; pool: number; evenWithin: number },
): Promise<void> {
  const { receiver, sender, neighbour, sink, echo } = on;
  const { greedy, rounds, pool } = options;
  await sender.ask({ do: 'pour', port: sink, count: greedy });
  const { counts: before = [] } = await receiver.ask({ do: 'counts' });
  t.is(before.length, greedy);
  let shares: number[] = [];
  /* As long as it takes until each may have had its turn several times. */
  do {
    for (const [who, host] of [
      ['of another host', neighbour],
      ['of the same host', sender],
    ] as const) {
      const start = (await moved(on, before)).reduce((sum, bytes) => sum + bytes, 0);
      const { milliseconds = [] } = await host.ask({ do: 'ask', port: echo, count: rounds });
      shares = await moved(on, before);
      const bytes = shares.reduce((sum, share) => sum + share, 0) - start;
      t.log(
        `modest ${who}: ${summary(milliseconds)}, ${(bytes / 2 ** 20).toFixed(0)} MiB meanwhile`,
      );
      t.is(milliseconds.length, rounds);
      /* In how many pools' worth of greedy bytes it has had a turn: not in how long. */
      t.true(
        bytes / rounds < 64 * pool,
        `${who}: ${(bytes / rounds / pool).toFixed(1)} pools a round`,
      );
    }
  } while (shares.reduce((sum, share) => sum + share, 0) < greedy * 16 * PAGE_BYTES);
  /* Without the outliers that a process makes which stands still for a while. */
  const sorted = [...shares].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.round((sorted.length - 1) * share)] ?? 0;
  const [least, most] = [at(0.05), at(0.95)];
  t.log(
    `${greedy} greedy: ${(least / 2 ** 20).toFixed(1)} to ${(most / 2 ** 20).toFixed(1)} MiB each`,
  );
  t.true((sorted[0] ?? 0) > 0, 'each of the greedy ones moves');
  t.true(most / least < options.evenWithin, `${(most / least).toFixed(1)}`);
}

test.serial('a modest sender beside a greedy one, with pages for both', async (t) => {
  const on = await stage(t, { boards: 8, boardSize: '8MiB' });
  await greedyBeside(t, on, { greedy: 1, rounds: 200, pool: 2 ** 26, evenWithin: 2 });
});

test.serial('a modest sender beside 24 greedy ones that could fill the pool twice', async (t) => {
  const on = await stage(t, { boards: 4, boardSize: '12MiB' });
  await greedyBeside(t, on, { greedy: 24, rounds: 100, pool: 3 * 2 ** 24, evenWithin: 6 });
});

test.serial('a modest sender beside 1,000 greedy ones in a pool of 256 pages', async (t) => {
  t.timeout(300_000, 'so many take their time');
  const on = await stage(t, { boards: 4, boardSize: '4MiB' });
  await greedyBeside(t, on, { greedy: 1000, rounds: 20, pool: 2 ** 24, evenWithin: 8 });
});
