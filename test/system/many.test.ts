/**
 * Thousands of connections opened, used and closed between two processes on an STG of default size:
 * nothing is left, the counters say so; and while they are idle they hold no page and little memory.
 *
 * 1,000 connections; `npm run test:many` runs it with 10,000.
 */
import { readdirSync } from 'node:fs';
import test from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { startArray, until } from '../support/array.js';
import { type ManyAnswer, startManyHost } from '../support/many-host.js';

const CONNECTIONS = Number(process.env.STPD_MANY ?? 1000);
/** Of both processes together. */
const RSS_ANON_BYTES_MAX = 300 * 2 ** 20;
const WATCHDOG_MS = 600_000;
/** What each connection sends there and gets back. */
const BYTES = 20_000;
const ROUNDS = 2;

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const total = (answers: readonly ManyAnswer[]): number =>
  answers.reduce((sum, { rssAnonBytes = 0 }) => sum + rssAnonBytes, 0);

test.serial(`${CONNECTIONS} connections leave nothing, and hold no page while idle`, async (t) => {
  t.timeout(WATCHDOG_MS, 'as many connections as there are');
  const array = await startArray(t, { boards: 4, boardSize: '16MiB', connections: 16384 });
  const { runDirectory, stpd } = array;
  const server = await startManyHost(t, runDirectory, { name: 'server' });
  const client = await startManyHost(t, runDirectory, { name: 'client' });
  const hosts = [server, client];
  const { port = 0 } = await server.ask({ do: 'serve', kind: 'echo' });
  const stg = async (): Promise<StgReport> => {
    const [report] = await array.list<StgReport>('stg', 'list');
    return report as StgReport;
  };
  const resources = (): Promise<ManyAnswer[]> =>
    Promise.all(hosts.map((host) => host.ask({ do: 'resources' })));
  const descriptors = (): number => readdirSync(`/proc/${stpd.pid}/fd`).length;
  /* The first connection of two hosts makes their cable, which stays. */
  await client.ask({ do: 'open', port, count: 1 });
  await client.ask({ do: 'exchange', bytes: BYTES });
  await client.ask({ do: 'close' });
  const empty = async (): Promise<StgReport> =>
    until(
      'the STG is empty',
      async () => {
        const now = await stg();
        return now.connectionsUsed === 0 && now.pagesFree === now.pagesTotal && now;
      },
      WATCHDOG_MS,
    );
  const before = await empty();
  const had = await resources();
  const stpdHad = descriptors();

  for (let round = 1; round <= ROUNDS; round++) {
    await client.ask({ do: 'open', port, count: CONNECTIONS });
    const { counts = [] } = await client.ask({ do: 'exchange', bytes: BYTES });
    t.deepEqual(counts, new Array(CONNECTIONS).fill(BYTES), 'each has its answer');
    t.is((await stg()).connectionsUsed, CONNECTIONS);
    const idle = await until(
      'idle connections hold no page',
      async () => {
        const now = await stg();
        return now.pagesFree === now.pagesTotal && now;
      },
      WATCHDOG_MS,
    );
    /* What they have read into goes back to the system a moment later. */
    const has = await until(
      `both processes together have less than ${mebibytes(RSS_ANON_BYTES_MAX)}`,
      async () => {
        const now = await resources();
        return total(now) < RSS_ANON_BYTES_MAX && now;
      },
    );
    t.is(idle.connectionsUsed, CONNECTIONS);
    t.deepEqual([idle.hostPages, idle.connectionPages, idle.pagesOfHosts], [[], [], 0]);
    t.deepEqual(
      has.map(({ open, descriptors: fds }) => [open, fds]),
      had.map(({ descriptors: fds }) => [CONNECTIONS, fds]),
    );
    t.true(descriptors() <= stpdHad, `stpd has ${descriptors()} descriptors, and had ${stpdHad}`);
    t.log(
      `round ${round}: ${CONNECTIONS} idle connections, ${mebibytes(total(has))} of both processes, ` +
        `${mebibytes(total(had))} without them`,
    );
    await client.ask({ do: 'close' });
    const after = await empty();
    t.is(after.portsUsed, before.portsUsed, 'the listener’s');
    const left = await resources();
    t.deepEqual(
      left.map(({ open, errors, descriptors: fds }) => [open, errors, fds]),
      had.map(({ descriptors: fds }) => [0, [], fds]),
    );
    t.true(descriptors() <= stpdHad, `stpd has ${descriptors()} descriptors, and had ${stpdHad}`);
    t.is((await array.list('socket', 'list')).length, 1, 'the listener');
  }
});
