/** A receiver sees each wrong, missing, moved or superfluous byte that it is meant to see. */
import { Buffer } from 'node:buffer';
import test from 'ava';
import {
  blockBytesOf,
  CopiedStream,
  FilledStream,
  fillValue,
  isSize,
  messagesOf,
  streamDigest,
} from '../../../bench/harness/content.js';

/** What a sender of copied content writes in so many blocks. */
function copied(size: number, blocks: number): Buffer {
  const { plain, first, last } = messagesOf(size);
  const parts: Buffer[] = [];
  for (let k = 0; k < blocks; k++) {
    parts.push(k === blocks - 1 ? last : first);
    for (let i = 1; i < blockBytesOf(size) / size; i++) parts.push(plain);
  }
  return Buffer.concat(parts);
}

/** Pieces of 1 to 100,000 bytes from a seed. */
function* pieces(stream: Buffer, seed: number): Generator<Buffer> {
  let state = seed;
  for (let at = 0; at < stream.length; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const n = Math.min(1 + (state % 100_000), stream.length - at);
    yield stream.subarray(at, at + n);
    at += n;
  }
}

function receive(
  stream: Buffer,
  size: number,
  verify: boolean,
  seed: number,
): { stream: CopiedStream; done: boolean } {
  const receiver = new CopiedStream(size, verify);
  let done = false;
  for (const piece of pieces(stream, seed)) done = receiver.take(piece);
  return { stream: receiver, done };
}

const SIZES = [64, 4096, 65536, 1 << 20];

test('copied content arrives in pieces of any length, with the expected digest', (t) => {
  const seed = Date.now() >>> 0;
  t.log(`seed ${seed}`);
  for (const size of SIZES) {
    for (const verify of [false, true]) {
      const sent = copied(size, 3);
      const { stream, done } = receive(sent, size, verify, seed);
      t.true(done);
      t.is(stream.bytes, sent.length);
      t.is(stream.digest, streamDigest('copied', size, sent.length / size));
    }
  }
});

test('a batch is so many messages one after another', (t) => {
  const one = messagesOf(64);
  const batch = messagesOf(64, 256);
  t.is(batch.plain.length, 64 * 256);
  for (let at = 64; at < batch.first.length; at += 64) {
    t.true(batch.first.subarray(at, at + 64).equals(one.plain));
  }
  t.true(batch.last.subarray(0, 64).equals(one.last));
  const sent = Buffer.concat([batch.first, ...Array(14).fill(batch.plain), batch.plain]);
  sent[0] = batch.last[0] as number;
  const { stream, done } = receive(sent, 64, true, 7);
  t.true(done);
  t.is(stream.digest, streamDigest('copied', 64, sent.length / 64));
});

test('a verifying receiver sees any one wrong byte', (t) => {
  for (const at of [1, 4095, 262143, 262145, 524287]) {
    const sent = copied(4096, 2);
    sent[at] = (sent[at] as number) ^ 1;
    t.throws(() => receive(sent, 4096, true, 7), { message: /wrong content/ });
  }
});

test('the digest of samples sees pieces that changed places', (t) => {
  const sent = copied(65536, 2);
  const a = Buffer.from(sent.subarray(4000, 12000));
  sent.copyWithin(4000, 12345, 20345);
  a.copy(sent, 12345);
  const { stream } = receive(sent, 65536, false, 7);
  t.not(stream.digest, streamDigest('copied', 65536, sent.length / 65536));
});

test('a missing byte shows at the next block', (t) => {
  const sent = copied(64, 2);
  const short = Buffer.concat([sent.subarray(0, 1000), sent.subarray(1001)]);
  t.throws(() => receive(short, 64, false, 7), { message: /block at 262144 starts with/ });
});

test('bytes after the last block are refused', (t) => {
  const sent = Buffer.concat([copied(64, 1), Buffer.from([1])]);
  t.throws(() => new CopiedStream(64, false).take(sent));
});

function filled(size: number, blocks: number): Buffer {
  const parts = Array.from({ length: blocks }, (_, k) =>
    Buffer.alloc(blockBytesOf(size), fillValue(k, k === blocks - 1)),
  );
  return Buffer.concat(parts);
}

const sumOf = (piece: Buffer): bigint => {
  let sum = 0n;
  for (let i = 0; i < piece.length; i += 8) sum += piece.readBigUInt64LE(i);
  return BigInt.asUintN(64, sum);
};

function sumAll(stream: Buffer, verify: boolean): { stream: FilledStream; done: boolean } {
  const receiver = new FilledStream(65536, verify);
  let done = false;
  for (let at = 0; at < stream.length; at += 65536) {
    const piece = stream.subarray(at, at + 65536);
    done = receiver.take(piece, sumOf(piece));
  }
  return { stream: receiver, done };
}

test('filled content has the expected sum', (t) => {
  const sent = filled(65536, 130);
  const { stream, done } = sumAll(sent, true);
  t.true(done);
  t.is(stream.digest, streamDigest('filled', 65536, sent.length / 65536));
});

test('one wrong byte of filled content changes the sum, and is seen when verifying', (t) => {
  const sent = filled(65536, 2);
  sent[300_001] = 0;
  t.not(sumAll(sent, false).stream.digest, streamDigest('filled', 65536, sent.length / 65536));
  t.throws(() => sumAll(sent, true), { message: 'wrong content at byte 300001' });
});

test('a block in another block’s place is refused', (t) => {
  const sent = filled(65536, 3);
  sent.copyWithin(0, 262144, 524288);
  t.throws(() => sumAll(sent, false), { message: /block at 0 is filled with 2/ });
});

test('sizes are powers of two from 64 B to 256 MiB', (t) => {
  t.deepEqual([64, 4096, 2 ** 28].map(isSize), [true, true, true]);
  t.deepEqual([0, 1, 32, 100, 2 ** 29, -64, Number.NaN, 64.5].map(isSize), Array(8).fill(false));
});
