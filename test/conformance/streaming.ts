/** Situations: bytes, their order, and how many of them may be on the way. */
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { digest, failsWith, Random, receiveAll, type Situation, stillWaits } from './rig.js';

const MIB = 1 << 20;

export function streaming(situation: Situation): void {
  situation('a receive gives at most what it asks for, and the rest stays', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.send(a, Buffer.from('abcdefgh'));
    let text = '';
    while (text.length < 8) {
      const chunk = await rig.server.receive(b, 3);
      t.true(chunk.length >= 1 && chunk.length <= 3);
      text += chunk.toString();
    }
    t.is(text, 'abcdefgh');
  });

  situation('a receive does not wait for all it asks for', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.send(a, Buffer.from('few'));
    t.is((await rig.server.receive(b, MIB)).toString(), 'few');
  });

  situation(
    'many sends of all sizes arrive in order, whatever the sizes of the receives',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      const random = new Random(t);
      const parts = Array.from({ length: 300 }, () => random.bytes(random.between(1, 20_000)));
      const sending = (async () => {
        for (const part of parts) await rig.client.send(a, part);
        await rig.client.shutdown(a, 'write');
      })();
      const got: Buffer[] = [];
      for (;;) {
        const chunk = await rig.server.receive(b, random.between(1, 30_000));
        if (chunk.length === 0) break;
        got.push(chunk);
      }
      await sending;
      t.is(digest(Buffer.concat(got)), digest(Buffer.concat(parts)));
    },
  );

  situation('16 MiB of random data both ways at once', async (t, rig) => {
    const { a, b } = await rig.pair();
    const random = new Random(t);
    const there = random.bytes(16 * MIB);
    const back = random.bytes(16 * MIB);
    const [atServer, atClient] = await Promise.all([
      receiveAll(rig.server, b),
      receiveAll(rig.client, a),
      rig.client.send(a, there).then(() => rig.client.shutdown(a, 'write')),
      rig.server.send(b, back).then(() => rig.server.shutdown(b, 'write')),
    ]);
    t.is(digest(atServer), digest(there));
    t.is(digest(atClient), digest(back));
  });

  situation('receiveExactly collects what comes in pieces', async (t, rig) => {
    const { a, b } = await rig.pair();
    const whole = rig.server.receiveExactly(b, 10);
    for (const piece of ['01', '234', '5678']) {
      await rig.client.send(a, Buffer.from(piece));
      t.true(await stillWaits(whole, 20));
    }
    await rig.client.send(a, Buffer.from('9rest'));
    t.is((await whole).toString(), '0123456789');
    t.is((await rig.server.receiveExactly(b, 4)).toString(), 'rest');
  });

  situation('receiveExactly of more than a window', async (t, rig) => {
    const { a, b } = await rig.pair();
    const data = new Random(t).bytes(6 * MIB + 1);
    const [got] = await Promise.all([
      rig.server.receiveExactly(b, data.length),
      rig.client.send(a, data),
    ]);
    t.is(digest(got), digest(data));
  });

  situation(
    'receiveExactly when the end comes early: ENODATA, saying how much there was',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      await rig.client.send(a, Buffer.from('abc'));
      await rig.client.shutdown(a, 'write');
      const error = await failsWith(t, rig.server.receiveExactly(b, 10), 'ENODATA');
      t.regex(error.message, /3 of 10 bytes/);
    },
  );

  situation('receiveExactly(0) and an empty send neither wait nor end anything', async (t, rig) => {
    const { a, b } = await rig.pair();
    t.is((await rig.server.receiveExactly(b, 0)).length, 0);
    await rig.client.send(a, Buffer.alloc(0));
    await rig.client.send(a, Buffer.from('x'));
    t.is((await rig.server.receive(b, 5)).toString(), 'x');
  });

  situation('a view into a larger buffer sends its own bytes only', async (t, rig) => {
    const { a, b } = await rig.pair();
    const large = Buffer.from('....inner....');
    await rig.client.send(a, large.subarray(4, 9));
    await rig.client.send(a, new Uint8Array(large.buffer, large.byteOffset + 4, 5));
    t.is((await rig.server.receiveExactly(b, 10)).toString(), 'innerinner');
  });

  situation('sends made at once are not interleaved', async (t, rig) => {
    const { a, b } = await rig.pair();
    const messages = Array.from({ length: 8 }, (_, i) => Buffer.alloc(700_000, i + 1));
    const sending = Promise.all(messages.map((m) => rig.client.send(a, m)));
    for (const m of messages) {
      t.is(Buffer.compare(await rig.server.receiveExactly(b, m.length), m), 0);
    }
    await sending;
  });

  situation('receives made at once are served in the order of the calls', async (t, rig) => {
    const { a, b } = await rig.pair();
    const receives = [4, 2, 6].map((n) => rig.server.receiveExactly(b, n));
    for (const byte of 'aaaabbcccccc') await rig.client.send(a, Buffer.from(byte));
    const texts = (await Promise.all(receives)).map(String);
    t.deepEqual(texts, ['aaaa', 'bb', 'cccccc']);
  });

  situation('500 small requests and answers', async (t, rig) => {
    const { a, b } = await rig.pair();
    const answering = (async () => {
      for (let i = 0; i < 500; i++) {
        const word = await rig.server.receiveExactly(b, 4);
        word.writeUInt32LE(word.readUInt32LE() + 1);
        await rig.server.send(b, word);
      }
    })();
    for (let i = 0; i < 500; i++) {
      const word = Buffer.alloc(4);
      word.writeUInt32LE(i);
      await rig.client.send(a, word);
      const answer = await rig.client.receiveExactly(a, 4);
      if (answer.readUInt32LE() !== i + 1) t.fail(`answer ${i}`);
    }
    await answering;
    t.pass();
  });

  situation('a sender stops when nobody reads, and all of it arrives later', async (t, rig) => {
    const { a, b } = await rig.pair();
    const piece = new Random(t).bytes(MIB);
    let accepted = 0;
    let stop = false;
    const sending = (async () => {
      while (!stop && accepted < 256) {
        await rig.client.send(a, piece);
        accepted++;
      }
      await rig.client.shutdown(a, 'write');
    })();
    let before = -1;
    while (before !== accepted) {
      before = accepted;
      await sleep(300);
    }
    t.true(accepted < 64, `${accepted} MiB were taken although nobody reads`);
    stop = true;
    const all = await receiveAll(rig.server, b);
    await sending;
    t.is(all.length, accepted * MIB);
    for (let i = 0; i < accepted; i++) {
      if (Buffer.compare(all.subarray(i * MIB, (i + 1) * MIB), piece) !== 0) t.fail(`piece ${i}`);
    }
  });

  situation('a direction that stands still does not hold the other one up', async (t, rig) => {
    const { a, b } = await rig.pair();
    const stuck = rig.client.send(a, Buffer.alloc(64 * MIB));
    t.true(await stillWaits(stuck));
    const data = new Random(t).bytes(2 * MIB);
    const [got] = await Promise.all([
      rig.client.receiveExactly(a, data.length),
      rig.server.send(b, data),
    ]);
    t.is(digest(got), digest(data));
    rig.server.abort(b);
    await failsWith(t, stuck, 'ECONNRESET', 'EPIPE');
  });

  situation('one connection that stands still does not hold up its neighbours', async (t, rig) => {
    const [one, two] = await rig.pairs(2);
    if (one === undefined || two === undefined) throw new Error('two pairs');
    const stuck = rig.client.send(one.a, Buffer.alloc(64 * MIB));
    t.true(await stillWaits(stuck));
    const data = new Random(t).bytes(8 * MIB);
    const [got] = await Promise.all([
      rig.server.receiveExactly(two.b, data.length),
      rig.client.send(two.a, data),
    ]);
    t.is(digest(got), digest(data));
    rig.client.abort(one.a);
    await failsWith(t, stuck, 'ECANCELED');
  });

  situation('the stream of a descriptor works in a pipeline', async (t, rig) => {
    const { a, b } = await rig.pair();
    const data = new Random(t).bytes(3 * MIB);
    const got: Buffer[] = [];
    await Promise.all([
      pipeline([data.subarray(0, MIB), data.subarray(MIB)], rig.client.stream(a), { end: true }),
      (async () => {
        for await (const chunk of rig.server.stream(b)) got.push(chunk as Buffer);
      })(),
    ]);
    t.is(digest(Buffer.concat(got)), digest(data));
  });

  situation('bytes that a receive left over go to the stream', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.send(a, Buffer.from('headbody'));
    await rig.client.shutdown(a, 'write');
    t.is((await rig.server.receiveExactly(b, 4)).toString(), 'head');
    const got: Buffer[] = [];
    for await (const chunk of rig.server.stream(b)) got.push(chunk as Buffer);
    t.is(Buffer.concat(got).toString(), 'body');
  });

  situation('once the stream is given out, calls that move bytes are EBUSY', async (t, rig) => {
    const { a, port } = await rig.pair();
    rig.client.stream(a);
    await failsWith(t, rig.client.send(a, Buffer.from('x')), 'EBUSY');
    await failsWith(t, rig.client.receive(a, 1), 'EBUSY');
    await failsWith(t, rig.client.shutdown(a, 'write'), 'EBUSY');
    t.is(rig.client.getpeername(a).port, port);
    await rig.client.close(a);
  });

  situation(
    'traffic counts the bytes of this mechanism, closed descriptors included',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      await Promise.all([rig.client.send(a, Buffer.alloc(MIB)), rig.server.receiveExactly(b, MIB)]);
      const own = rig.mechanism.family;
      const other = own === 'stp' ? 'inet' : 'stp';
      await Promise.all([rig.client.close(a), rig.server.close(b)]);
      const client = rig.client.traffic();
      const server = rig.server.traffic();
      t.true(client[own].sent >= MIB && client[own].sent < 1.05 * MIB, `${client[own].sent}`);
      // The goodbye of TLS may lie unread when both close.
      const { received } = server[own];
      t.true(received >= MIB && received <= client[own].sent, `${received}`);
      t.deepEqual(client[other], { sent: 0, received: 0 });
      t.deepEqual(server[other], { sent: 0, received: 0 });
    },
  );
}
