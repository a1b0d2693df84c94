import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import { LINE_BYTES_MAX } from '../../../src/backup/limits.js';
import { LineChannel } from '../../../src/backup/line-channel.js';
import { pathFromBytes, pathToBytes } from '../../../src/backup/wire-path.js';
import { AF_INET, STPConnect } from '../../../src/connect/stp-connect.js';

const schema = z.strictObject({ n: z.number() });

async function pair(t: ExecutionContext): Promise<{ c: STPConnect; a: number; b: number }> {
  const c = new STPConnect();
  t.teardown(() => c.closeAll());
  const listener = c.socket(AF_INET);
  await c.bind(listener, { host: '127.0.0.1', port: 0 });
  await c.listen(listener);
  const a = c.socket(AF_INET);
  const accepted = c.accept(listener);
  await c.connect(a, { host: '127.0.0.1', port: c.getsockname(listener).port });
  return { c, a, b: await accepted };
}

test('lines keep their order, however they are cut on the way', async (t) => {
  const { c, a, b } = await pair(t);
  const receiver = new LineChannel(c, b, 'the peer');
  await c.send(a, Buffer.from('{"n":1}\n{"n'));
  await sleep(20);
  await c.send(a, Buffer.from('":2}\n'));
  t.deepEqual(await receiver.receive(schema), { n: 1 });
  t.deepEqual(await receiver.receive(schema), { n: 2 });
  await c.close(a);
  t.is(await receiver.receive(schema), null);
});

test('sends need not be waited for', async (t) => {
  const { c, a, b } = await pair(t);
  const sender = new LineChannel(c, a, 'the peer');
  const receiver = new LineChannel(c, b, 'the peer');
  for (let n = 0; n < 50; n++) void sender.send({ n });
  for (let n = 0; n < 50; n++) t.deepEqual(await receiver.receive(schema), { n });
});

test('what does not fit the schema is named', async (t) => {
  const { c, a, b } = await pair(t);
  const receiver = new LineChannel(c, b, 'client x');
  await c.send(a, Buffer.from('{"n":"one"}\nnot json\n'));
  await t.throwsAsync(receiver.receive(schema), { code: 'EPROTO', message: /client x .* n: / });
  await t.throwsAsync(receiver.receive(schema), { code: 'EPROTO', message: /not JSON/ });
});

test('an end in the middle of a line is no end', async (t) => {
  const { c, a, b } = await pair(t);
  await c.send(a, Buffer.from('{"n":'));
  await c.close(a);
  await t.throwsAsync(new LineChannel(c, b, 'x').receive(schema), { code: 'ECONNRESET' });
});

test('a line without an end is given up at the limit', async (t) => {
  const { c, a, b } = await pair(t);
  c.send(a, Buffer.alloc(LINE_BYTES_MAX * 2, 0x20)).catch(() => {});
  await t.throwsAsync(new LineChannel(c, b, 'x').receive(schema), { code: 'EMSGSIZE' });
  c.abort(b);
});

test('paths travel as text where they are UTF-8, else as bytes', (t) => {
  const latin1 = Buffer.from([0x2f, 0xe4]);
  t.is(pathFromBytes(Buffer.from('/ä')), '/ä');
  t.deepEqual(pathFromBytes(latin1), { base64: latin1.toString('base64') });
  t.deepEqual(pathToBytes(pathFromBytes(latin1)), latin1);
});
