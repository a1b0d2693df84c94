/**
 * Scripts of the conformance suite: two sides, each a sequence of calls, that come out the same
 * over each mechanism and in each form: on an event loop (STPConnect) and in a thread that blocks
 * (BlockingConnect). A side awaits every call; where the call blocks there is nothing to await.
 * What a side notes is compared with what stands here, once for all.
 */
import { createHash } from 'node:crypto';
import type { BlockingConnect } from '../../src/connect/blocking-connect.js';
import {
  O_NONBLOCK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_MECHANISM,
  SO_PEERCRED,
  SO_RCVBUF,
  SO_RCVTIMEO,
  SO_REASON,
  SO_REUSEADDR,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_SPIN,
  SO_TYPE,
  type STPConnect,
  type Target,
  TCP_NODELAY,
} from '../../src/connect/stp-connect.js';
import { NUMBERS } from '../../src/layout/tables.js';

export interface Side {
  readonly layer: STPConnect | BlockingConnect;
  readonly family: 'inet' | 'stp';
  /** A new socket of the mechanism; over TLS it has its key. */
  socket(): number;
  at(port: number): Target;
  /** A value for the other side, and the next of its. */
  tell(value: unknown): void;
  hear(): Promise<unknown> | unknown;
  /** Looks without waiting: whether the next value is there. It is taken then. */
  heard(): () => boolean;
  pause(ms: number): Promise<void> | void;
  note(what: unknown): void;
}

export interface Script {
  readonly server: (side: Side) => Promise<void>;
  readonly client: (side: Side) => Promise<void>;
  readonly notes: { readonly server: readonly unknown[]; readonly client: readonly unknown[] };
}

const MIB = 1 << 20;

/** The code of what the call throws, or what it gave. */
async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return (await call()) ?? 'done';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const digest = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** Bytes that differ from place to place. */
function pattern(bytes: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  for (let i = 0, x = seed | 1; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return Buffer.from(words.buffer, 0, bytes);
}

async function listening(side: Side, backlog?: number): Promise<number> {
  const fd = side.socket();
  await side.layer.bind(fd, side.at(0));
  await side.layer.listen(fd, backlog);
  side.tell(side.layer.getsockname(fd).port);
  return fd;
}

/** One connection, accepted: [connection, listener]. */
async function served(side: Side): Promise<[number, number]> {
  const listener = await listening(side);
  return [await side.layer.accept(listener), listener];
}

async function dialled(side: Side): Promise<number> {
  const fd = side.socket();
  await side.layer.connect(fd, side.at((await side.hear()) as number));
  return fd;
}

async function all(side: Side, fd: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (;;) {
    const part = await side.layer.receive(fd, 100_000);
    if (part.length === 0) return Buffer.concat(parts);
    parts.push(part);
  }
}

const text = (bytes: unknown): string => String(bytes);

export const scripts: Readonly<Record<string, Script>> = {
  'a request, an answer, half-closes and the end': {
    server: async (s) => {
      const [b, listener] = await served(s);
      s.note(text(await s.layer.receiveExactly(b, 7)));
      s.note((await s.layer.receive(b, 1)).length);
      s.note(await s.layer.send(b, Buffer.from('answer')));
      await s.layer.shutdown(b, 'write');
      s.note(s.layer.getpeername(b).port === (await s.hear()));
      await s.layer.close(b);
      await s.layer.close(listener);
    },
    client: async (s) => {
      const a = await dialled(s);
      s.note(s.layer.getsockopt(a, 'state'));
      s.note(await s.layer.send(a, Buffer.from('request')));
      await s.layer.shutdown(a, 'write');
      s.note(text(await s.layer.receiveExactly(a, 6)));
      s.note((await s.layer.receive(a, 1)).length);
      s.tell(s.layer.getsockname(a).port);
      s.note(await outcome(() => s.layer.send(a, Buffer.from('x'))));
      await s.layer.close(a);
      s.note(await outcome(() => s.layer.receive(a, 1)));
    },
    notes: {
      server: ['request', 0, 6, true],
      client: ['connected', 7, 'answer', 0, 'EPIPE', 'EBADF'],
    },
  },

  'eight MiB each way': {
    server: async (s) => {
      const [b] = await served(s);
      s.note(digest(await s.layer.receiveExactly(b, 8 * MIB)));
      await s.layer.send(b, pattern(8 * MIB + 3, 2));
      await s.layer.close(b);
    },
    client: async (s) => {
      const a = await dialled(s);
      s.note(await s.layer.send(a, pattern(8 * MIB, 1)));
      s.note(digest(await all(s, a)));
    },
    notes: {
      server: [digest(pattern(8 * MIB, 1))],
      client: [8 * MIB, digest(pattern(8 * MIB + 3, 2))],
    },
  },

  'five hundred requests and answers': {
    server: async (s) => {
      const [b] = await served(s);
      for (let i = 0; i < 500; i++) await s.layer.send(b, await s.layer.receiveExactly(b, 64));
      s.note((await s.layer.receive(b, 1)).length);
    },
    client: async (s) => {
      const a = await dialled(s);
      for (let i = 0; i < 500; i++) {
        const word = pattern(64, i);
        await s.layer.send(a, word);
        const back = await s.layer.receiveExactly(a, 64);
        if (Buffer.compare(word, back) !== 0) s.note(`answer ${i}`);
      }
      await s.layer.shutdown(a, 'write');
      s.note((await s.layer.receive(a, 1)).length);
    },
    notes: { server: [0], client: [0] },
  },

  'ports: taken, only bound, free again; who is refused can connect elsewhere': {
    server: async (s) => {
      const listener = await listening(s);
      const { port } = s.layer.getsockname(listener);
      const other = s.socket();
      s.note(await outcome(() => s.layer.bind(other, s.at(port))));
      s.note(s.layer.getsockopt(other, 'state'));
      await s.layer.bind(other, s.at(0));
      s.tell(s.layer.getsockname(other).port);
      s.note(await outcome(() => s.layer.bind(s.socket(), s.at(s.layer.getsockname(other).port))));
      await s.hear();
      await s.layer.close(await s.layer.accept(listener));
      await s.layer.close(listener);
      const again = s.socket();
      s.note(await outcome(() => s.layer.bind(again, s.at(port))));
      s.note(s.layer.getsockname(again).port === port);
    },
    client: async (s) => {
      const listener = (await s.hear()) as number;
      const bound = (await s.hear()) as number;
      const a = s.socket();
      s.note(await outcome(() => s.layer.connect(a, s.at(bound))));
      s.note(s.layer.getsockopt(a, 'state'));
      s.tell('tried');
      await s.layer.connect(a, s.at(listener));
      s.note((await s.layer.receive(a, 1)).length);
    },
    notes: {
      server: ['EADDRINUSE', 'unbound', 'EADDRINUSE', 'done', true],
      client: ['ECONNREFUSED', 'unbound', 0],
    },
  },

  'bind, then connect: the peer sees the bound port, and it is free after the end': {
    server: async (s) => {
      const [b] = await served(s);
      s.note(s.layer.getpeername(b).port === (await s.hear()));
      s.note((await s.layer.receive(b, 1)).length);
      await s.layer.close(b);
    },
    client: async (s) => {
      const a = s.socket();
      await s.layer.bind(a, { port: 0 });
      const { port } = s.layer.getsockname(a);
      await s.layer.connect(a, s.at((await s.hear()) as number));
      s.note(s.layer.getsockname(a).port === port);
      s.tell(port);
      await s.layer.close(a);
      const again = s.socket();
      s.note(await outcome(() => s.layer.bind(again, { port })));
    },
    notes: { server: [true, 0], client: [true, 'done'] },
  },

  'connections are made before anybody accepts, and accepted in their order': {
    server: async (s) => {
      const listener = await listening(s, 8);
      await s.hear();
      for (let i = 0; i < 5; i++) {
        const b = await s.layer.accept(listener);
        s.note(text(await s.layer.receiveExactly(b, 1)));
      }
      await s.layer.close(listener);
      s.tell('closed');
    },
    client: async (s) => {
      const port = (await s.hear()) as number;
      for (let i = 0; i < 5; i++) {
        const a = s.socket();
        await s.layer.connect(a, s.at(port));
        await s.layer.send(a, Buffer.from(String(i)));
        // TLS tells the server in its own time: let it see this one first.
        await s.pause(20);
      }
      s.tell('all');
      await s.hear();
      s.note(await outcome(() => s.layer.connect(s.socket(), s.at(port))));
    },
    notes: { server: ['0', '1', '2', '3', '4'], client: ['ECONNREFUSED'] },
  },

  'time limits of a call are ETIMEDOUT, those of POSIX EAGAIN; nothing is lost': {
    server: async (s) => {
      const listener = await listening(s);
      s.note(await outcome(() => s.layer.accept(listener, { timeoutMs: 20 })));
      s.layer.setsockopt(listener, SO_RCVTIMEO, 20);
      s.note(await outcome(() => s.layer.accept(listener)));
      s.layer.setsockopt(listener, SO_RCVTIMEO, 0);
      s.tell('now');
      const b = await s.layer.accept(listener);
      s.note(await outcome(() => s.layer.receive(b, 1, { timeoutMs: 20 })));
      s.layer.setsockopt(b, 'timeoutMs', 20);
      s.note(await outcome(() => s.layer.receive(b, 1)));
      s.layer.setsockopt(b, 'timeoutMs', 0);
      s.layer.setsockopt(b, SO_RCVTIMEO, 20);
      s.note(await outcome(() => s.layer.receive(b, 1)));
      s.tell('half');
      await s.hear();
      s.note(await outcome(() => s.layer.receiveExactly(b, 8)));
      s.tell('rest');
      s.layer.setsockopt(b, SO_RCVTIMEO, 0);
      s.note(text(await s.layer.receiveExactly(b, 8)));
      s.note(s.layer.getsockopt(b, SO_ERROR));
    },
    client: async (s) => {
      const port = (await s.hear()) as number;
      await s.hear();
      const a = s.socket();
      await s.layer.connect(a, s.at(port));
      await s.hear();
      await s.layer.send(a, Buffer.from('half'));
      s.tell('sent');
      await s.hear();
      await s.layer.send(a, Buffer.from('rest'));
    },
    notes: {
      server: [
        'ETIMEDOUT',
        'EAGAIN',
        'ETIMEDOUT',
        'ETIMEDOUT',
        'EAGAIN',
        'EAGAIN',
        'halfrest',
        null,
      ],
      client: [],
    },
  },

  'what does not block says EAGAIN, and takes what is there': {
    server: async (s) => {
      const listener = await listening(s);
      s.layer.setsockopt(listener, O_NONBLOCK, true);
      s.note(await outcome(() => s.layer.accept(listener)));
      s.note((await s.layer.poll([{ fd: listener, events: POLLIN }], 0)).length);
      s.tell('come');
      s.note((await s.layer.poll([{ fd: listener, events: POLLIN }], -1))[0]?.revents);
      const b = await s.layer.accept(listener);
      s.note(s.layer.getsockopt(b, O_NONBLOCK));
      s.layer.setsockopt(b, O_NONBLOCK, true);
      s.note(await outcome(() => s.layer.receive(b, 100)));
      s.tell('send');
      s.note((await s.layer.poll([{ fd: b, events: POLLIN }], -1))[0]?.revents);
      s.note(text(await s.layer.receive(b, 100)));
      s.note(await outcome(() => s.layer.receive(b, 100)));
      s.tell('end');
      s.note((await s.layer.poll([{ fd: b, events: POLLIN }], -1))[0]?.revents);
      s.note((await s.layer.receive(b, 100)).length);
      s.note(await s.layer.send(b, Buffer.from('still open')));
      await s.layer.close(b);
    },
    client: async (s) => {
      const port = (await s.hear()) as number;
      await s.hear();
      const a = s.socket();
      await s.layer.connect(a, s.at(port));
      await s.hear();
      await s.layer.send(a, Buffer.from('what is there'));
      await s.hear();
      await s.layer.shutdown(a, 'write');
      s.note(text(await all(s, a)));
    },
    notes: {
      server: [
        'EAGAIN',
        0,
        POLLIN,
        false,
        'EAGAIN',
        POLLIN,
        'what is there',
        'EAGAIN',
        POLLIN,
        0,
        10,
      ],
      client: ['still open'],
    },
  },

  'a send that does not block takes a part, none when there is no room, and loses nothing': {
    server: async (s) => {
      const [b] = await served(s);
      const whole = pattern(64 * MIB, 3);
      s.layer.setsockopt(b, O_NONBLOCK, true);
      let sent = 0;
      /** Sends what does not block until it is refused. */
      const fill = async () => {
        for (;;) {
          const got = await outcome(() => s.layer.send(b, whole.subarray(sent)));
          if (got === 'EAGAIN') return;
          sent += got as number;
        }
      };
      // Nobody reads, but a peer that comes late to its turn still takes what its own buffers hold.
      // So until nothing moves: refused, no room to be seen, and none that comes while one waits.
      let room = -1;
      let waited: unknown;
      for (let attempt = 0; attempt < 40 && waited !== 'EAGAIN'; attempt++) {
        s.layer.setsockopt(b, O_NONBLOCK, true);
        await fill();
        await s.pause(50);
        room = (await s.layer.poll([{ fd: b, events: POLLOUT }], 0)).length;
        s.layer.setsockopt(b, O_NONBLOCK, false);
        if (room > 0) continue;
        s.layer.setsockopt(b, SO_SNDTIMEO, 30);
        waited = await outcome(() => s.layer.send(b, whole.subarray(sent)));
        if (typeof waited === 'number') sent += waited;
        s.layer.setsockopt(b, SO_SNDTIMEO, 0);
      }
      s.note(sent > 0 && sent < 48 * MIB ? 'a part' : sent);
      s.note(room);
      s.note(waited);
      s.tell(digest(whole.subarray(0, sent)));
      s.note((await s.layer.poll([{ fd: b, events: POLLOUT }], -1))[0]?.revents);
      await s.layer.shutdown(b, 'write');
      await s.hear();
    },
    client: async (s) => {
      const a = await dialled(s);
      const expected = await s.hear();
      s.note(digest(await all(s, a)) === expected);
      s.tell('read');
    },
    notes: { server: ['a part', 0, 'EAGAIN', POLLOUT], client: [true] },
  },

  'a connect that does not block: EINPROGRESS, then poll and the option error tell': {
    server: async (s) => {
      const listener = await listening(s);
      const b = await s.layer.accept(listener);
      s.note(text(await s.layer.receive(b, 9)));
      await s.layer.close(listener);
      s.tell('closed');
    },
    client: async (s) => {
      const port = (await s.hear()) as number;
      const a = s.socket();
      s.layer.setsockopt(a, O_NONBLOCK, true);
      const code = await outcome(() => s.layer.connect(a, s.at(port)));
      s.note(code === 'EINPROGRESS' || code === 'done');
      s.note((await s.layer.poll([{ fd: a, events: POLLOUT }], -1))[0]?.revents);
      s.note(s.layer.getsockopt(a, SO_ERROR));
      s.note(s.layer.getsockopt(a, 'state'));
      s.note(await outcome(() => s.layer.connect(a, s.at(port))));
      s.note(await s.layer.send(a, Buffer.from('late')));
      await s.hear();
      const none = s.socket();
      s.layer.setsockopt(none, O_NONBLOCK, true);
      const refused = await outcome(() => s.layer.connect(none, s.at(port)));
      s.note(refused === 'EINPROGRESS' || refused === 'ECONNREFUSED');
      if (refused === 'EINPROGRESS') {
        const [ready] = await s.layer.poll([{ fd: none, events: POLLOUT }], -1);
        s.note(ready?.revents);
        s.note((s.layer.getsockopt(none, SO_ERROR) as { code: string }).code);
      } else {
        s.note(POLLERR | POLLHUP | POLLOUT);
        s.note(refused);
      }
      s.note(s.layer.getsockopt(none, 'state'));
    },
    notes: {
      server: ['late'],
      client: [
        true,
        POLLOUT,
        null,
        'connected',
        'EISCONN',
        4,
        true,
        POLLERR | POLLHUP | POLLOUT,
        'ECONNREFUSED',
        'unbound',
      ],
    },
  },

  'abort, SO_LINGER 0 and close with unread bytes are a reset; what came before is read': {
    server: async (s) => {
      const listener = await listening(s);
      for (const end of ['abort', 'linger', 'unread']) {
        const b = await s.layer.accept(listener);
        await s.layer.send(b, Buffer.from(end));
        // Its word arrives before the reset.
        await s.hear();
        if (end === 'linger') s.layer.setsockopt(b, SO_LINGER, 0);
        if (end === 'unread') {
          s.note((await s.layer.poll([{ fd: b, events: POLLIN }], -1))[0]?.revents);
        }
        if (end === 'abort') s.layer.abort(b);
        else await s.layer.close(b);
        s.tell('ended');
      }
    },
    client: async (s) => {
      const port = (await s.hear()) as number;
      for (let i = 0; i < 3; i++) {
        const a = s.socket();
        await s.layer.connect(a, s.at(port));
        s.note(text(await s.layer.receive(a, 10)));
        await s.layer.send(a, Buffer.from('nobody reads this'));
        s.tell('sent');
        await s.hear();
        s.note(await outcome(() => s.layer.receive(a, 10)));
        s.note((await s.layer.poll([{ fd: a, events: POLLIN | POLLOUT }], -1))[0]?.revents);
        s.note((s.layer.getsockopt(a, SO_ERROR) as { code: string }).code);
        s.note(await outcome(() => s.layer.send(a, Buffer.from('x'))));
      }
    },
    notes: {
      server: [POLLIN],
      client: ['abort', 'linger', 'unread'].flatMap((word) => [
        word,
        'ECONNRESET',
        POLLIN | POLLERR | POLLHUP,
        'ECONNRESET',
        'ECONNRESET',
      ]),
    },
  },

  'a send that gives up half-way resets the connection': {
    server: async (s) => {
      const [b] = await served(s);
      await s.hear();
      s.note(await outcome(() => all(s, b)));
    },
    client: async (s) => {
      const a = await dialled(s);
      s.note(await outcome(() => s.layer.send(a, Buffer.alloc(64 * MIB), { timeoutMs: 200 })));
      s.note(await outcome(() => s.layer.send(a, Buffer.from('x'))));
      s.tell('given up');
      await s.layer.close(a);
    },
    notes: { server: ['ECONNRESET'], client: ['ETIMEDOUT', 'ECONNRESET'] },
  },

  'the end comes early: ENODATA, and what there was is gone; empty sends and receives': {
    server: async (s) => {
      const [b] = await served(s);
      s.note((await s.layer.receiveExactly(b, 0)).length);
      s.note(await outcome(() => s.layer.receiveExactly(b, 10)));
      s.note((await s.layer.receive(b, 1)).length);
      s.note(await outcome(() => s.layer.receive(b, 0)));
      s.note(await outcome(() => s.layer.send(b, 'text' as unknown as Uint8Array)));
    },
    client: async (s) => {
      const a = await dialled(s);
      s.note(await s.layer.send(a, Buffer.alloc(0)));
      await s.layer.send(a, Buffer.from('abc'));
      await s.layer.shutdown(a, 'write');
      await s.layer.shutdown(a, 'write');
      s.note((await s.layer.receive(a, 1)).length);
    },
    notes: { server: [0, 'ENODATA', 0, 'EINVAL', 'EINVAL'], client: [0, 0] },
  },

  'shutdown of reading: receives end at once, and the peer is not held up': {
    server: async (s) => {
      const [b] = await served(s);
      await s.layer.shutdown(b, 'read');
      s.note((await s.layer.receive(b, 5)).length);
      s.note((await s.layer.poll([{ fd: b, events: POLLIN }], -1))[0]?.revents);
      s.tell('shut');
      // A thread that blocks discards when it is in a call: it polls until the peer is through.
      const through = s.heard();
      while (!through()) await s.layer.poll([{ fd: b, events: 0 }], 5);
      s.note(await s.layer.send(b, Buffer.from('thanks')));
      await s.layer.shutdown(b, 'write');
      await s.hear();
    },
    client: async (s) => {
      const a = await dialled(s);
      await s.hear();
      s.note(await s.layer.send(a, Buffer.alloc(24 * MIB)));
      s.tell('through');
      s.note(text(await s.layer.receiveExactly(a, 6)));
      s.tell('read');
    },
    notes: { server: [0, POLLIN, 6], client: [24 * MIB, 'thanks'] },
  },

  'poll: invalid numbers, sockets that are nothing yet, an end, both ends': {
    server: async (s) => {
      const [b, listener] = await served(s);
      const fresh = s.socket();
      const set = [b, listener, fresh, 99].map((fd) => ({ fd, events: POLLIN }));
      s.note((await s.layer.poll(set, 0)).map(({ revents }) => revents));
      s.note(await outcome(() => s.layer.poll(set, -2)));
      s.note(await outcome(() => s.layer.poll([{ fd: b, events: 64 }], 0)));
      s.note(await s.layer.poll([{ fd: listener, events: POLLIN }], 20));
      s.tell('end');
      s.note((await s.layer.poll([{ fd: b, events: POLLIN }], -1))[0]?.revents);
      s.note((await s.layer.receive(b, 1)).length);
      await s.layer.shutdown(b, 'write');
      s.note((await s.layer.poll([{ fd: b, events: 0 }], -1))[0]?.revents);
    },
    client: async (s) => {
      const a = await dialled(s);
      await s.hear();
      await s.layer.shutdown(a, 'write');
      s.note((await s.layer.receive(a, 1)).length);
    },
    notes: {
      server: [[POLLHUP, POLLNVAL], 'EINVAL', 'EINVAL', [], POLLIN, 0, POLLHUP],
      client: [0],
    },
  },

  'calls in the wrong state': {
    server: async (s) => {
      const [b, listener] = await served(s);
      const fresh = s.socket();
      const { layer } = s;
      s.note(await outcome(() => layer.receive(fresh, 1)));
      s.note(await outcome(() => layer.send(listener, Buffer.from('x'))));
      s.note(await outcome(() => layer.shutdown(fresh, 'both')));
      s.note(await outcome(() => layer.getpeername(listener)));
      s.note(await outcome(() => layer.accept(b)));
      s.note(await outcome(() => layer.listen(b)));
      s.note(await outcome(() => layer.bind(listener, s.at(0))));
      s.note(await outcome(() => layer.connect(b, s.at(1))));
      s.note(await outcome(() => layer.connect(listener, s.at(1))));
      s.note(await outcome(() => layer.connect(fresh, s.at(0))));
      s.note(await outcome(() => layer.bind(fresh, s.at(70000))));
      s.note(await outcome(() => layer.listen(fresh, 0)));
      await layer.close(fresh);
      s.note(await outcome(() => layer.bind(fresh, s.at(0))));
      s.note(await outcome(() => layer.close(fresh)));
      s.note(await outcome(() => layer.abort(fresh)));
      s.note(await outcome(() => layer.getsockname(fresh)));
      s.tell('done');
    },
    client: async (s) => {
      await dialled(s);
      await s.hear();
    },
    notes: {
      server: [
        'ENOTCONN',
        'ENOTCONN',
        'ENOTCONN',
        'ENOTCONN',
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'EISCONN',
        'EISCONN',
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'EBADF',
        'EBADF',
        'EBADF',
        'EBADF',
      ],
      client: [],
    },
  },

  'options: what both have, what one has, and wrong values': {
    server: async (s) => {
      const [b] = await served(s);
      const { layer } = s;
      const mine = s.family === 'stp';
      const set = (name: string, value: unknown) =>
        outcome(() => {
          layer.setsockopt(b, name, value);
          return layer.getsockopt(b, name);
        });
      s.note(await set(TCP_NODELAY, false));
      s.note(await set(SO_KEEPALIVE, true));
      s.note(await set(SO_REUSEADDR, false));
      s.note(await set(SO_LINGER, 500));
      s.note(await set(SO_RCVTIMEO, 5));
      s.note(await set(SO_SNDTIMEO, 6));
      s.note(await set(O_NONBLOCK, true));
      const window = await set(SO_SNDBUF, 131_072);
      // Linux counts its own book-keeping in, and tells the double.
      s.note(window === 131_072 || window === 262_144);
      s.note(await set(SO_SNDBUF, 1000));
      const buffer = await set(SO_RCVBUF, 131_072);
      s.note(mine ? buffer === 'ENOPROTOOPT' : buffer === 131_072 || buffer === 262_144);
      s.note((await set(SO_SPIN, 20)) === (mine ? 20 : 'ENOPROTOOPT'));
      for (const [name, value] of [
        [TCP_NODELAY, 1],
        [SO_KEEPALIVE, 'yes'],
        [SO_LINGER, -1],
        [SO_RCVTIMEO, 1.5],
        [O_NONBLOCK, null],
        ['colour', 'red'],
        [SO_ERROR, null],
        [SO_MECHANISM, 'stp'],
      ] as const) {
        s.note(await set(name, value));
      }
      s.note(layer.getsockopt(b, SO_TYPE));
      s.note(layer.getsockopt(b, SO_MECHANISM) === s.family);
      s.note(
        layer.getsockopt(b, SO_REASON) === (mine ? NUMBERS.REASON_NONE : NUMBERS.REASON_ASKED),
      );
      const credentials = await outcome(() => layer.getsockopt(b, SO_PEERCRED));
      s.note(
        mine ? (credentials as { pid: number }).pid === process.pid : credentials === 'ENOPROTOOPT',
      );
      s.note(await outcome(() => layer.getsockopt(b, 'colour')));
    },
    client: async (s) => {
      await dialled(s);
    },
    notes: {
      server: [
        false,
        true,
        false,
        500,
        5,
        6,
        true,
        true,
        'EINVAL',
        true,
        true,
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'ENOPROTOOPT',
        'ENOPROTOOPT',
        'ENOPROTOOPT',
        1,
        true,
        true,
        true,
        'ENOPROTOOPT',
      ],
      client: [],
    },
  },
};
