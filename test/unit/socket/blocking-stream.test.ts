/**
 * Blocking calls, many buffers at once, and pages in place: what they move, and what they refuse.
 */
import test from 'ava';
import { PAGE_BYTES, WINDOW_BYTES } from '../../../src/layout/tables.js';
import type { BlockingStream } from '../../../src/socket/blocking-stream.js';
import { random } from '../memory/rig.js';
import { content, streamPair } from './pair.js';

const seedOf = (): number => Number(process.env.STPD_SEED ?? Math.floor(Math.random() * 2 ** 32));

/** All that is there and fits. */
function drain(stream: BlockingStream, bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; ) at += stream.receive(out.subarray(at));
  return out;
}

test('send and receive move a part of a buffer', (t) => {
  const { a, b } = streamPair(t);
  a.send(content(100), 10, 50);
  t.deepEqual(drain(b, 50), content(100).subarray(10, 60));
  t.is(a.bytesSent, 50);
  t.is(b.bytesReceived, 50);
  t.throws(() => a.send(content(10), 5, 6), { code: 'ERANGE' });
  t.throws(() => a.send(content(10), -1, 6), { code: 'ERANGE' });
  t.throws(() => a.send('text' as never, 0, 1), { code: 'EINVAL' });
});

for (const cursor of [0xfff00000, 2 ** 32 - 30_000, PAGE_BYTES - 7]) {
  test(`sendv and recvv keep the order over pages and over 2^32, cursors from ${cursor}`, (t) => {
    const seed = seedOf();
    t.log(`STPD_SEED=${seed}`);
    const next = random(seed);
    const { a, b } = streamPair(t, { cursor });
    for (let round = 0; round < 20; round++) {
      /* More than one native call takes, some of them empty. */
      const parts = Array.from({ length: 1500 }, (_, i) => content(Math.floor(next() * 200), i));
      const whole = Buffer.concat(parts);
      a.sendv(parts);
      const into = Array.from({ length: 1100 }, () => Buffer.alloc(Math.floor(next() * 400)));
      const got = b.recvv(into);
      t.true(got > 0 && got <= whole.length);
      const rest = drain(b, whole.length - got);
      t.true(Buffer.concat([Buffer.concat(into).subarray(0, got), rest]).equals(whole));
    }
  });
}

test('the flat forms name messages by offset and length', (t) => {
  const { a, b } = streamPair(t);
  const data = content(1000);
  a.sendvFlat(data, Uint32Array.of(500, 10, 0, 5, 999, 1, 3, 0));
  const wanted = Buffer.concat([data.subarray(500, 510), data.subarray(0, 5), data.subarray(999)]);
  const into = Buffer.alloc(100);
  t.is(b.recvvFlat(into, Uint32Array.of(50, 4, 0, 20)), 16);
  t.true(Buffer.concat([into.subarray(50, 54), into.subarray(0, 12)]).equals(wanted));
  a.sendvFlat(data, Uint32Array.of(7, 2, 0, 1000), 1);
  t.true(drain(b, 2).equals(data.subarray(7, 9)), 'only as many as are asked for');
});

test('what is no buffer, and what lies outside of it, is refused and nothing is sent', (t) => {
  const { a, b } = streamPair(t);
  t.throws(() => a.sendv([content(3), 'x' as never]), { code: 'EINVAL' });
  t.throws(() => a.sendvFlat(content(10), Uint32Array.of(0, 5, 6, 5)), { code: 'ERANGE' });
  t.throws(() => a.sendvFlat(content(10), Uint32Array.of(0, 5), 2), { code: 'ERANGE' });
  t.throws(() => b.recvv([content(3), undefined as never]));
  a.send(Buffer.from('!'));
  t.is(drain(b, 1).toString(), '!');
  t.is(a.bytesSent, 1);
});

test('sendReceive: an answer that is there comes with the call', (t) => {
  const { a, b } = streamPair(t);
  const into = Buffer.alloc(100);
  b.send(Buffer.from('answer'));
  t.is(a.sendReceive(Buffer.from('question'), into), 6);
  t.is(into.toString('latin1', 0, 6), 'answer');
  t.is(b.sendReceive(Buffer.from('next'), into), 8);
  t.is(into.toString('latin1', 0, 8), 'question');
  b.shutdown();
  t.is(a.sendReceive(Buffer.from('last'), into), 4);
  t.is(a.sendReceive(Buffer.alloc(0), into), 0, 'the end');
  t.deepEqual([a.bytesSent, a.bytesReceived, b.bytesSent], [12, 10, 10]);
});

test('sendReceive over a page’s border, and of more than a page', (t) => {
  const { a, b } = streamPair(t, { cursor: PAGE_BYTES - 10 });
  const into = Buffer.alloc(300_000);
  b.send(Buffer.from('ok'));
  t.is(a.sendReceive(content(100), into), 2);
  b.send(Buffer.from('ok'));
  t.is(a.sendReceive(content(200_000, 9), into), 2);
  t.true(drain(b, 100).equals(content(100)));
  t.true(drain(b, 200_000).equals(content(200_000, 9)));
});

test('reserve and commit: a part may be committed, the same place is given until then', (t) => {
  const { a, b } = streamPair(t);
  const first = a.reserve();
  t.is(first.length, PAGE_BYTES);
  first.set(content(5));
  t.is(a.reserve(), first);
  a.commit(5);
  const second = a.commitAndReserve(0);
  t.is(second.length, PAGE_BYTES - 5);
  second.set(content(7, 3));
  t.is(a.commitAndReserve(7).length, PAGE_BYTES - 12);
  t.true(drain(b, 12).equals(Buffer.concat([content(5), content(7, 3)])));
});

test('peek and consume: what is not consumed is seen again', (t) => {
  const { a, b } = streamPair(t);
  a.send(content(100));
  t.true(Buffer.from(b.peek() ?? []).equals(content(100)));
  b.consume(10);
  t.true(Buffer.from(b.peek() ?? []).equals(content(100).subarray(10)));
  t.true(Buffer.from(b.consumeAndPeek(85) ?? []).equals(content(100).subarray(95)));
  a.shutdown();
  t.is(b.consumeAndPeek(5), null);
  t.is(b.bytesReceived, 100);
});

test('several pages at once, in order and in place', (t) => {
  const { a, b } = streamPair(t, { cursor: 2 ** 32 - 2 * PAGE_BYTES - 100 });
  const data = content(5 * PAGE_BYTES);
  let put = 0;
  for (let done = -1; put < data.length; ) {
    const views = a.reservePages(3, done);
    t.true(views.length >= 1 && views.length <= 3);
    done = 0;
    for (const view of views) {
      const bytes = Math.min(view.length, data.length - put);
      view.set(data.subarray(put, put + bytes));
      put += bytes;
      done += bytes;
    }
    if (put === data.length) a.commit(done);
  }
  const parts: Buffer[] = [];
  for (let got = 0, done = -1; got < data.length; got += done) {
    const views = b.peekPages(32, done) ?? [];
    done = 0;
    for (const view of views) {
      parts.push(Buffer.from(view));
      done += view.length;
    }
  }
  t.true(Buffer.concat(parts).equals(data));
  t.is(a.bytesSent, data.length);
});

test('a commit of less than several pages leaves the rest free', (t) => {
  const { a, b } = streamPair(t);
  const views = a.reservePages(4);
  t.is(views.length, 4);
  views[0]?.set(content(PAGE_BYTES));
  views[1]?.set(content(10, 5));
  a.commit(PAGE_BYTES + 10);
  t.is(a.reserve().length, PAGE_BYTES - 10);
  t.true(drain(b, PAGE_BYTES).equals(content(PAGE_BYTES)));
  t.true(drain(b, 10).equals(content(10, 5)));
});

test('views of a whole page are kept, not made anew', (t) => {
  const { a, b } = streamPair(t);
  const first = a.reserve();
  a.commit(PAGE_BYTES);
  b.consume(b.peek()?.length ?? 0);
  const seen = new Set([first]);
  for (let i = 0; i < 130; i++) {
    seen.add(a.reserve());
    a.commit(PAGE_BYTES);
    b.consume(b.peek()?.length ?? 0);
  }
  t.true(seen.size <= 64, `${seen.size} views of 64 pages`);
});

test('misuse: more than is out, twice, without a view, while one is out', (t) => {
  const { a, b } = streamPair(t);
  const EINVAL = { code: 'EINVAL' };
  t.throws(() => a.commit(1), EINVAL, 'nothing is reserved');
  t.throws(() => a.commitAndReserve(1), EINVAL);
  t.throws(() => a.reservePages(2, 1), EINVAL);
  for (const wrong of [-1, 2 ** 32, Number.NaN, undefined as never]) {
    t.throws(() => a.setSpin(wrong), EINVAL, String(wrong));
    t.throws(() => a.setWindow(wrong), EINVAL, String(wrong));
  }
  a.setSpin(0);
  a.setWindow(WINDOW_BYTES);
  a.reserve();
  for (const bytes of [PAGE_BYTES + 1, -1, 1.5, Number.NaN, 2 ** 32 + 1]) {
    t.throws(() => a.commit(bytes), EINVAL, String(bytes));
    t.throws(() => a.commitAndReserve(bytes), EINVAL, String(bytes));
    t.throws(() => a.reservePages(1, bytes === -1 ? -2 : bytes), EINVAL, String(bytes));
  }
  t.throws(() => a.send(content(1)), { code: 'EBUSY' });
  t.throws(() => a.sendv([content(1)]), { code: 'EBUSY' });
  t.throws(() => a.sendFile(0, 0, 1), { code: 'EBUSY' });
  a.commit(3);
  t.throws(() => a.commit(1), EINVAL, 'twice');
  t.throws(() => b.consume(1), EINVAL, 'nothing is peeked');
  t.throws(() => b.consumeAndPeek(1), EINVAL);
  t.throws(() => b.peekPages(2, 1), EINVAL);
  b.peek();
  t.throws(() => b.consume(4), EINVAL);
  t.throws(() => b.receive(Buffer.alloc(1)), { code: 'EBUSY' });
  t.throws(() => b.takePage(), { code: 'EBUSY' });
  b.consume(3);
  t.throws(() => b.consume(1), EINVAL, 'twice');
  for (const pages of [0, 33, 1.5, Number.NaN]) {
    t.throws(() => a.reservePages(pages), EINVAL);
    t.throws(() => b.peekPages(pages), EINVAL);
  }
  t.deepEqual([a.bytesSent, b.bytesReceived], [3, 3], 'nothing else was moved or counted');
});

test('every call after close is EBADF, and close is allowed twice', (t) => {
  const { a, rig } = streamPair(t);
  const page = a.claimPage();
  a.close();
  a.close();
  a.abort();
  const calls: (() => unknown)[] = [
    () => a.send(content(1)),
    () => a.sendv([content(1)]),
    () => a.sendvFlat(content(1), Uint32Array.of(0, 1)),
    () => a.sendReceive(content(1), content(1)),
    () => a.receive(content(1)),
    () => a.recvv([content(1)]),
    () => a.recvvFlat(content(1), Uint32Array.of(0, 1)),
    () => a.reserve(),
    () => a.reservePages(1),
    () => a.commit(0),
    () => a.commitAndReserve(0),
    () => a.peek(),
    () => a.peekPages(1),
    () => a.consume(0),
    () => a.consumeAndPeek(0),
    () => a.takePage(),
    () => a.claimPage(),
    () => a.givePage(page),
    () => a.sendFile(0, 0, 1),
    () => a.receiveToFile(0, 0, 1),
    () => a.shutdown(),
    () => a.counters(),
    () => a.setSpin(1),
    () => a.setWindow(1),
    () => page.data,
  ];
  for (const call of calls) t.throws(call, { code: 'EBADF' }, call.toString());
  page.release();
  t.is(rig.pagesUsed(), 0);
});

test('after shutdown sending is EPIPE and receiving goes on', (t) => {
  const { a, b } = streamPair(t);
  a.shutdown();
  for (const call of [
    () => a.send(content(1)),
    () => a.reserve(),
    () => a.givePage(a.claimPage()),
  ]) {
    t.throws(call, { code: 'EPIPE' });
  }
  b.send(content(4));
  t.is(drain(a, 4).length, 4);
});

test('bytes that the event loop had read come first, by every way of reading', (t) => {
  const leading = content(100, 7);
  const ways: ((b: BlockingStream) => Buffer)[] = [
    (b) => drain(b, 100),
    (b) => {
      const parts = [Buffer.alloc(30), Buffer.alloc(100)];
      t.is(b.recvv(parts), 100);
      return Buffer.concat(parts).subarray(0, 100);
    },
    (b) => {
      const into = Buffer.alloc(100);
      t.is(b.recvvFlat(into, Uint32Array.of(40, 60, 0, 40)), 100);
      return Buffer.concat([into.subarray(40), into.subarray(0, 40)]);
    },
    (b) => {
      const half = Buffer.from(b.peek()?.subarray(0, 50) ?? []);
      t.throws(() => b.consume(101), { code: 'EINVAL' });
      return Buffer.concat([half, b.consumeAndPeek(50) ?? half]);
    },
    (b) => Buffer.from(b.peekPages(4)?.[0] ?? []),
    (b) => Buffer.from(b.takePage()?.data.subarray(0, 100) ?? []),
    (b) => {
      const into = Buffer.alloc(100);
      t.is(b.sendReceive(content(1), into), 100);
      return into;
    },
  ];
  for (const way of ways) {
    const { b } = streamPair(t, { leading });
    t.true(way(b).equals(leading), way.toString());
  }
});

test('counters tell who waited and who was woken', (t) => {
  const { a, b } = streamPair(t);
  const zero = a.counters();
  t.deepEqual(Object.keys(zero).sort(), [
    'pollHits',
    'pollMisses',
    'safetyFirings',
    'waitsForEmptyPage',
    'waitsForFullPage',
    'wakesSent',
    'wakesSuppressed',
  ]);
  a.send(content(10));
  t.is(a.counters().wakesSuppressed, zero.wakesSuppressed + 1, 'nobody slept');
  t.is(a.counters().wakesSent, 0);
  drain(b, 10);
  a.send(content(WINDOW_BYTES));
  t.is(a.counters().waitsForEmptyPage, 0);
  t.is(b.counters().waitsForFullPage, 0);
});
