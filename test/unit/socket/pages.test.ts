/**
 * Pages that change hands whole: by exchange out of a stream, by giving into one, and who has them
 * when something ends.
 */
import test from 'ava';
import { PAGE_BYTES } from '../../../src/layout/tables.js';
import { native } from '../../../src/native.js';
import type { Page } from '../../../src/socket/page.js';
import { until } from '../../support/array.js';
import { ringRig } from '../memory/rig.js';
import { connect, content, streamPair } from './pair.js';

const bytesOf = (page: Page): Buffer => Buffer.from(page.data.subarray(0, page.bytes));

test('a full page is exchanged: it stays with the taker while the stream goes on', (t) => {
  const { rig, a, b } = streamPair(t);
  a.send(content(PAGE_BYTES, 1));
  const page = b.takePage() as Page;
  t.true(page.exchanged);
  t.is(page.bytes, PAGE_BYTES);
  for (let i = 0; i < 130; i++) {
    a.send(content(PAGE_BYTES, 2));
    t.is(b.receive(Buffer.alloc(PAGE_BYTES)), PAGE_BYTES);
  }
  t.true(bytesOf(page).equals(content(PAGE_BYTES, 1)));
  const before = rig.pagesUsed();
  page.release();
  page.release();
  t.is(rig.pagesUsed(), before - 1, 'back in the pool, once');
  t.throws(() => page.data, { code: 'EBADF' });
});

test('what does not fill its page comes in a copy', (t) => {
  const { a, b } = streamPair(t);
  a.send(content(10, 1));
  t.is(b.receive(Buffer.alloc(10)), 10);
  a.send(content(PAGE_BYTES, 2));
  const rest = b.takePage() as Page;
  t.deepEqual([rest.exchanged, rest.bytes], [false, PAGE_BYTES - 10], 'up to the page’s end');
  a.shutdown();
  const last = b.takePage() as Page;
  t.deepEqual([last.exchanged, last.bytes], [false, 10], 'the stream has ended');
  t.true(Buffer.concat([bytesOf(rest), bytesOf(last)]).equals(content(PAGE_BYTES, 2)));
  t.is(b.takePage(), null);
});

test('pages are handed on from stream to stream without a copy, and none is lost', (t) => {
  const { rig, a, b } = streamPair(t);
  const next = connect(rig, 2);
  const into = Buffer.alloc(PAGE_BYTES);
  for (let i = 0; i < 200; i++) {
    a.send(content(PAGE_BYTES, i));
    const page = b.takePage() as Page;
    t.true(next.b.givePage(page));
    t.false(page.held);
    t.is(next.a.receive(into), PAGE_BYTES);
    t.true(into.equals(content(PAGE_BYTES, i)));
  }
  t.is(next.b.bytesSent, 200 * PAGE_BYTES);
  t.true(rig.pagesUsed() <= 2 * 64 + 1, 'two lists and one spare page');
  next.a.close();
  next.b.close();
});

test('idle streams keep no page, neither in a list nor for the next exchange', async (t) => {
  const { rig, a, b } = streamPair(t);
  const next = connect(rig, 2);
  t.teardown(() => {
    next.a.close();
    next.b.close();
  });
  const idle = async (): Promise<void> => {
    await until('no page is held', () => rig.pagesUsed() === 0);
  };
  a.send(content(4 * PAGE_BYTES));
  const page = b.takePage() as Page;
  for (let i = 0; i < 2; i++) (b.takePage() as Page).release();
  t.is(b.receive(Buffer.alloc(PAGE_BYTES)), PAGE_BYTES);
  page.release();
  await idle();
  /* Where the list has a page, it goes to who gave one for it. */
  next.b.send(content(PAGE_BYTES));
  next.a.receive(Buffer.alloc(PAGE_BYTES));
  const claimed = b.claimPage();
  await until('its stream is idle', () => rig.pagesUsed() === 1);
  for (let i = 0; i < 63; i++) {
    next.b.send(content(PAGE_BYTES));
    next.a.receive(Buffer.alloc(PAGE_BYTES));
  }
  next.b.send(content(PAGE_BYTES));
  next.a.receive(Buffer.alloc(PAGE_BYTES));
  t.true(next.b.givePage(claimed));
  next.a.receive(Buffer.alloc(PAGE_BYTES));
  await idle();
});

test('a page that is not whole, or comes where no page starts, is given by a copy', (t) => {
  const { rig, a, b } = streamPair(t);
  const page = a.claimPage();
  page.data.set(content(100, 3));
  t.false(a.givePage(page, 100));
  const whole = a.claimPage();
  whole.data.set(content(PAGE_BYTES, 4));
  t.false(a.givePage(whole), 'the stream stands within a page');
  t.false(whole.held);
  const got = Buffer.alloc(100 + PAGE_BYTES);
  for (let at = 0; at < got.length; ) at += b.receive(got.subarray(at));
  t.true(got.equals(Buffer.concat([content(100, 3), content(PAGE_BYTES, 4)])));
  a.send(Buffer.alloc(PAGE_BYTES - 100));
  t.true(a.givePage(a.claimPage()), 'and here one starts');
  t.true(rig.pagesUsed() <= 4);
});

test('misuse: given twice, released and given, other sizes, a page of another STG', (t) => {
  const { a } = streamPair(t);
  const other = streamPair(t);
  const given = a.claimPage();
  t.true(a.givePage(given));
  t.throws(() => a.givePage(given), { code: 'EBADF' });
  t.throws(() => given.data, { code: 'EBADF' });
  const released = a.claimPage();
  released.release();
  t.throws(() => a.givePage(released), { code: 'EBADF' });
  const page = a.claimPage();
  for (const bytes of [0, -1, PAGE_BYTES + 1, 1.5, Number.NaN]) {
    t.throws(() => a.givePage(page, bytes), { code: 'EINVAL' }, String(bytes));
  }
  t.throws(() => other.a.givePage(page), { code: 'EXDEV' });
  a.reserve();
  t.throws(() => a.givePage(page), { code: 'EBUSY' });
  a.commit(0);
  t.true(page.held, 'refused, it is still ours');
  t.true(a.givePage(page));
  t.is(a.bytesSent, 2 * PAGE_BYTES);
});

test('a stream that closes gives its pages back; what was given elsewhere stays', (t) => {
  const rig = ringRig();
  const one = connect(rig, 1);
  const two = connect(rig, 2);
  one.a.send(content(2 * PAGE_BYTES));
  const kept = one.b.takePage() as Page;
  const given = one.b.takePage() as Page;
  t.true(two.b.givePage(given));
  one.b.close();
  t.false(kept.held);
  t.throws(() => two.b.givePage(kept), { code: 'EBADF' });
  const into = Buffer.alloc(PAGE_BYTES);
  t.is(two.a.receive(into), PAGE_BYTES);
  t.true(into.equals(content(2 * PAGE_BYTES).subarray(PAGE_BYTES)));
  one.a.close();
  two.a.close();
  two.b.close();
  for (const connection of [1, 2]) native().connectionRelease(rig.stg, connection, 7);
  t.is(rig.pagesUsed(), 0, 'no page is left behind');
});

test('hostile: a page whose owner word another host has changed is not given', (t) => {
  const { rig, a } = streamPair(t);
  const before = new Set<number>();
  for (let page = 0; page < rig.geometry.pageCount; page++) {
    if (rig.segment.load(rig.geometry.owners + page * 4) !== 0) before.add(page);
  }
  const page = a.claimPage();
  for (let number = 0; number < rig.geometry.pageCount; number++) {
    const word = rig.geometry.owners + number * 4;
    if (rig.segment.load(word) !== 0 && !before.has(number)) rig.segment.store(word, 0x80010009);
  }
  t.throws(() => a.givePage(page), { code: 'EBADF' });
});

test('hostile: a list that names pages of others breaks the stream that is given a page', (t) => {
  const { rig, a } = streamPair(t);
  rig.segment.store(rig.geometry.owners + 4 * 60, 0x80010009);
  for (let entry = 0; entry < 64; entry++) {
    rig.segment.store(rig.direction('pages', 1) + entry * 4, 61);
  }
  t.throws(() => a.givePage(a.claimPage()), { code: 'ECONNRESET' });
});

test('a peer that reads no more, and one that has reset, is told at once', (t) => {
  const one = streamPair(t);
  one.b.close();
  const page = one.a.claimPage();
  t.throws(() => one.a.givePage(page), { code: 'EPIPE' });
  t.true(page.held);
  const other = streamPair(t);
  other.b.abort();
  t.throws(() => other.a.givePage(other.a.claimPage()), { code: 'ECONNRESET' });
  t.throws(() => other.a.takePage(), { code: 'ECONNRESET' });
});
