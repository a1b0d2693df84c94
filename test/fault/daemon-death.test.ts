/**
 * stpd ends, by kill -9 or in order: what stands goes on, what is new fails with a reason.
 */
import test from 'ava';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`${signal} ends stpd: streams go on, a death is still noticed, a new connect fails clearly`, async (t) => {
    const array = await startArray(t);
    const server = await startHost(t, array.runDirectory);
    const client = await startHost(t, array.runDirectory);
    const { port = 0 } = await server.ask({ do: 'listen', port: 5000 });
    const { socket = -1 } = await client.ask({ do: 'connect', port });
    await client.ask({ do: 'stream', socket });
    await until(
      'it streams',
      async () => ((await server.ask({ do: 'state', socket: 0 })).received ?? 0) > 1e6,
    );

    array.stpd.kill(signal);
    await until(
      'stpd is gone',
      () => array.stpd.signalCode !== null || array.stpd.exitCode !== null,
    );

    const before = (await server.ask({ do: 'state', socket: 0 })).received ?? 0;
    await until(
      'the stream goes on',
      async () => ((await server.ask({ do: 'state', socket: 0 })).received ?? 0) > before + 1e7,
    );
    const error = await t.throwsAsync(client.ask({ do: 'connect', port }), { code: 'ENETDOWN' });
    t.regex(error?.message ?? '', /stpd on .* is gone; established streams go on/);

    await client.kill();
    const state = await until('the death of the peer is noticed', async () => {
      const now = await server.ask({ do: 'state', socket: 0 });
      return now.closed === true && now;
    });
    t.is(state.code, 'ECONNRESET');
  });
}
