/** Situations: half-close, orderly end, reset, and who may tell them apart. */
import { setTimeout as sleep } from 'node:timers/promises';
import { digest, failsWith, Random, receiveAll, type Situation, stillWaits } from './rig.js';

const MIB = 1 << 20;

export function ending(situation: Situation): void {
  situation('half-close from the connecting side: the answer still comes', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.send(a, Buffer.from('question'));
    await rig.client.shutdown(a, 'write');
    t.is((await receiveAll(rig.server, b)).toString(), 'question');
    await rig.server.send(b, Buffer.from('answer'));
    await rig.server.close(b);
    t.is((await receiveAll(rig.client, a)).toString(), 'answer');
  });

  situation('half-close from the accepting side: the answer still comes', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.server.send(b, Buffer.from('question'));
    await rig.server.shutdown(b, 'write');
    t.is((await receiveAll(rig.client, a)).toString(), 'question');
    const data = new Random(t).bytes(5 * MIB);
    const [got] = await Promise.all([
      receiveAll(rig.server, b),
      rig.client.send(a, data).then(() => rig.client.close(a)),
    ]);
    t.is(digest(got), digest(data));
  });

  situation('close sends everything, then an orderly end, and the end stays', async (t, rig) => {
    const { a, b } = await rig.pair();
    const data = new Random(t).bytes(3 * MIB);
    const [got] = await Promise.all([
      receiveAll(rig.server, b),
      rig.client.send(a, data).then(() => rig.client.close(a)),
    ]);
    t.is(digest(got), digest(data));
    t.is((await rig.server.receive(b, 1)).length, 0);
    t.is((await rig.server.receive(b, 1)).length, 0);
  });

  situation('close at once after connect: the peer sees an orderly end', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const a = await rig.dial(port);
    await rig.client.close(a);
    const b = await rig.server.accept(fd);
    t.is((await rig.server.receive(b, 1)).length, 0);
  });

  situation('a waiting receive is woken by the orderly end', async (t, rig) => {
    const { a, b } = await rig.pair();
    const waiting = rig.server.receive(b, 1);
    t.true(await stillWaits(waiting, 30));
    await rig.client.close(a);
    t.is((await waiting).length, 0);
  });

  situation('abort: ECONNRESET at the peer, now and later', async (t, rig) => {
    const { a, b } = await rig.pair();
    rig.client.abort(a);
    await failsWith(t, rig.server.receive(b, 1), 'ECONNRESET');
    await failsWith(t, rig.server.receive(b, 1), 'ECONNRESET');
    await failsWith(t, rig.server.send(b, Buffer.from('x')), 'ECONNRESET', 'EPIPE');
    t.is((rig.server.getsockopt(b, 'error') as { code: string }).code, 'ECONNRESET');
    await rig.server.close(b);
  });

  situation('a waiting receive is woken by a reset', async (t, rig) => {
    const { a, b } = await rig.pair();
    const waiting = rig.server.receive(b, 1);
    t.true(await stillWaits(waiting, 30));
    rig.client.abort(a);
    await failsWith(t, waiting, 'ECONNRESET');
  });

  situation('a waiting send is woken by a reset', async (t, rig) => {
    const { a, b } = await rig.pair();
    const waiting = rig.client.send(a, Buffer.alloc(64 * MIB));
    t.true(await stillWaits(waiting));
    rig.server.abort(b);
    await failsWith(t, waiting, 'ECONNRESET', 'EPIPE');
  });

  situation(
    'close while a send waits: a reset, so that a torso is not taken for the whole',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      const waiting = rig.client.send(a, Buffer.alloc(64 * MIB));
      t.true(await stillWaits(waiting));
      // Read at once: a close that went on sending would find its reader.
      const reading = failsWith(t, receiveAll(rig.server, b), 'ECONNRESET');
      await Promise.all([reading, rig.client.close(a), failsWith(t, waiting, 'ECANCELED')]);
    },
  );

  situation('send after shutting down: EPIPE; shutting down again is nothing', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.shutdown(a, 'write');
    await rig.client.shutdown(a, 'write');
    await failsWith(t, rig.client.send(a, Buffer.from('x')), 'EPIPE');
    t.is((await rig.server.receive(b, 1)).length, 0);
  });

  situation('shutdown waits its turn behind sends that were called before it', async (t, rig) => {
    const { a, b } = await rig.pair();
    const sends = [1, 2, 3].map((n) => rig.client.send(a, Buffer.alloc(2 * MIB, n)));
    const end = rig.client.shutdown(a, 'write');
    await failsWith(t, rig.client.send(a, Buffer.from('late')), 'EPIPE');
    const got = await receiveAll(rig.server, b);
    await Promise.all([...sends, end]);
    t.is(got.length, 6 * MIB);
    t.is(got[got.length - 1], 3);
  });

  situation(
    'shutdown of reading: receives end at once, and the peer is not held up',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      const waiting = rig.server.receive(b, 1);
      await rig.server.shutdown(b, 'read');
      t.is((await waiting).length, 0);
      await rig.client.send(a, Buffer.alloc(16 * MIB));
      t.is((await rig.server.receive(b, 1)).length, 0);
      await rig.server.send(b, Buffer.from('other way'));
      t.is((await rig.client.receiveExactly(a, 9)).toString(), 'other way');
    },
  );

  situation('shutdown of both', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.shutdown(a, 'both');
    t.is((await rig.client.receive(a, 1)).length, 0);
    await failsWith(t, rig.client.send(a, Buffer.from('x')), 'EPIPE');
    t.is((await rig.server.receive(b, 1)).length, 0);
  });

  situation(
    'sending to a peer that has closed: EPIPE or ECONNRESET before long',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      await rig.server.close(b);
      const error = await t.throwsAsync(async () => {
        for (;;) {
          await rig.client.send(a, Buffer.alloc(65536));
          await sleep(1);
        }
      });
      t.true(['EPIPE', 'ECONNRESET'].includes((error as Error & { code: string }).code));
    },
  );

  situation('both sides close at once', async (t, rig) => {
    const { a, b } = await rig.pair();
    await t.notThrowsAsync(Promise.all([rig.client.close(a), rig.server.close(b)]));
  });

  situation('both sides send and shut down at once: both get everything', async (t, rig) => {
    const { a, b } = await rig.pair();
    const random = new Random(t);
    const [there, back] = [random.bytes(MIB), random.bytes(MIB)];
    await Promise.all([
      rig.client.send(a, there).then(() => rig.client.shutdown(a, 'write')),
      rig.server.send(b, back).then(() => rig.server.shutdown(b, 'write')),
      (async () => t.is(digest(await receiveAll(rig.server, b)), digest(there)))(),
      (async () => t.is(digest(await receiveAll(rig.client, a)), digest(back)))(),
    ]);
    await Promise.all([rig.client.close(a), rig.server.close(b)]);
  });

  situation('one abort, twenty neighbours: nobody else notices', async (t, rig) => {
    const pairs = await rig.pairs(21);
    const [victim, ...rest] = pairs;
    if (victim === undefined) throw new Error('21 pairs');
    rig.client.abort(victim.a);
    await failsWith(t, rig.server.receive(victim.b, 1), 'ECONNRESET');
    for (const { a, b } of rest) {
      await rig.client.send(a, Buffer.from('fine'));
      t.is((await rig.server.receiveExactly(b, 4)).toString(), 'fine');
    }
  });
}
