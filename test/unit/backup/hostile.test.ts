/** Peers that break the rules: each is refused with a reason, and nobody else notices. */
import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type { ServerConnections } from '../../../src/backup/handshake-server.js';
import { StepError } from '../../../src/backup/handshake-steps.js';
import {
  receiveDescriptor,
  receiveStoragePort,
  sendHello,
  sendPreamble,
  sendReturn,
  sendStg,
} from '../../../src/backup/wire.js';
import { AF_INET, type STPConnect } from '../../../src/connect/stp-connect.js';
import { type Rig, startRig, until } from './rig.js';

/** A connection to the WKP (or after it) that has the key and no manners. */
async function caller(rig: Rig, port: number): Promise<{ c: STPConnect; fd: number }> {
  const c = rig.newConnect();
  const fd = c.socket(AF_INET);
  if (rig.config.key) c.setsockopt(fd, 'psk', { identity: 'server1', key: rig.config.key });
  await c.connect(fd, { host: '127.0.0.1', port });
  return { c, fd };
}

const framed = (body: Buffer): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
};

/** A whole session still works: what the hostile peer did stays its own affair. */
async function othersUnaffected(t: ExecutionContext, rig: Rig): Promise<void> {
  const session: ServerConnections = await rig.connect();
  t.is(session.streams.length, 1);
}

test('garbage on the WKP is refused with a reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const { c, fd } = await caller(rig, rig.config.wkp);
  await c.send(fd, randomBytes(4096));
  await t.throwsAsync(receiveDescriptor(c, fd), { message: /refused: a message of \d+ bytes/ });
  t.true(rig.logs.some((line) => /refused server1 at 127\.0\.0\.1:\d+/.test(line)));
  await othersUnaffected(t, rig);
});

test('a well-known string with another magic or version is refused with a reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const hello = Buffer.alloc(26);
  const one = await caller(rig, rig.config.wkp);
  await one.c.send(one.fd, framed(hello));
  await t.throwsAsync(receiveDescriptor(one.c, one.fd), { message: /well-known string/ });
  hello.write('STPBKUP\0', 'latin1');
  hello.writeUInt16BE(9, 8);
  const two = await caller(rig, rig.config.wkp);
  await two.c.send(two.fd, framed(hello));
  await t.throwsAsync(receiveDescriptor(two.c, two.fd), { message: /protocol version 9/ });
  await othersUnaffected(t, rig);
});

test('a caller that says nothing is cut off after the limit', async (t) => {
  const rig = await startRig({ timeoutMs: 1500 });
  t.teardown(rig.stop);
  const { c, fd } = await caller(rig, rig.config.wkp);
  await t.throwsAsync(receiveDescriptor(c, fd), { message: /said nothing for 1.5 s/ });
  await othersUnaffected(t, rig);
});

test('a wrong key gets nowhere', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const { address, wkp } = rig.config;
  const error = await t.throwsAsync(
    rig.connect({ client: { name: 'host1', address, wkp, key: randomBytes(32) } }),
    { instanceOf: StepError },
  );
  t.regex(error?.message ?? '', /step (86|136) of Fig\. 4A? .* client host1 at 127\.0\.0\.1/);
  await othersUnaffected(t, rig);
});

test('a second connection with a wrong token is refused; the right one still comes in', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const first = await caller(rig, rig.config.wkp);
  await sendHello(first.c, first.fd, randomBytes(16));
  const given = await receiveDescriptor(first.c, first.fd);
  const wrong = await caller(rig, rig.config.wkp);
  await sendReturn(wrong.c, wrong.fd, { ...given, token: randomBytes(16) });
  await t.throwsAsync(receiveDescriptor(wrong.c, wrong.fd), { message: /no session waits/ });
  const right = await caller(rig, rig.config.wkp);
  await sendReturn(right.c, right.fd, given);
  await until(() => rig.steps.some((s) => s.record.step === 126));
  t.pass();
});

test('a token is good once', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const first = await caller(rig, rig.config.wkp);
  await sendHello(first.c, first.fd, randomBytes(16));
  const given = await receiveDescriptor(first.c, first.fd);
  const second = await caller(rig, rig.config.wkp);
  await sendReturn(second.c, second.fd, given);
  await until(() => rig.steps.some((s) => s.record.step === 126));
  const replay = await caller(rig, rig.config.wkp);
  await sendReturn(replay.c, replay.fd, given);
  await t.throwsAsync(receiveDescriptor(replay.c, replay.fd), { message: /no session waits/ });
});

test('a session id is good once', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const id = randomBytes(16);
  const first = await caller(rig, rig.config.wkp);
  await sendHello(first.c, first.fd, id);
  await receiveDescriptor(first.c, first.fd);
  const again = await caller(rig, rig.config.wkp);
  await sendHello(again.c, again.fd, id);
  await t.throwsAsync(receiveDescriptor(again.c, again.fd), { message: /of Fig\. 4 already/ });
});

test('Fig. 4A may come first, and waits for its Fig. 4', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const id = randomBytes(16);
  const storage = await caller(rig, rig.config.wkp + 1);
  await sendStg(storage.c, storage.fd, 'stg1', id);
  const at = await receiveStoragePort(storage.c, storage.fd);
  const stream = rig.newConnect();
  const fd = stream.STPsocket();
  await stream.connect(fd, { port: at.port });
  await sendPreamble(stream, fd, at.token, 0);
  await until(() => rig.steps.some((s) => s.record.step === 172));
  const first = await caller(rig, rig.config.wkp);
  await sendHello(first.c, first.fd, id);
  const given = await receiveDescriptor(first.c, first.fd);
  const second = await caller(rig, rig.config.wkp);
  await sendReturn(second.c, second.fd, given);
  await until(() => rig.steps.some((s) => s.record.step === 126));
  t.is(rig.client.sessionCount, 1);
});

test('a figure that never follows ends its session with the reason', async (t) => {
  const rig = await startRig({ timeoutMs: 1500 });
  t.teardown(rig.stop);
  const storage = await caller(rig, rig.config.wkp + 1);
  await sendStg(storage.c, storage.fd, 'stg1', randomBytes(16));
  const at = await receiveStoragePort(storage.c, storage.fd);
  const stream = rig.newConnect();
  const fd = stream.STPsocket();
  await stream.connect(fd, { port: at.port });
  await sendPreamble(stream, fd, at.token, 0);
  await until(() => rig.logs.some((line) => /Fig\. 4 did not follow within 1.5 s/.test(line)));
  await othersUnaffected(t, rig);
});

test('an STG identifier that is too long, or no name, is refused with a reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const long = await caller(rig, rig.config.wkp + 1);
  await sendStg(long.c, long.fd, 'x'.repeat(64), randomBytes(16));
  await t.throwsAsync(receiveStoragePort(long.c, long.fd), {
    message: /64 bytes; it has at most 63/,
  });
  const path = await caller(rig, rig.config.wkp + 1);
  await sendStg(path.c, path.fd, '../../x', randomBytes(16));
  await t.throwsAsync(receiveStoragePort(path.c, path.fd), { message: /no name of an STG/ });
  await othersUnaffected(t, rig);
});

test('an STG that the client cannot reach is refused with the reason, to the server too', async (t) => {
  const rig = await startRig({
    storageOf: async () => {
      throw new Error('EACCES: no access to STG stg1');
    },
  });
  t.teardown(rig.stop);
  const error = await t.throwsAsync(rig.connect(), { instanceOf: StepError });
  t.regex(error?.message ?? '', /step 140 .*refused: .*step 162.*EACCES: no access to STG stg1/);
});

test('a storage connection with a wrong token is reset; the right one still comes in', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const storage = await caller(rig, rig.config.wkp + 1);
  await sendStg(storage.c, storage.fd, 'stg1', randomBytes(16));
  const at = await receiveStoragePort(storage.c, storage.fd);
  const stream = rig.newConnect();
  const thief = stream.STPsocket();
  await stream.connect(thief, { port: at.port });
  await sendPreamble(stream, thief, randomBytes(16), 0);
  await until(() => rig.logs.some((line) => /a wrong token/.test(line)));
  t.false(rig.steps.some((s) => s.record.step === 172));
  const right = stream.STPsocket();
  await stream.connect(right, { port: at.port });
  await sendPreamble(stream, right, at.token, 0);
  await until(() => rig.steps.some((s) => s.record.step === 172));
  const replay = stream.STPsocket();
  await stream.connect(replay, { port: at.port });
  await sendPreamble(stream, replay, at.token, 0);
  await until(() => rig.logs.some((line) => /role 0 is taken/.test(line)));
});

test('a request out of protocol ends its session with the reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const connect = rig.newConnect();
  const session = await rig.connect({ connect });
  await connect.send(session.control, Buffer.from('{"op":"format","disk":"/"}\n'));
  const answer = JSON.parse((await connect.receive(session.control, 4096)).toString());
  t.is(answer.type, 'failed');
  t.regex(answer.reason, /out of protocol: op/);
  await othersUnaffected(t, rig);
});

test('a silent client: the failing step and the peer are named', async (t) => {
  const rig = await startRig({ storageOf: () => new Promise(() => {}) });
  t.teardown(rig.stop);
  const silent = (timeoutMs: number) =>
    t.throwsAsync(rig.connect({ timeoutMs }), { instanceOf: StepError });
  let error = await silent(2000);
  // A machine that stands still for so long in an earlier step: more time, and once more.
  if (!/step 140/.test(error?.message ?? '')) error = await silent(30_000);
  t.regex(
    error?.message ?? '',
    /step 140 of Fig\. 4A \(receive: the STP port\) with client host1 .* was silent for (2|30) s/,
  );
});

test('nobody listens: the failing step and the address are named', async (t) => {
  const rig = await startRig();
  await rig.stop();
  const error = await t.throwsAsync(rig.connect(), { instanceOf: StepError });
  t.regex(error?.message ?? '', /step (86|136) .*client host1 at 127\.0\.0\.1:\d+.*ECONNREFUSED/);
});
