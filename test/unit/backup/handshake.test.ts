import test from 'ava';
import {
  FIG4_CLIENT,
  FIG4A_CLIENT,
  FIG4A_CLIENT_NETWORK,
} from '../../../src/backup/handshake-client.js';
import {
  FIG4_SERVER,
  FIG4A_SERVER,
  FIG4A_SERVER_NETWORK,
} from '../../../src/backup/handshake-server.js';
import {
  type Step,
  type StepNumber,
  type StepRecord,
  traceLine,
} from '../../../src/backup/handshake-steps.js';
import { figureSteps, startRig, until } from './rig.js';

const MISSION = {
  fig4Server: [82, 84, 86, 90, 92, 94, 96, 98, 100],
  fig4Client: [112, 114, 116, 118, 120, 122, 124, 126],
  fig4aServer: [132, 134, 136, 138, 140, 142, 144, 146],
  fig4aClient: [152, 154, 156, 158, 160, 162, 164, 166, 168, 170, 172],
};

const walk = <C>(table: readonly Step<C>[]): StepNumber[] => {
  const seen: StepNumber[] = [];
  for (let at: StepNumber | 'done' | undefined = table[0]?.step; at && at !== 'done'; ) {
    seen.push(at);
    at = table.find((row) => row.step === at)?.next;
  }
  return seen;
};

test('the tables have the steps of the figures, in their order', (t) => {
  t.deepEqual(walk(FIG4_SERVER), MISSION.fig4Server);
  t.deepEqual(walk(FIG4_CLIENT), MISSION.fig4Client);
  t.deepEqual(walk(FIG4A_SERVER), MISSION.fig4aServer);
  t.deepEqual(walk(FIG4A_CLIENT), MISSION.fig4aClient);
  t.deepEqual(walk(FIG4A_SERVER_NETWORK), MISSION.fig4aServer);
  t.deepEqual(walk(FIG4A_CLIENT_NETWORK), MISSION.fig4aClient);
});

test('every row of a table is reached, and belongs to its column', (t) => {
  const check = <C>(table: readonly Step<C>[], figure: string, side: string): void => {
    t.deepEqual(
      walk(table),
      table.map((row) => row.step),
    );
    for (const row of table) t.deepEqual([row.figure, row.side], [figure, side]);
  };
  check(FIG4_SERVER, '4', 'server');
  check(FIG4_CLIENT, '4', 'client');
  check(FIG4A_SERVER, '4A', 'server');
  check(FIG4A_CLIENT, '4A', 'client');
});

for (const tls of [true, false]) {
  test(`a handshake over ${tls ? 'TLS-PSK' : 'plain TCP'} runs the steps on both sides`, async (t) => {
    const rig = await startRig({}, tls);
    t.teardown(rig.stop);
    const trace: StepRecord[] = [];
    const session = await rig.connect({ trace: (r) => trace.push(r) });
    t.is(session.streams.length, 1);
    t.deepEqual(figureSteps(trace, '4'), MISSION.fig4Server);
    t.deepEqual(figureSteps(trace, '4A'), MISSION.fig4aServer);
    await until(() => rig.steps.length >= 19);
    const client = rig.steps.map((s) => s.record);
    t.deepEqual(figureSteps(client, '4'), MISSION.fig4Client);
    t.deepEqual(figureSteps(client, '4A'), MISSION.fig4aClient);
    t.true(trace.every((r) => r.error === undefined && r.side === 'server' && r.ms >= 0));
  });
}

test('a trace line names figure, side, step and call', (t) => {
  const line = traceLine({ figure: '4A', step: 140, side: 'server', what: 'receive: x', ms: 1.25 });
  t.regex(line, /1\.3 ms {2}Fig\. 4A {2}server {2}140 {2}receive: x/);
});

test('the two figures run at the same time: neither waits for the other', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const trace: StepRecord[] = [];
  await rig.connect({ trace: (r) => trace.push(r) });
  const order = trace.map((r) => r.figure);
  const lastOf4 = order.lastIndexOf('4');
  const firstOf4a = order.indexOf('4A');
  const lastOf4a = order.lastIndexOf('4A');
  const firstOf4 = order.indexOf('4');
  t.true(firstOf4a < lastOf4, 'Fig. 4A began before Fig. 4 ended');
  t.true(firstOf4 < lastOf4a, 'and Fig. 4 before Fig. 4A ended');
});

test('Fig. 4A completes while Fig. 4 is held up', async (t) => {
  // The client's side of 172 waits for the storage connection only.
  const rig = await startRig();
  t.teardown(rig.stop);
  const trace: StepRecord[] = [];
  const abort = new AbortController();
  const slow = rig.newConnect();
  const connect = slow.connect.bind(slow);
  let wkpConnects = 0;
  slow.connect = async (fd, at, options) => {
    // Step 98 never returns; steps 86, 136 and 146 do.
    if (at.port === rig.config.wkp && ++wkpConnects === 2) await new Promise(() => {});
    return connect(fd, at, options);
  };
  const failed = t.throwsAsync(
    rig.connect({ connect: slow, signal: abort.signal, trace: (r) => trace.push(r) }),
    { message: /given up/ },
  );
  await until(() => rig.steps.some((s) => s.record.step === 172));
  t.false(rig.steps.some((s) => s.record.step === 126));
  t.is(figureSteps(trace, '4').at(-1), 96);
  abort.abort(new Error('given up'));
  await failed;
});

test('several data streams: 142 to 146 once for each', async (t) => {
  const streams: number[] = [];
  const rig = await startRig({
    job: async (session) => {
      streams.push(...session.streams);
    },
  });
  t.teardown(rig.stop);
  const trace: StepRecord[] = [];
  const connect = rig.newConnect();
  const session = await rig.connect({ connect, streams: 3, trace: (r) => trace.push(r) });
  t.is(new Set(session.streams).size, 3);
  t.deepEqual(figureSteps(trace, '4A'), [
    ...MISSION.fig4aServer,
    ...[142, 144, 146],
    ...[142, 144, 146],
  ]);
  const request = { op: 'backup', host: 'host1', paths: ['/'], streams: 3 };
  await connect.send(session.control, Buffer.from(`${JSON.stringify(request)}\n`));
  await until(() => streams.length === 3);
  t.is(rig.steps.filter((s) => s.record.step === 172).length, 3);
});

test('sessions at the same time do not mix', async (t) => {
  const seen = new Map<string, string>();
  const rig = await startRig({
    job: async (session) => {
      const first = await session.storage.receiveExactly(session.streams[0] as number, 8);
      seen.set(session.request.host, first.toString());
      await session.errors.send({ path: '/x', code: session.request.host, message: '' });
    },
  });
  t.teardown(rig.stop);
  const names = ['host-aaa', 'host-bbb', 'host-ccc', 'host-ddd'];
  const answers = await Promise.all(
    names.map(async (host) => {
      const connect = rig.newConnect();
      const session = await rig.connect({ connect });
      const request = { op: 'backup', host, paths: ['/'], streams: 1 };
      await connect.send(session.control, Buffer.from(`${JSON.stringify(request)}\n`));
      await connect.send(session.streams[0] as number, Buffer.from(host));
      return (await connect.receive(session.errors, 4096)).toString();
    }),
  );
  for (const [i, name] of names.entries()) {
    t.is(seen.get(name), name);
    t.is(JSON.parse(answers[i] as string).code, name);
  }
});
