/**
 * What a host's owner may expect of it besides its streams.
 */
import { once } from 'node:events';
import test from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach } from '../../src/index.js';
import { startArray } from '../support/array.js';

test.serial(
  'a server closes when stpd is gone, and createServer takes a listener alone',
  async (t) => {
    const array = await startArray(t);
    const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
    const server = host.createServer((socket) => socket.end('hello'));
    server.listen(0);
    await once(server, 'listening');
    const client = host.connect({ port: server.address()?.port ?? 0 });
    const [hello] = await once(client, 'data');
    t.is(String(hello), 'hello');
    await once(client, 'close');
    const closed = once(server, 'close');
    const detached = once(host, 'detached');
    array.stpd.kill('SIGKILL');
    const [error] = await detached;
    t.is((error as { code?: string }).code, 'ENETDOWN');
    await closed;
    t.is(server.address(), null);
    await host.close();
  },
);

test.serial(
  'many hosts in one process make no warning, and leave nothing in the STG',
  async (t) => {
    const array = await startArray(t);
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    t.teardown(() => process.off('warning', onWarning));
    const hooks = process.listenerCount('exit');
    const hosts = [];
    for (let i = 0; i < 15; i++) {
      hosts.push(await attach({ runDirectory: array.runDirectory, stg: 'test', name: `h${i}` }));
    }
    t.true(process.listenerCount('exit') <= hooks + 1, 'one hook for all hosts of a thread');
    await Promise.all(hosts.map((host) => host.close()));
    await new Promise((resolve) => setImmediate(resolve));
    t.deepEqual(warnings, []);
    for (;;) {
      const [stg] = await array.list<StgReport>('stg', 'list');
      if (stg?.members.length === 0) break;
    }
    t.pass();
  },
);

test.serial('arrays of tests share one exit hook, which goes with the last of them', async (t) => {
  const hooks = process.listenerCount('exit');
  const arrays = await Promise.all([1, 2, 3].map(() => startArray(t)));
  t.true(process.listenerCount('exit') <= hooks + 1);
  await Promise.all(arrays.map((array) => array.stop()));
  t.true(process.listenerCount('exit') <= hooks);
});
