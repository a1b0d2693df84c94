/** Who waited for whom, of given times. */
import test from 'ava';
import {
  type MoverTimes,
  type Slowest,
  slowestOf,
  sumTimes,
  waitedOf,
} from '../../../src/backup/mover-times.js';

const times = (some: Partial<MoverTimes>): MoverTimes => ({
  ...{ wall: 1000, peer: 0, array: 0, rate: 0, user: 0, system: 0 },
  ...some,
});

const cases: [string, Partial<MoverTimes>, Partial<MoverTimes>, Slowest][] = [
  ['the server waits: the disk of the client', { array: 20 }, { peer: 700 }, 'clientDisk'],
  ['the client waits: the disk of the server', { peer: 600 }, { peer: 30 }, 'serverDisk'],
  ['neither waits for the other, but both for pages', { array: 400 }, { array: 300 }, 'array'],
  ['who is slowed down makes the other wait', { rate: 500 }, { peer: 600 }, 'rateLimit'],
  ['all keep pace', { peer: 50, array: 20 }, { peer: 60 }, null],
];
for (const [what, client, server, slowest] of cases) {
  test(`${what}: ${slowest}`, (t) => {
    t.is(slowestOf(waitedOf(times(client), times(server))), slowest);
  });
}

test('several movers of a side count together; nothing moved is no division by zero', (t) => {
  const both = sumTimes([times({ peer: 100 }), times({ peer: 300 })]);
  t.is(waitedOf(both, times({})).serverDisk, 0.2);
  t.is(slowestOf(waitedOf(times({ wall: 0 }), times({ wall: 0 }))), null);
});
