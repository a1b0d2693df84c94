/**
 * Whose reason is told when a session fails on both sides: who knows why, whatever arrives first. The
 * orders that a busy machine brings by chance are made here.
 */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { EstablishedClient } from '../../../src/backup/client.js';
import { runClientJob } from '../../../src/backup/client-jobs.js';
import { REASON_GRACE_MS } from '../../../src/backup/limits.js';
import { LineChannel } from '../../../src/backup/line-channel.js';
import { Mover } from '../../../src/backup/mover.js';
import { stpError } from '../../../src/errors.js';
import { type HouseOptions, startHouse } from './house.js';

const OWN_WORDS = 'the target is refused for a reason of its own';

/** A set in a house, and the order to restore it. */
async function withSet(t: ExecutionContext, options: HouseOptions) {
  const h = await startHouse(t, options);
  writeFileSync(join(h.base, 'src/file'), 'data');
  const order = { host: 'host1', paths: [join(h.base, 'src')] };
  const { set } = await h.server.backup(order, h.events, h.signal.signal);
  const restore = (target: string, via: 'array' | 'network') =>
    h.server.restore(
      { set, host: 'host1', target: join(h.base, 'out', target), paths: [], via },
      h.events,
      h.signal.signal,
    );
  return { h, restore };
}

/** Restores are done by `refuse`, backups as ever. */
const refusing =
  (refuse: (session: EstablishedClient) => Promise<never>): NonNullable<HouseOptions['job']> =>
  (session, config) =>
    session.request.op === 'restore' ? refuse(session) : runClientJob(session, config);

const breakStreams = ({ storage, streams }: EstablishedClient): void => {
  for (const stream of streams) storage.abort(stream);
};

for (const via of ['array', 'network'] as const) {
  test.serial(
    `${via}: the stream is broken before the server has given it to a thread`,
    async (t) => {
      const job = refusing(async (session) => {
        breakStreams(session);
        // The server has seen it before it goes on; its word comes last.
        await sleep(200);
        await session.control.send({ type: 'ready' });
        await sleep(200);
        throw stpError('EACCES', OWN_WORDS);
      });
      const { restore } = await withSet(t, { job });
      await t.throwsAsync(restore('r', via), { message: new RegExp(OWN_WORDS) });
    },
  );
}

test.serial('the client has a grace of its own, and the server waits for longer', async (t) => {
  const job = refusing(async (session) => {
    await session.control.send({ type: 'ready' });
    breakStreams(session);
    await sleep(REASON_GRACE_MS * 1.5);
    throw stpError('EACCES', OWN_WORDS);
  });
  const { restore } = await withSet(t, { job });
  await t.throwsAsync(restore('r', 'array'), { message: new RegExp(OWN_WORDS) });
});

/** What the client of a house does, in order: words on its control connection, ends of threads. */
function watchClient(t: ExecutionContext): {
  done: string[];
  job: NonNullable<HouseOptions['job']>;
} {
  const done: string[] = [];
  const { send } = LineChannel.prototype;
  const { stop } = Mover.prototype;
  t.teardown(() => {
    Mover.prototype.stop = stop;
  });
  const job: NonNullable<HouseOptions['job']> = (session, config) => {
    const { control } = session;
    control.send = (message: object) => {
      if ('type' in message && message.type === 'failed') done.push('told');
      return send.call(control, message);
    };
    Mover.prototype.stop = function (this: Mover<unknown>) {
      done.push('stopped');
      return stop.call(this);
    };
    return runClientJob(session, config);
  };
  return { done, job };
}

test.serial('the client tells why before it ends its thread', async (t) => {
  const { done, job } = watchClient(t);
  const { h, restore } = await withSet(t, { job });
  done.length = 0;
  symlinkSync(h.base, join(h.base, 'out/alias'));
  await t.throwsAsync(restore('alias', 'array'), { message: /alias on its way is a symlink/ });
  t.deepEqual(done.slice(0, 2), ['told', 'stopped']);
});
