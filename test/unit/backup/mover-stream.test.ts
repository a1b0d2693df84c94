/** The stream of a mover: pages that go several at a time. */
import test from 'ava';
import { MoverStream } from '../../../src/backup/mover-thread.js';
import { Pacer } from '../../../src/backup/throttle.js';

/** A stream whose pages have 10 bytes, and as many as asked for up to 3 at a time. */
function standIn(): { stream: MoverStream; log: string[]; sent: () => string } {
  const log: string[] = [];
  let out = '';
  let pages: Uint8Array[] = [];
  const pagesOf = (count: number): Uint8Array[] => {
    pages = Array.from({ length: Math.min(3, count) }, () => new Uint8Array(10));
    log.push(`reserve ${pages.length}`);
    return pages;
  };
  const source = {
    reserve: () => pagesOf(1)[0] as Uint8Array,
    reservePages: pagesOf,
    commit: (bytes: number) => {
      log.push(`commit ${bytes}`);
      out += Buffer.concat(pages).subarray(0, bytes).toString();
      pages = [];
    },
    peek: () => null,
    consume: () => {},
    shutdown: () => void log.push('shutdown'),
    close: () => {},
    abort: () => {},
    bytesSent: 0,
    bytesReceived: 0,
  };
  const stream = new MoverStream(source, new Float64Array(32), new Pacer([]));
  return { stream, log, sent: () => out };
}

function put(stream: MoverStream, text: string): void {
  Buffer.from(text).copy(stream.reserve());
  stream.commit(text.length);
}

test('a page goes when it is committed', (t) => {
  const { stream, log } = standIn();
  put(stream, '0123456789');
  t.deepEqual(log, ['reserve 1', 'commit 10']);
});

test('gathered pages go together, in their order', (t) => {
  const { stream, log, sent } = standIn();
  stream.gather(3);
  t.is(stream.reserve(), stream.reserve(), 'the same room until it is committed');
  for (const text of ['aaaaaaaaaa', 'bbbbbbbbbb']) put(stream, text);
  t.deepEqual(log, ['reserve 3']);
  put(stream, 'cccccccccc');
  put(stream, 'dddddddddd');
  t.deepEqual(log, ['reserve 3', 'commit 30', 'reserve 3']);
  t.is(sent(), 'aaaaaaaaaabbbbbbbbbbcccccccccc');
});

test('a page that is not full takes those before it along', (t) => {
  const { stream, log, sent } = standIn();
  stream.gather(3);
  put(stream, 'aaaaaaaaaa');
  put(stream, 'bb');
  put(stream, 'c');
  t.deepEqual(log, ['reserve 3', 'commit 12', 'reserve 3', 'commit 1']);
  t.is(sent(), 'aaaaaaaaaabbc');
});

test('the end takes all along', (t) => {
  const { stream, log, sent } = standIn();
  stream.gather(3);
  put(stream, 'aaaaaaaaaa');
  stream.shutdown();
  t.deepEqual(log, ['reserve 3', 'commit 10', 'shutdown']);
  t.is(sent(), 'aaaaaaaaaa');
});
