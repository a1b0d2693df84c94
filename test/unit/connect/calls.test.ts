import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { EITHER_DESCRIPTOR_MIN, STP_DESCRIPTOR_MIN } from '../../../src/connect/bounds.js';
import { calls, states } from '../../../src/connect/states.js';
import * as seed from '../../../src/connect/stp-calls.js';
import {
  AF_INET,
  AF_STP,
  familyOf,
  POLLIN,
  SOCK_STREAM,
  STPConnect,
  TCP_NODELAY,
} from '../../../src/connect/stp-connect.js';
import { failsWith, throwsCode } from '../../conformance/rig.js';

test('the value alone tells the mechanism, open or not', (t) => {
  t.is(familyOf(3), 'inet');
  t.is(familyOf(EITHER_DESCRIPTOR_MIN - 1), 'inet');
  t.is(familyOf(EITHER_DESCRIPTOR_MIN), 'either');
  t.is(familyOf(STP_DESCRIPTOR_MIN - 1), 'either');
  t.is(familyOf(STP_DESCRIPTOR_MIN), 'stp');
  t.is(familyOf(0x7fff_ffff), 'stp');
});

test('network descriptors do not look like stdin, stdout or stderr', (t) => {
  t.true(new STPConnect().socket(AF_INET) > 2);
});

test('wrong families, types and protocols are named', (t) => {
  const layer = new STPConnect();
  throwsCode(t, () => layer.socket(1), 'EAFNOSUPPORT');
  throwsCode(t, () => layer.socket(AF_INET, 2), 'EPROTOTYPE');
  throwsCode(t, () => layer.socket(AF_INET, SOCK_STREAM, 17), 'EPROTONOSUPPORT');
  t.notThrows(() => layer.socket(AF_INET, SOCK_STREAM, 6));
});

test('AF_STP without an attached host: EAFNOSUPPORT, saying what to do', (t) => {
  const layer = new STPConnect();
  throwsCode(t, () => layer.socket(AF_STP), 'EAFNOSUPPORT');
  const error = t.throws(() => layer.STPsocket());
  t.regex(error?.message ?? '', /attach\(\)/);
});

test("the seed's calls take a network descriptor too: its value decides", async (t) => {
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const listener = seed.STPsocket(layer, AF_INET);
  await seed.STPbind(layer, listener, { host: '127.0.0.1', port: 0 });
  await seed.STPlisten(layer, listener);
  const a = seed.STPsocket(layer, AF_INET);
  const { port } = seed.STPgetsockname(layer, listener);
  const [b] = await Promise.all([seed.STPaccept(layer, listener), seed.STPconnect(layer, a, port)]);
  t.is(await seed.STPsend(layer, a, Buffer.from('step 210')), 8);
  t.is((await seed.STPpoll(layer, [{ fd: b, events: POLLIN }], -1)).length, 1);
  t.is((await seed.STPrecv(layer, b, 100)).toString(), 'step 210');
  seed.STPsetsockopt(layer, b, TCP_NODELAY, false);
  t.is(seed.STPgetsockopt(layer, b, TCP_NODELAY), false);
  t.is(seed.STPgetpeername(layer, a).port, port);
  await seed.STPshutdown(layer, a, 'both');
  await seed.STPclose(layer, a);
});

test('the state table has an answer for every call in every state', (t) => {
  for (const row of Object.values(calls)) {
    t.deepEqual(Object.keys(row).sort(), [...states].sort());
    t.is(row.closed, 'EBADF');
    for (const answer of Object.values(row)) t.regex(answer, /^(ok|E[A-Z]+)$/);
  }
});

test('a network stream cannot be detached: ENOTSUP, and it goes on', async (t) => {
  const echo = net.createServer((socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  t.teardown(() => echo.close());
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const fd = layer.socket(AF_INET);
  await layer.connect(fd, { port: (echo.address() as net.AddressInfo).port });
  throwsCode(t, () => layer.detach(fd), 'ENOTSUP');
  await layer.send(fd, Buffer.from('still'));
  t.is((await layer.receiveExactly(fd, 5)).toString(), 'still');
});

test('an address of another machine cannot be bound, an unknown name not reached', async (t) => {
  const layer = new STPConnect();
  await failsWith(
    t,
    layer.bind(layer.socket(AF_INET), { host: '192.0.2.1', port: 0 }),
    'EADDRNOTAVAIL',
  );
  const to = { host: 'no-such-host.invalid', port: 1 };
  await failsWith(t, layer.connect(layer.socket(AF_INET), to), 'ENOTFOUND', 'EAI_AGAIN');
});

// Serial, as it looks at the resources of the whole process.
test.serial('a close while a host name is looked up leaves nothing bound', async (t) => {
  const layer = new STPConnect();
  const fd = layer.socket(AF_INET);
  const binding = failsWith(t, layer.bind(fd, { host: 'localhost', port: 0 }), 'ECANCELED');
  await layer.close(fd);
  await binding;
  while (process.getActiveResourcesInfo().includes('TCPServerWrap')) await sleep(5);
  t.pass();
});
