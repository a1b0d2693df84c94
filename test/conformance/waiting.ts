/** Situations: calls that wait, what ends the waiting, and poll. */
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT } from '../../src/connect/stp-connect.js';
import { failsWith, receiveAll, type Situation, stillWaits } from './rig.js';

const MIB = 1 << 20;

export function waiting(situation: Situation): void {
  situation('close wakes a waiting accept: ECANCELED', async (t, rig) => {
    const { fd } = await rig.listener();
    const accepts = [rig.server.accept(fd), rig.server.accept(fd)];
    t.true(await stillWaits(Promise.race(accepts), 30));
    const ends = accepts.map((p) => failsWith(t, p, 'ECANCELED'));
    await rig.server.close(fd);
    await Promise.all(ends);
  });

  situation('close wakes a waiting receive: ECANCELED', async (t, rig) => {
    const { b } = await rig.pair();
    const receives = [rig.server.receive(b, 1), rig.server.receiveExactly(b, 5)];
    t.true(await stillWaits(Promise.race(receives), 30));
    const ends = receives.map((p) => failsWith(t, p, 'ECANCELED'));
    await rig.server.close(b);
    await Promise.all(ends);
  });

  situation('abort wakes waiting calls: ECANCELED', async (t, rig) => {
    const { a } = await rig.pair();
    const receive = failsWith(t, rig.client.receive(a, 1), 'ECANCELED');
    const send = failsWith(t, rig.client.send(a, Buffer.alloc(64 * MIB)), 'ECANCELED');
    t.true(await stillWaits(Promise.race([receive, send])));
    rig.client.abort(a);
    await Promise.all([receive, send]);
  });

  situation('a signal ends an accept, and the next one gets the connection', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const control = new AbortController();
    const accept = rig.server.accept(fd, { signal: control.signal });
    t.true(await stillWaits(accept, 30));
    control.abort(new Error('enough'));
    const error = await failsWith(t, accept, 'ABORT_ERR');
    t.is(error.name, 'AbortError');
    t.is((error.cause as Error).message, 'enough');
    const [, b] = await Promise.all([rig.dial(port), rig.server.accept(fd)]);
    t.truthy(b);
  });

  situation('a signal ends a receive, and no byte is lost', async (t, rig) => {
    const { a, b } = await rig.pair();
    const control = new AbortController();
    const receive = rig.server.receive(b, 5, { signal: control.signal });
    t.true(await stillWaits(receive, 30));
    control.abort();
    await failsWith(t, receive, 'ABORT_ERR');
    await rig.client.send(a, Buffer.from('whole'));
    t.is((await rig.server.receiveExactly(b, 5)).toString(), 'whole');
  });

  situation('a signal that was aborted before ends every call at once', async (t, rig) => {
    const { a, listener, port } = await rig.pair();
    const signal = AbortSignal.abort();
    await failsWith(t, rig.server.accept(listener, { signal }), 'ABORT_ERR');
    await failsWith(t, rig.client.connect(rig.outgoing(), rig.at(port), { signal }), 'ABORT_ERR');
    await failsWith(t, rig.client.receive(a, 1, { signal }), 'ABORT_ERR');
    await failsWith(t, rig.client.send(a, Buffer.from('x'), { signal }), 'ABORT_ERR');
    t.is(rig.client.getsockopt(a, 'error'), null, 'and breaks nothing');
  });

  situation(
    'time limits: ETIMEDOUT for accept and receive, by option, signal and setsockopt',
    async (t, rig) => {
      const { a, b, listener } = await rig.pair();
      await failsWith(t, rig.server.accept(listener, { timeoutMs: 20 }), 'ETIMEDOUT');
      await failsWith(t, rig.server.receive(b, 1, { timeoutMs: 20 }), 'ETIMEDOUT');
      await failsWith(
        t,
        rig.server.receive(b, 1, { signal: AbortSignal.timeout(20) }),
        'ETIMEDOUT',
      );
      rig.server.setsockopt(b, 'timeoutMs', 20);
      await failsWith(t, rig.server.receive(b, 1), 'ETIMEDOUT');
      rig.server.setsockopt(b, 'timeoutMs', 0);
      await rig.client.send(a, Buffer.from('later'));
      t.is((await rig.server.receiveExactly(b, 5)).toString(), 'later');
    },
  );

  situation('a receiveExactly that gives up has taken nothing', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.client.send(a, Buffer.from('half'));
    await failsWith(t, rig.server.receiveExactly(b, 8, { timeoutMs: 100 }), 'ETIMEDOUT');
    await rig.client.send(a, Buffer.from('rest'));
    t.is((await rig.server.receiveExactly(b, 8)).toString(), 'halfrest');
  });

  situation('a send that gives up half-way resets the connection', async (t, rig) => {
    const { a, b } = await rig.pair();
    const send = rig.client.send(a, Buffer.alloc(64 * MIB), { timeoutMs: 200 });
    await failsWith(t, send, 'ETIMEDOUT');
    await failsWith(t, rig.client.send(a, Buffer.from('x')), 'ECONNRESET');
    await failsWith(t, receiveAll(rig.server, b), 'ECONNRESET');
  });

  situation('a send that gives up before its turn harms nothing', async (t, rig) => {
    const { a, b } = await rig.pair();
    const long = rig.client.send(a, Buffer.alloc(64 * MIB, 1));
    t.true(await stillWaits(long));
    await failsWith(t, rig.client.send(a, Buffer.from('x'), { timeoutMs: 20 }), 'ETIMEDOUT');
    const got = rig.server.receiveExactly(b, 64 * MIB);
    await long;
    t.is((await got).length, 64 * MIB);
    await rig.client.send(a, Buffer.from('y'));
    t.is((await rig.server.receive(b, 9)).toString(), 'y');
  });

  situation(
    'poll: a connected socket can be written, and read once bytes are there',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      t.deepEqual(await rig.server.poll([{ fd: b, events: POLLIN | POLLOUT }], 1000), [
        { fd: b, revents: POLLOUT },
      ]);
      const readable = rig.server.poll([{ fd: b, events: POLLIN }], -1);
      t.true(await stillWaits(readable, 30));
      await rig.client.send(a, Buffer.from('bytes'));
      t.deepEqual(await readable, [{ fd: b, revents: POLLIN }]);
      t.is((await rig.server.receiveExactly(b, 5)).toString(), 'bytes', 'poll takes none');
    },
  );

  situation('poll: a listener is readable when a connection waits', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const readable = rig.server.poll([{ fd, events: POLLIN }], -1);
    t.true(await stillWaits(readable, 30));
    await rig.dial(port);
    t.deepEqual(await readable, [{ fd, revents: POLLIN }]);
    await rig.server.accept(fd);
    t.deepEqual(await rig.server.poll([{ fd, events: POLLIN }], 0), []);
  });

  situation('poll: only the ready ones of a set, and nothing at the time limit', async (t, rig) => {
    const pairs = await rig.pairs(5);
    const entries = pairs.map(({ b }) => ({ fd: b, events: POLLIN }));
    t.deepEqual(await rig.server.poll(entries, 30), []);
    t.deepEqual(await rig.server.poll(entries, 0), []);
    const third = pairs[3];
    if (third === undefined) throw new Error('5 pairs');
    await rig.client.send(third.a, Buffer.from('x'));
    t.deepEqual(await rig.server.poll(entries, -1), [{ fd: third.b, revents: POLLIN }]);
  });

  situation(
    'poll: an orderly end is readable, both ends are a hang-up, a reset is an error',
    async (t, rig) => {
      const [one, two] = await rig.pairs(2);
      if (one === undefined || two === undefined) throw new Error('two pairs');
      await rig.client.shutdown(one.a, 'write');
      t.deepEqual(await rig.server.poll([{ fd: one.b, events: POLLIN }], -1), [
        { fd: one.b, revents: POLLIN },
      ]);
      t.is((await rig.server.receive(one.b, 1)).length, 0);
      await rig.server.shutdown(one.b, 'write');
      t.deepEqual(await rig.server.poll([{ fd: one.b, events: 0 }], -1), [
        { fd: one.b, revents: POLLHUP },
      ]);
      const failing = rig.server.poll([{ fd: two.b, events: POLLIN }], -1);
      rig.client.abort(two.a);
      t.deepEqual(await failing, [{ fd: two.b, revents: POLLIN | POLLERR | POLLHUP }]);
    },
  );

  situation(
    'poll: a socket that cannot take more is writable again after the peer reads',
    async (t, rig) => {
      const { a, b } = await rig.pair();
      const sending = rig.client.send(a, Buffer.alloc(64 * MIB));
      t.true(await stillWaits(sending));
      t.deepEqual(await rig.client.poll([{ fd: a, events: POLLOUT }], 30), []);
      const writable = rig.client.poll([{ fd: a, events: POLLOUT }], -1);
      await Promise.all([sending, rig.server.receiveExactly(b, 64 * MIB)]);
      t.deepEqual(await writable, [{ fd: a, revents: POLLOUT }]);
    },
  );

  situation(
    'poll: unconnected is a hang-up; closed is invalid, also while it waits',
    async (t, rig) => {
      const fresh = rig.outgoing();
      t.deepEqual(await rig.client.poll([{ fd: fresh, events: POLLIN }], 0), [
        { fd: fresh, revents: POLLHUP },
      ]);
      const { b } = await rig.pair();
      const polling = rig.server.poll([{ fd: b, events: POLLIN }], -1);
      t.true(await stillWaits(polling, 30));
      await rig.server.close(b);
      t.deepEqual(await polling, [{ fd: b, revents: POLLNVAL }]);
    },
  );

  situation('poll: ended by a signal; wrong arguments are EINVAL', async (t, rig) => {
    const { b } = await rig.pair();
    const entries = [{ fd: b, events: POLLIN }];
    const control = new AbortController();
    const polling = rig.server.poll(entries, -1, { signal: control.signal });
    t.true(await stillWaits(polling, 30));
    control.abort();
    await failsWith(t, polling, 'ABORT_ERR');
    await failsWith(t, rig.server.poll(entries, -2), 'EINVAL');
    await failsWith(t, rig.server.poll([{ fd: b, events: 64 }], 0), 'EINVAL');
  });
}
