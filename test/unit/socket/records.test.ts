/**
 * Records over streams of bytes: whole whatever the chunks are, in worker threads and on event
 * loops; lengths that lie, streams that end too early, and records that nobody agreed on.
 */
import { once } from 'node:events';
import { Duplex, PassThrough } from 'node:stream';
import test from 'ava';
import { PAGE_BYTES } from '../../../src/layout/tables.js';
import {
  RECORD_BATCH_BYTES,
  RECORD_BYTES_DEFAULT_MAX,
  RECORD_BYTES_MAX,
} from '../../../src/limits.js';
import {
  onRecords,
  RecordDecoder,
  RecordEncoder,
  RecordReceiver,
  RecordSender,
  RecordWriter,
  recordsOf,
} from '../../../src/socket/records.js';
import { random } from '../memory/rig.js';
import { content, streamPair } from './pair.js';

const seedOf = (): number => Number(process.env.STPD_SEED ?? Math.floor(Math.random() * 2 ** 32));

/** What stands in front of a record: written here by hand, as a hostile sender would. */
function framed(bytes: number, record: Uint8Array = Buffer.alloc(0)): Buffer {
  const out = Buffer.alloc(4 + record.length);
  out.writeUInt32LE(bytes);
  out.set(record, 4);
  return out;
}

const whole = (records: readonly Uint8Array[]): Buffer =>
  Buffer.concat(records.map((record) => framed(record.length, record)));

/** All records of a stream in a worker's way. */
function received(receiver: RecordReceiver): Buffer[] {
  const out: Buffer[] = [];
  for (let one = receiver.receive(); one !== null; one = receiver.receive()) {
    out.push(Buffer.from(one));
  }
  return out;
}

/** A stream that brings these chunks, one at a time, and ends. */
function bringing(chunks: readonly Uint8Array[]): Duplex {
  const stream = new PassThrough();
  void (async () => {
    for (const chunk of chunks) {
      if (stream.destroyed) return;
      if (!stream.write(chunk)) await once(stream, 'drain').catch(() => {});
      await new Promise((resolve) => setImmediate(resolve));
    }
    stream.end();
  })();
  return stream;
}

async function broken(stream: Duplex): Promise<{ code?: string; message: string }> {
  const [error] = await once(stream, 'error');
  return error;
}

test('records are whole whatever the chunks are: each length split in each place', (t) => {
  const seed = seedOf();
  t.log(`STPD_SEED=${seed}`);
  const next = random(seed);
  for (let round = 0; round < 200; round++) {
    const records = Array.from({ length: 20 }, (_, i) => content(Math.floor(next() * 40) * i, i));
    const stream = whole(records);
    const decoder = new RecordDecoder();
    const got: Buffer[] = [];
    for (let at = 0; at < stream.length; ) {
      /* Mostly shorter than a length. */
      const bytes = next() < 0.8 ? 1 + Math.floor(next() * 6) : Math.floor(next() * 600);
      decoder.push(stream.subarray(at, at + bytes));
      at += bytes;
      while (decoder.next()) got.push(Buffer.from(decoder.record));
    }
    t.is(decoder.pending, 0);
    t.deepEqual(got, records);
  }
});

test('blocking: single, in a row and flat records, empty ones too, come whole and in order', (t) => {
  const { a, b } = streamPair(t, { cursor: 2 ** 32 - PAGE_BYTES - 3 });
  const sender = new RecordSender(a);
  const long = content(RECORD_BATCH_BYTES, 2);
  const data = content(1000);
  for (const record of [content(3), Buffer.alloc(0), long]) sender.send(record);
  sender.sendAll([content(5), Buffer.alloc(0)]);
  sender.sendFlat(data, Uint32Array.of(10, 20, 999, 0, 500, 500));
  sender.send(Buffer.from('last'));
  sender.flush();
  sender.flush();
  a.shutdown();
  t.deepEqual(received(new RecordReceiver(b)), [
    content(3),
    Buffer.alloc(0),
    long,
    content(5),
    Buffer.alloc(0),
    data.subarray(10, 30),
    Buffer.alloc(0),
    data.subarray(500),
    Buffer.from('last'),
  ]);
});

test('blocking: a length over the bound is EBADMSG, before its bytes are there, and stays so', (t) => {
  for (const bytes of [101, 2 ** 31, 2 ** 32 - 1]) {
    const { a, b } = streamPair(t);
    const receiver = new RecordReceiver(b, { recordBytesMax: 100 });
    a.send(Buffer.concat([framed(100, content(100)), framed(bytes)]));
    t.true(receiver.next());
    t.is(receiver.length, 100, 'the bound itself is allowed');
    const error = t.throws(() => receiver.next(), { code: 'EBADMSG' });
    t.regex(error?.message ?? '', new RegExp(`${bytes} bytes; at most 100 .* reset the stream`));
    t.throws(() => receiver.next(), { code: 'EBADMSG' }, 'and again');
    t.throws(() => receiver.receive(), { code: 'EBADMSG' });
  }
});

test('blocking: a stream cut in a length, or in a record, is EBADMSG and not a plain end', (t) => {
  for (const cut of [1, 3, 4, 5, 13]) {
    const { a, b } = streamPair(t);
    const receiver = new RecordReceiver(b);
    a.send(Buffer.concat([framed(2, content(2)), framed(10, content(10)).subarray(0, cut)]));
    a.shutdown();
    t.true(receiver.next());
    t.throws(() => receiver.next(), { code: 'EBADMSG', message: new RegExp(`after ${cut} bytes`) });
  }
  const { a, b } = streamPair(t);
  a.shutdown();
  t.is(new RecordReceiver(b).receive(), null, 'nothing at all is an end');
});

test('blocking: a length over several sends', (t) => {
  const { a, b } = streamPair(t);
  const receiver = new RecordReceiver(b);
  const bytes = framed(300, content(300));
  a.send(bytes.subarray(0, 1));
  t.is(b.peek()?.length, 1);
  b.consume(0);
  for (let at = 1; at < bytes.length; at++) a.send(bytes, at, 1);
  t.true(Buffer.from(receiver.receive() ?? []).equals(content(300)));
});

test('who sends a record that nobody agreed on is told, and nothing of it is sent', (t) => {
  const { a, b } = streamPair(t);
  const sender = new RecordSender(a, { recordBytesMax: 10 });
  const EMSGSIZE = { code: 'EMSGSIZE', message: /11 bytes; at most 10/ };
  t.throws(() => sender.send(content(11)), EMSGSIZE);
  t.throws(() => sender.sendAll([content(1), content(11)]), EMSGSIZE);
  t.throws(() => sender.sendFlat(content(20), Uint32Array.of(0, 1, 0, 11)), EMSGSIZE);
  t.throws(() => sender.sendFlat(content(20), Uint32Array.of(15, 6)), { code: 'ERANGE' });
  sender.send(content(10));
  sender.flush();
  a.shutdown();
  t.deepEqual(received(new RecordReceiver(b)), [content(10)]);
});

test('the bound is a whole number up to 2^30', (t) => {
  for (const recordBytesMax of [-1, 1.5, Number.NaN, RECORD_BYTES_MAX + 1]) {
    t.throws(() => new RecordDecoder({ recordBytesMax }), { code: 'EINVAL' });
    t.throws(() => new RecordEncoder({ recordBytesMax }), { code: 'EINVAL' });
  }
  const none = new RecordDecoder({ recordBytesMax: 0 });
  none.push(framed(0));
  t.true(none.next());
  t.is(none.record.length, 0);
  t.false(none.next());
  none.push(framed(1, content(1)));
  t.throws(() => none.next(), { code: 'EBADMSG' });
});

test('memory follows what has arrived, not what a length says', (t) => {
  const before = process.memoryUsage().arrayBuffers;
  const decoders = Array.from({ length: 8 }, () => {
    const decoder = new RecordDecoder({ recordBytesMax: RECORD_BYTES_MAX });
    decoder.push(framed(RECORD_BYTES_MAX, content(1000)));
    t.false(decoder.next());
    return decoder;
  });
  t.true(process.memoryUsage().arrayBuffers - before < 64 << 20);
  t.is(decoders[0]?.pending, 1004);
});

test('records left in a chunk must be taken before the next one', (t) => {
  const decoder = new RecordDecoder();
  decoder.push(whole([content(1), content(2)]));
  t.true(decoder.next());
  t.throws(() => decoder.push(Buffer.alloc(1)), { code: 'EINVAL', message: /call next/ });
});

test('a record that was found stays as it is until the next push', (t) => {
  const decoder = new RecordDecoder();
  const bytes = whole([content(20, 1), content(20, 2)]);
  decoder.push(bytes.subarray(0, 10));
  t.false(decoder.next());
  decoder.push(bytes.subarray(10, 40));
  t.true(decoder.next());
  const { record } = decoder;
  t.false(decoder.next(), 'the second one is not whole');
  t.true(Buffer.from(record).equals(content(20, 1)));
});

test('Duplex: records of one turn go with one write, and arrive one by one', async (t) => {
  const writes: number[] = [];
  const stream = new PassThrough();
  const write = stream.write.bind(stream);
  stream.write = ((chunk: Uint8Array) => {
    writes.push(chunk.length);
    return write(chunk);
  }) as typeof stream.write;
  const writer = new RecordWriter(stream);
  const records = [content(3), Buffer.alloc(0), content(500, 2)];
  for (const record of records) writer.send(record);
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(writes, [3 + 500 + 3 * 4]);
  writer.send(content(9));
  writer.end();
  const got: Buffer[] = [];
  for await (const record of recordsOf(stream)) got.push(Buffer.from(record));
  t.deepEqual(got, [...records, content(9)]);
  t.throws(() => writer.send(Buffer.alloc(RECORD_BYTES_DEFAULT_MAX + 1)), { code: 'EMSGSIZE' });
});

test('Duplex: a length split over chunks of one byte', async (t) => {
  const records = [content(2), Buffer.alloc(0), content(300)];
  const bytes = [...whole(records)].map((byte) => Buffer.of(byte));
  const got: Buffer[] = [];
  const stream = bringing(bytes);
  onRecords(stream, (record) => got.push(Buffer.from(record)));
  await once(stream, 'end');
  t.deepEqual(got, records);
});

test('Duplex: a length over the bound destroys the stream with EBADMSG; what came before was told', async (t) => {
  for (const bytes of [11, 2 ** 31, 2 ** 32 - 1]) {
    const got: number[] = [];
    const stream = bringing([whole([content(10)]), framed(bytes, content(5)), whole([content(1)])]);
    onRecords(stream, (record) => got.push(record.length), { recordBytesMax: 10 });
    const error = await broken(stream);
    t.is(error.code, 'EBADMSG');
    t.regex(error.message, new RegExp(`${bytes} bytes`));
    t.deepEqual(got, [10]);
    t.true(stream.destroyed);
  }
});

test('Duplex: a stream that ends within a record is destroyed with EBADMSG', async (t) => {
  for (const cut of [1, 4, 7]) {
    const stream = bringing([framed(10, content(10)).subarray(0, cut)]);
    onRecords(stream, () => t.fail());
    const error = await broken(stream);
    t.is(error.code, 'EBADMSG');
    t.regex(error.message, new RegExp(`after ${cut} bytes`));
  }
});

test('recordsOf throws EBADMSG for a length over the bound and for a stream that is cut', async (t) => {
  const read = async (stream: Duplex): Promise<void> => {
    for await (const _ of recordsOf(stream, { recordBytesMax: 10 }));
  };
  await t.throwsAsync(read(bringing([framed(11)])), { code: 'EBADMSG', message: /11 bytes/ });
  await t.throwsAsync(read(bringing([framed(10, content(9))])), { code: 'EBADMSG' });
  await t.throwsAsync(read(bringing([Buffer.alloc(3)])), { code: 'EBADMSG' });
  await t.notThrowsAsync(read(bringing([framed(0), framed(10, content(10))])));
});

test.serial('Duplex: a callback that throws loses no record', async (t) => {
  const stream = bringing([whole([content(1), content(2), content(3)])]);
  const got: number[] = [];
  const thrown = once(process, 'uncaughtException');
  const mine = process.listeners('uncaughtException');
  for (const listener of mine.slice(0, -1)) process.off('uncaughtException', listener);
  t.teardown(() => {
    for (const listener of mine.slice(0, -1)) process.on('uncaughtException', listener as never);
  });
  onRecords(stream, (record) => {
    got.push(record.length);
    if (record.length === 2) throw new Error('of the application');
  });
  const [error] = await thrown;
  t.is((error as Error).message, 'of the application');
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(got, [1, 2, 3]);
});

test('back-pressure: send says false where the stream has enough', async (t) => {
  let sink: (() => void) | undefined;
  const stream = new Duplex({
    writableHighWaterMark: 1000,
    write(_chunk, _encoding, done) {
      sink = done;
    },
    read() {},
  });
  const writer = new RecordWriter(stream);
  t.true(writer.send(content(10)));
  t.false(writer.send(content(RECORD_BATCH_BYTES / 2)), 'a full batch is written at once');
  t.false(writer.send(content(1)));
  const drained = once(stream, 'drain');
  for (let done = sink; done !== undefined; done = sink) {
    sink = undefined;
    done();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await drained;
  t.true(writer.send(content(1)));
  stream.destroy();
});
