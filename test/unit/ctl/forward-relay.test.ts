/**
 * The relay of `stpctl forward` on streams that are no sockets.
 */
import { Duplex } from 'node:stream';
import test from 'ava';
import { Relay, type Side } from '../../../src/ctl/stpctl/forward-relay.js';

interface Watched extends Side {
  readonly stream: Duplex;
  resets: number;
  readonly written: string[];
}

function side(name: string): Watched {
  const written: string[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      written.push(String(chunk));
      done();
    },
  });
  stream.on('error', () => {});
  const made: Watched = {
    stream,
    input: stream,
    output: stream,
    name,
    resets: 0,
    written,
    reset: () => {
      made.resets += 1;
      stream.destroy();
    },
  };
  return made;
}

test('both directions to their ends', async (t) => {
  const [one, other] = [side('one'), side('other')];
  const relay = new Relay(one, other);
  one.stream.push('there');
  one.stream.push(null);
  other.stream.push('and back');
  other.stream.push(null);
  const { bytesOut, bytesBack, failed } = await relay.done;
  t.deepEqual([bytesOut, bytesBack, failed], [5, 8, undefined]);
  t.deepEqual([one.written, other.written], [['and back'], ['there']]);
  t.deepEqual([one.resets, other.resets], [0, 0]);
});

for (const which of [0, 1] as const) {
  test(`a side that is gone before it is joined resets the other: ${which}`, async (t) => {
    const sides = [side('one'), side('other')] as const;
    sides[which].stream.destroy();
    await new Promise((resolve) => sides[which].stream.once('close', resolve));
    const { failed } = await new Relay(...sides).done;
    t.is(failed?.side.name, sides[which].name);
    t.is(sides[1 - which]?.resets, 1);
  });

  test(`a close without an end resets the other: ${which}`, async (t) => {
    const sides = [side('one'), side('other')] as const;
    const relay = new Relay(...sides);
    sides[which].stream.push('part');
    setImmediate(() => sides[which].stream.destroy());
    const { failed } = await relay.done;
    t.is(failed?.side.name, sides[which].name);
    t.is(sides[1 - which]?.resets, 1);
  });

  test(`an error is the relay's, once: ${which}`, async (t) => {
    const sides = [side('one'), side('other')] as const;
    const relay = new Relay(...sides);
    sides[which].stream.destroy(new Error('broken'));
    t.is((await relay.done).failed?.error.message, 'broken');
    relay.abort('later');
    t.is(sides[1 - which]?.resets, 1);
  });
}

test('an abort resets both', async (t) => {
  const [one, other] = [side('one'), side('other')];
  const relay = new Relay(one, other);
  relay.abort('stopped');
  t.regex((await relay.done).failed?.error.message ?? '', /stopped/);
  t.deepEqual([one.resets, other.resets], [1, 1]);
});
