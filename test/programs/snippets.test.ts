/**
 * What docs/pages.md shows does what it says; the document has it from snippets.ts.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import type { StpSocket } from '../../src/index.js';
import { PAGE_BYTES } from '../../src/layout/tables.js';
import { connect, content, directory, streamPair } from '../unit/socket/pair.js';
import { documents, generated } from './document.js';
import { programRig } from './rig.js';
import * as snippets from './snippets.js';

const rig = programRig(test);

const gather = (): { parts: Buffer[]; use: (bytes: Uint8Array) => void } => {
  const parts: Buffer[] = [];
  return { parts, use: (bytes) => void parts.push(Buffer.from(bytes)) };
};

test('reserve and commit, peek and consume', (t) => {
  const { a, b } = streamPair(t);
  const data = content(3 * PAGE_BYTES + 77);
  let at = 0;
  snippets.reserveCommit(a, (into) => {
    const part = data.subarray(at, at + Math.min(into.length, 50_000));
    into.set(part);
    at += part.length;
    return part.length;
  });
  a.shutdown();
  const { parts, use } = gather();
  snippets.peekConsume(b, use);
  t.true(Buffer.concat(parts).equals(data));
});

test('several pages at once', (t) => {
  const { a, b } = streamPair(t);
  const bytes = 20 * PAGE_BYTES + 5;
  let next = 0;
  snippets.several(a, bytes, (view) => {
    for (let i = 0; i < view.length; i++) view[i] = next++ & 0xff;
  });
  a.shutdown();
  const { parts, use } = gather();
  snippets.severalPeeked(b, use);
  const whole = Buffer.concat(parts);
  t.is(whole.length, bytes);
  t.true(whole.every((byte, i) => byte === (i & 0xff)));
});

test('pages are handed on, or released', (t) => {
  const { rig: ring, a, b } = streamPair(t);
  const next = connect(ring, 2);
  t.teardown(() => [next.a, next.b].map((stream) => stream.close()));
  for (const first of [1, 0, 2]) a.send(Buffer.alloc(PAGE_BYTES, first));
  a.shutdown();
  t.is(snippets.handOn(b, next.b), 2);
  const into = Buffer.alloc(PAGE_BYTES);
  for (const first of [1, 2]) {
    t.is(next.a.receive(into), PAGE_BYTES);
    t.is(into[0], first);
  }
});

test('many buffers, and a question with its answer', (t) => {
  const { a, b } = streamPair(t);
  t.is(snippets.manyBuffers(a, b).toString(), '8 bytes:and a bodymanymessagesin one buffer');
  b.send(Buffer.from('an answer'));
  t.is(snippets.ask(a, Buffer.from('a question')).toString(), 'an answer');
});

test('records of blocking streams', (t) => {
  const { a, b } = streamPair(t);
  snippets.sendRecords(a, content(30));
  a.shutdown();
  const { parts, use } = gather();
  snippets.receiveRecords(b, use);
  t.is(parts.length, 1002);
  t.is(String(parts[999]), 'record 999');
  t.true(Buffer.concat(parts.slice(1000)).equals(content(30)));
});

test('records on event loops', async (t) => {
  const stream = new PassThrough();
  const got: string[] = [];
  snippets.loopRecords(stream, stream, (text) => got.push(text));
  await once(stream, 'end');
  t.deepEqual(got, ['first', 'second']);
  const other = new PassThrough();
  snippets.loopRecords(other, new PassThrough(), () => {});
  t.deepEqual(await snippets.iterateRecords(other), ['first', 'second']);
});

test('a part of a file', (t) => {
  const { a, b } = streamPair(t);
  const place = directory(t);
  const [from, to] = [join(place, 'from'), join(place, 'to')];
  writeFileSync(from, content(2000));
  snippets.copyFile(a, b, from, to);
  t.true(readFileSync(to).equals(content(2000).subarray(0, 1000)));
});

test('readInto, counters and budgets', async (t) => {
  const { server, client } = rig();
  const listener = server.createServer({ pauseOnConnect: true });
  listener.listen(0);
  await once(listener, 'listening');
  const socket = client.connect({ port: listener.address()?.port ?? 0 });
  const [accepted] = (await once(listener, 'connection')) as [StpSocket];
  listener.close();
  const { parts, use } = gather();
  snippets.readIntoOwn(accepted, use);
  socket.end(content(100_000));
  await once(accepted, 'end');
  t.true(Buffer.concat(parts).equals(content(100_000)));
  const { a } = streamPair(t);
  const { slower, mode, tookMs } = snippets.tune(a, client);
  t.is(slower, 'this side, or who feeds it');
  t.true(mode === 'cached' || mode === 'streaming');
  t.is(typeof tookMs, 'number');
});

for (const document of documents) {
  test(`${document.name} is what \`npm run docs\` writes`, (t) => {
    const text = readFileSync(document.path, 'utf8');
    t.is(text, generated(text));
    t.regex(text, /<!-- (example|snippet): /);
  });
}
