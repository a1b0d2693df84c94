/** Situations: names, ports, and how connections come to be. */
import { setTimeout as sleep } from 'node:timers/promises';
import { STP_DESCRIPTOR_MIN } from '../../src/connect/bounds.js';
import { familyOf } from '../../src/connect/stp-connect.js';
import { failsWith, type Situation, stillWaits } from './rig.js';

export function opening(situation: Situation): void {
  situation('the value of every descriptor names the mechanism', async (t, rig) => {
    const { a, b, listener } = await rig.pair();
    for (const fd of [a, b, listener]) {
      t.is(fd >= STP_DESCRIPTOR_MIN, rig.mechanism.family === 'stp');
      t.is(familyOf(fd), rig.mechanism.family);
    }
  });

  situation(
    'a new socket has port 0, a bound one the port it keeps when it listens',
    async (t, rig) => {
      const fd = rig.incoming();
      t.is(rig.server.getsockname(fd).port, 0);
      await rig.server.bind(fd, rig.at(0));
      const { port } = rig.server.getsockname(fd);
      t.true(port > 0 && port <= 65535);
      await rig.server.listen(fd);
      t.is(rig.server.getsockname(fd).port, port);
      t.is(rig.server.getsockname(fd).family, rig.mechanism.family);
    },
  );

  situation('listen without bind takes a dynamic port', async (t, rig) => {
    const fd = rig.incoming();
    await rig.server.listen(fd);
    const { port } = rig.server.getsockname(fd);
    t.true(port > 0);
    const [, b] = await Promise.all([rig.dial(port), rig.server.accept(fd)]);
    t.is(rig.server.getsockname(b).port, port);
  });

  situation('two dynamic ports differ', async (t, rig) => {
    const one = await rig.listener();
    const two = await rig.listener();
    t.not(one.port, two.port);
  });

  situation('bind to a port that is listened on: EADDRINUSE', async (t, rig) => {
    const { port } = await rig.listener();
    const fd = rig.incoming();
    await failsWith(t, rig.server.bind(fd, rig.at(port)), 'EADDRINUSE');
    await rig.server.bind(fd, rig.at(0));
    t.not(rig.server.getsockname(fd).port, port, 'the descriptor can be bound elsewhere after it');
  });

  situation('bind to a port that is only bound: EADDRINUSE', async (t, rig) => {
    const holder = rig.incoming();
    await rig.server.bind(holder, rig.at(0));
    const { port } = rig.server.getsockname(holder);
    await failsWith(t, rig.server.bind(rig.incoming(), rig.at(port)), 'EADDRINUSE');
    await failsWith(t, rig.client.bind(rig.outgoing(), rig.at(port)), 'EADDRINUSE');
  });

  situation(
    'a port is free again once its listener, or who bound it, is closed',
    async (t, rig) => {
      const { fd, port } = await rig.listener();
      await rig.server.close(fd);
      const again = rig.incoming();
      await rig.server.bind(again, rig.at(port));
      await rig.server.close(again);
      const third = rig.incoming();
      await rig.server.bind(third, rig.at(port));
      t.is(rig.server.getsockname(third).port, port);
    },
  );

  situation(
    'connect where nobody listens: ECONNREFUSED, and the descriptor is as new',
    async (t, rig) => {
      const { fd, port } = await rig.listener();
      await rig.server.close(fd);
      const a = rig.outgoing();
      const error = await failsWith(t, rig.client.connect(a, rig.at(port)), 'ECONNREFUSED');
      t.regex(error.message, new RegExp(`:${port}\\b`), 'the message names the port');
      t.is(rig.client.getsockopt(a, 'state'), 'unbound');
      const listener = await rig.listener();
      await Promise.all([
        rig.client.connect(a, rig.at(listener.port)),
        rig.server.accept(listener.fd),
      ]);
      t.is(rig.client.getsockopt(a, 'state'), 'connected');
    },
  );

  situation('connect to a port that is bound but not listened on: ECONNREFUSED', async (t, rig) => {
    const holder = rig.incoming();
    await rig.server.bind(holder, rig.at(0));
    const { port } = rig.server.getsockname(holder);
    const a = rig.outgoing();
    await failsWith(t, rig.client.connect(a, rig.at(port)), 'ECONNREFUSED');
    await rig.server.listen(holder);
    const none = rig.server.accept(holder);
    t.true(await stillWaits(none), 'the early peer is not accepted later');
    await Promise.all([rig.server.close(holder), failsWith(t, none, 'ECANCELED')]);
  });

  situation(
    'bind, then connect (steps 144 and 244): the peer sees the bound port',
    async (t, rig) => {
      const { fd, port } = await rig.listener();
      const a = rig.outgoing();
      await rig.client.bind(a, { port: 0 });
      const own = rig.client.getsockname(a).port;
      const [, b] = await Promise.all([rig.client.connect(a, rig.at(port)), rig.server.accept(fd)]);
      t.is(rig.client.getsockname(a).port, own);
      t.is(rig.server.getpeername(b).port, own);
      await rig.client.send(a, Buffer.from('x'));
      t.is((await rig.server.receive(b, 9)).toString(), 'x');
    },
  );

  situation('both sides agree on the names of a connection', async (t, rig) => {
    const { a, b, port } = await rig.pair();
    t.deepEqual(rig.client.getpeername(a), rig.server.getsockname(b));
    t.deepEqual(rig.client.getsockname(a), rig.server.getpeername(b));
    t.is(rig.client.getpeername(a).port, port);
  });

  situation('names stay after the connection has ended', async (t, rig) => {
    const { a, b, port } = await rig.pair();
    await rig.server.close(b);
    await rig.client.receive(a, 1);
    t.is(rig.client.getpeername(a).port, port);
  });

  situation('a connection stands before it is accepted, and keeps what is sent', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const a = await rig.dial(port);
    await rig.client.send(a, Buffer.from('early'));
    await rig.client.shutdown(a, 'write');
    const b = await rig.server.accept(fd);
    t.is((await rig.server.receiveExactly(b, 5)).toString(), 'early');
    t.is((await rig.server.receive(b, 1)).length, 0);
  });

  situation('connections are accepted in the order in which they came', async (t, rig) => {
    const { fd, port } = await rig.listener();
    for (let i = 0; i < 5; i++) {
      const a = await rig.dial(port);
      await rig.client.send(a, Buffer.from([i]));
      // TLS and STP tell the server in their own time: let it see this one first.
      while (rig.server.getsockopt(fd, 'backlogCount') !== i + 1) await sleep(1);
    }
    for (let i = 0; i < 5; i++) {
      const b = await rig.server.accept(fd);
      t.deepEqual([...(await rig.server.receiveExactly(b, 1))], [i]);
    }
  });

  situation(
    'several accepts wait: each gets one connection, in the order of the calls',
    async (t, rig) => {
      const { fd, port } = await rig.listener();
      const order: number[] = [];
      const accepts = [0, 1, 2].map(async (i) => {
        const b = await rig.server.accept(fd);
        order.push(i);
        return b;
      });
      for (let i = 0; i < 3; i++) await rig.dial(port);
      t.is(new Set(await Promise.all(accepts)).size, 3);
      t.deepEqual(order, [0, 1, 2]);
    },
  );

  situation(
    'a full backlog: the next one is refused or reset, those that wait are not hurt',
    async (t, rig) => {
      const { fd, port } = await rig.listener(2);
      const first = [await rig.dial(port), await rig.dial(port)];
      const surplus = rig.outgoing();
      const attempt = (async () => {
        await rig.client.connect(surplus, rig.at(port));
        await rig.client.receive(surplus, 1);
      })();
      await failsWith(t, attempt, 'ECONNREFUSED', 'ECONNRESET');
      for (const a of first) {
        const b = await rig.server.accept(fd);
        await rig.server.send(b, Buffer.from('in'));
        t.is((await rig.client.receiveExactly(a, 2)).toString(), 'in');
      }
      const [, b] = await Promise.all([rig.dial(port), rig.server.accept(fd)]);
      t.truthy(b, 'and there is room again');
    },
  );

  situation('closing a listener resets who waits and leaves the accepted alone', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const accepted = await rig.dial(port);
    const b = await rig.server.accept(fd);
    const waiting = await rig.dial(port);
    while (rig.server.getsockopt(fd, 'backlogCount') !== 1) await sleep(1);
    await rig.server.close(fd);
    await failsWith(t, rig.client.receive(waiting, 1), 'ECONNRESET');
    await rig.client.send(accepted, Buffer.from('still here'));
    t.is((await rig.server.receiveExactly(b, 10)).toString(), 'still here');
    await failsWith(t, rig.dial(port), 'ECONNREFUSED');
  });

  situation('accepted sockets inherit the options of their listener', async (t, rig) => {
    const { fd, port } = await rig.listener();
    rig.server.setsockopt(fd, 'noDelay', false);
    rig.server.setsockopt(fd, 'timeoutMs', 12_345);
    const [, b] = await Promise.all([rig.dial(port), rig.server.accept(fd)]);
    t.is(rig.server.getsockopt(b, 'noDelay'), false);
    t.is(rig.server.getsockopt(b, 'timeoutMs'), 12_345);
  });

  situation('200 connections at once, each with its own bytes', async (t, rig) => {
    const { fd, port } = await rig.listener();
    const accepting = (async () => {
      for (let i = 0; i < 200; i++) {
        const b = await rig.server.accept(fd);
        void (async () => {
          const word = await rig.server.receiveExactly(b, 4);
          await rig.server.send(b, word);
        })();
      }
    })();
    const open: number[] = [];
    for (let batch = 0; batch < 10; batch++) {
      open.push(...(await Promise.all(Array.from({ length: 20 }, () => rig.dial(port)))));
    }
    await accepting;
    const answers = await Promise.all(
      open.map(async (a, i) => {
        const word = Buffer.alloc(4);
        word.writeUInt32LE(i * 7919);
        await rig.client.send(a, word);
        return (await rig.client.receiveExactly(a, 4)).readUInt32LE();
      }),
    );
    t.deepEqual(
      answers,
      open.map((_, i) => i * 7919),
    );
  });

  situation('wrong ports and backlogs: EINVAL, naming the value', async (t, rig) => {
    for (const port of [-1, 65536, 1.5, Number.NaN]) {
      const error = await failsWith(t, rig.server.bind(rig.incoming(), rig.at(port)), 'EINVAL');
      t.regex(error.message, new RegExp(`port ${port}`));
      await failsWith(t, rig.client.connect(rig.outgoing(), rig.at(port)), 'EINVAL');
    }
    await failsWith(t, rig.client.connect(rig.outgoing(), rig.at(0)), 'EINVAL');
    for (const backlog of [0, -1, 1.5, 1_000_000]) {
      await failsWith(t, rig.server.listen(rig.incoming(), backlog), 'EINVAL');
    }
  });
}
