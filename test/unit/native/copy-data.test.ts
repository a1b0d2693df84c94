/** CopyData from a socket to where its data is wanted: native/copy_data.cc. */
import { closeSync, writeSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { errnoOfCode } from '../../../src/errors.js';
import { native } from '../../../src/native.js';
import { COPY_ASIDE_BYTES } from '../../../src/source/base-backup.js';

const AGAIN = -errnoOfCode('EAGAIN');

/** A message of data. */
function copyData(data: Buffer, kind = 'd'): Buffer {
  const header = Buffer.from(`d0000${kind}`);
  header.writeUInt32BE(data.length + 5, 1);
  return Buffer.concat([header, data]);
}

const bytesFrom = (start: number, count: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, i) => (start + i) % 251));

interface Pair {
  readonly state: Float64Array;
  readonly aside: Buffer;
  send(bytes: Uint8Array): void;
  end(): void;
  receive(into: Uint8Array, offset?: number, count?: number, sliceMs?: number): number;
}

function pair(t: ExecutionContext): Pair {
  const [ours, theirs] = native().socketPair(true);
  let isOpen = true;
  const end = (): void => {
    if (isOpen) closeSync(theirs);
    isOpen = false;
  };
  t.teardown(() => {
    end();
    closeSync(ours);
  });
  const state = new Float64Array(2);
  const aside = Buffer.alloc(COPY_ASIDE_BYTES);
  return {
    state,
    aside,
    end,
    send: (bytes) => t.is(writeSync(theirs, bytes), bytes.length),
    receive: (into, offset = 0, count = into.length - offset, sliceMs = 0) =>
      native().copyDataReceive(ours, into, offset, count, state, aside, sliceMs),
  };
}

test('data of several messages lies side by side, from the middle of one to that of another', (t) => {
  const p = pair(t);
  const data = bytesFrom(7, 3000);
  p.send(data.subarray(0, 100));
  p.send(copyData(data.subarray(100, 1100)));
  p.send(copyData(data.subarray(1100, 3000)));
  p.state[0] = 100;
  const into = Buffer.alloc(3010, 0xff);
  t.is(p.receive(into, 5, 600), 600);
  t.deepEqual([...p.state], [500, 0]);
  t.is(p.receive(into, 605, 1500), 1500);
  t.deepEqual([...p.state], [900, 0]);
  t.is(p.receive(into, 2105, 900), 900);
  t.deepEqual([...p.state], [0, 0]);
  t.deepEqual(into.subarray(5, 3005), data);
  t.deepEqual([into.readUIntBE(0, 5), into.readUIntBE(3005, 5)], [2 ** 40 - 1, 2 ** 40 - 1]);
});

test('a message of another kind is put aside with what came behind it', (t) => {
  for (const other of [copyData(Buffer.from('x.tar\0'), 'n'), Buffer.from('E\0\0\0\x06x\0')]) {
    const p = pair(t);
    const data = bytesFrom(3, 50);
    const behind = copyData(bytesFrom(9, 20));
    p.send(Buffer.concat([data, other, behind]));
    p.state[0] = data.length;
    const into = Buffer.alloc(1000);
    t.is(p.receive(into), data.length);
    t.deepEqual(into.subarray(0, data.length), data);
    t.is(p.state[0], 0);
    t.deepEqual(p.aside.subarray(0, p.state[1]), Buffer.concat([other, behind]));
  }
});

test('a short message with more behind it is put aside, too', (t) => {
  const p = pair(t);
  const all = Buffer.concat([copyData(bytesFrom(1, 10)), copyData(bytesFrom(2, 10))]);
  p.send(all);
  t.is(p.receive(Buffer.alloc(1000)), 0);
  t.deepEqual(p.aside.subarray(0, p.state[1]), all);
});

test('a part of a header is put aside', (t) => {
  const p = pair(t);
  p.send(copyData(bytesFrom(1, 10)).subarray(0, 4));
  t.is(p.receive(Buffer.alloc(1000)), 0);
  t.deepEqual([...p.state], [0, 4]);
});

test('no bytes are told from the end, and from an error', (t) => {
  const p = pair(t);
  const into = Buffer.alloc(100);
  p.state[0] = 50;
  t.is(p.receive(into, 0, 100, 1), AGAIN);
  p.end();
  t.is(p.receive(into), 0);
  t.deepEqual([...p.state], [50, 0]);
});

test('places outside of the memory are refused', (t) => {
  const p = pair(t);
  const into = Buffer.alloc(100);
  t.throws(() => p.receive(into, 101, 0), { code: 'EINVAL' });
  t.throws(() => p.receive(into, 50, 51), { code: 'EINVAL' });
  p.state[0] = -1;
  t.throws(() => p.receive(into), { code: 'EINVAL' });
  p.state[0] = Number.NaN;
  t.throws(() => p.receive(into), { code: 'EINVAL' });
  const call = native().copyDataReceive;
  t.throws(() => call(0, into, 0, 1, new Float64Array(2), Buffer.alloc(10), 0), { code: 'EINVAL' });
  t.throws(() => call(0, into, 0, 1, new Float64Array(1), p.aside, 0), { code: 'EINVAL' });
});

test('socketReceive reads what is there', (t) => {
  const [ours, theirs] = native().socketPair(true);
  t.teardown(() => closeSync(ours));
  const into = Buffer.alloc(10);
  t.is(native().socketReceive(ours, into, 0, 10, 1), AGAIN);
  writeSync(theirs, 'abc');
  closeSync(theirs);
  t.is(native().socketReceive(ours, into, 2, 8, 1000), 3);
  t.is(into.toString('utf8', 2, 5), 'abc');
  t.is(native().socketReceive(ours, into, 0, 10, 1), 0);
});
