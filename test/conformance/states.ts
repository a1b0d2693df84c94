/** Situations: the wrong call in a state, and calls on what is closed. */
import { failsWith, type Situation, throwsCode } from './rig.js';

export function states(situation: Situation): void {
  situation('streaming calls on an unconnected socket: ENOTCONN', async (t, rig) => {
    const { fd: listener } = await rig.listener();
    const bound = rig.incoming();
    await rig.server.bind(bound, rig.at(0));
    for (const fd of [rig.incoming(), bound, listener]) {
      await failsWith(t, rig.server.send(fd, Buffer.from('x')), 'ENOTCONN');
      await failsWith(t, rig.server.receive(fd, 1), 'ENOTCONN');
      await failsWith(t, rig.server.receiveExactly(fd, 1), 'ENOTCONN');
      await failsWith(t, rig.server.shutdown(fd, 'both'), 'ENOTCONN');
      throwsCode(t, () => rig.server.getpeername(fd), 'ENOTCONN');
      throwsCode(t, () => rig.server.stream(fd), 'ENOTCONN');
      throwsCode(t, () => rig.server.detach(fd), 'ENOTCONN');
    }
  });

  situation('accept on what does not listen: EINVAL', async (t, rig) => {
    const { a } = await rig.pair();
    await failsWith(t, rig.client.accept(a), 'EINVAL');
    await failsWith(t, rig.client.accept(rig.outgoing()), 'EINVAL');
  });

  situation('a second bind: EINVAL, and the first stays', async (t, rig) => {
    const fd = rig.incoming();
    await rig.server.bind(fd, rig.at(0));
    const { port } = rig.server.getsockname(fd);
    await failsWith(t, rig.server.bind(fd, rig.at(0)), 'EINVAL');
    t.is(rig.server.getsockname(fd).port, port);
  });

  situation('a socket listens or connects once: EINVAL and EISCONN', async (t, rig) => {
    const { a, b, listener, port } = await rig.pair();
    await failsWith(t, rig.server.listen(listener), 'EINVAL');
    await failsWith(t, rig.server.bind(listener, rig.at(0)), 'EINVAL');
    await failsWith(t, rig.server.connect(listener, rig.at(port)), 'EISCONN');
    await failsWith(t, rig.client.connect(a, rig.at(port)), 'EISCONN');
    await failsWith(t, rig.client.listen(a), 'EINVAL');
    await failsWith(t, rig.client.bind(a, rig.at(0)), 'EINVAL');
    await rig.client.send(a, Buffer.from('unhurt'));
    t.is((await rig.server.receiveExactly(b, 6)).toString(), 'unhurt');
  });

  situation(
    'of two calls at once the second is told that the first is under way: EALREADY',
    async (t, rig) => {
      const { fd, port } = await rig.listener();
      const a = rig.outgoing();
      const binding = rig.client.bind(a, { port: 0 });
      await failsWith(t, rig.client.bind(a, { port: 0 }), 'EALREADY');
      await binding;
      const connecting = rig.client.connect(a, rig.at(port));
      await failsWith(t, rig.client.connect(a, rig.at(port)), 'EALREADY');
      await Promise.all([connecting, rig.server.accept(fd)]);
      t.is(rig.client.getsockopt(a, 'state'), 'connected');
    },
  );

  situation('every call on a closed descriptor: EBADF', async (t, rig) => {
    const { a } = await rig.pair();
    const { client } = rig;
    await client.close(a);
    await failsWith(t, client.bind(a, rig.at(0)), 'EBADF');
    await failsWith(t, client.listen(a), 'EBADF');
    await failsWith(t, client.accept(a), 'EBADF');
    await failsWith(t, client.connect(a, rig.at(1)), 'EBADF');
    await failsWith(t, client.send(a, Buffer.from('x')), 'EBADF');
    await failsWith(t, client.receive(a, 1), 'EBADF');
    await failsWith(t, client.receiveExactly(a, 1), 'EBADF');
    await failsWith(t, client.shutdown(a, 'both'), 'EBADF');
    await failsWith(t, client.close(a), 'EBADF');
    throwsCode(t, () => client.abort(a), 'EBADF');
    throwsCode(t, () => client.getsockname(a), 'EBADF');
    throwsCode(t, () => client.getpeername(a), 'EBADF');
    throwsCode(t, () => client.getsockopt(a, 'state'), 'EBADF');
    throwsCode(t, () => client.setsockopt(a, 'noDelay', true), 'EBADF');
    throwsCode(t, () => client.stream(a), 'EBADF');
    throwsCode(t, () => client.detach(a), 'EBADF');
  });

  situation('two closes at once: one is done, the other EBADF', async (t, rig) => {
    const { a } = await rig.pair();
    const results = await Promise.allSettled([rig.client.close(a), rig.client.close(a)]);
    t.deepEqual(
      results.map((r) => r.status),
      ['fulfilled', 'rejected'],
    );
  });

  situation('the number of a closed descriptor is not given again', async (t, rig) => {
    const seen = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const fd = rig.outgoing();
      t.false(seen.has(fd));
      seen.add(fd);
      await rig.client.close(fd);
    }
  });

  situation('sockets in any state can be closed', async (t, rig) => {
    const bound = rig.incoming();
    await rig.server.bind(bound, rig.at(0));
    const { b, listener } = await rig.pair();
    for (const fd of [rig.incoming(), bound, listener, b]) await rig.server.close(fd);
    const binding = rig.incoming();
    const pending = failsWith(t, rig.server.bind(binding, rig.at(0)), 'ECANCELED');
    await rig.server.close(binding);
    await pending;
    await rig.server.closeAll();
  });

  situation('closeAll closes everything, and the layer goes on', async (t, rig) => {
    const { a, b } = await rig.pair();
    await rig.server.closeAll();
    t.is((await rig.client.receive(a, 1)).length, 0);
    await failsWith(t, rig.server.receive(b, 1), 'EBADF');
    await rig.pair();
  });

  situation('unknown and ill-typed options: ENOPROTOOPT and EINVAL', async (t, rig) => {
    const fd = rig.outgoing();
    throwsCode(t, () => rig.client.setsockopt(fd, 'colour', 1), 'ENOPROTOOPT');
    throwsCode(t, () => rig.client.getsockopt(fd, 'colour'), 'ENOPROTOOPT');
    throwsCode(t, () => rig.client.setsockopt(fd, 'noDelay', 'yes'), 'EINVAL');
    throwsCode(t, () => rig.client.setsockopt(fd, 'timeoutMs', -1), 'EINVAL');
  });

  situation('ill-formed requests to read and write: EINVAL', async (t, rig) => {
    const { a } = await rig.pair();
    for (const bytes of [0, -1, 1.5, Number.NaN]) {
      await failsWith(t, rig.client.receive(a, bytes), 'EINVAL');
    }
    await failsWith(t, rig.client.receiveExactly(a, 2 ** 40), 'EINVAL');
    await failsWith(t, rig.client.send(a, 'text' as unknown as Buffer), 'EINVAL');
  });
}
