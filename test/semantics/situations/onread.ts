/** Situations: the option `onread`, which reads into a buffer of the caller. */
import type { Socket } from 'node:net';
import { alone, group } from '../situation.js';
import { digest, pattern, type Stage } from '../stage.js';

interface Read {
  readonly bytes: number;
  readonly buffer: Uint8Array;
}

/** A connected client that reads so; `onRead` may return false. */
async function reading(
  s: Stage,
  buffer: Uint8Array | (() => Uint8Array),
  onRead: (read: Read) => boolean,
): Promise<{ client: Socket; accepted: Socket }> {
  const onread = {
    buffer,
    callback: (bytes: number, given: Uint8Array) => onRead({ bytes, buffer: given }),
  };
  const { client, accepted } = await s.pair({ allowHalfOpen: true }, { onread } as never);
  accepted.resume();
  return { client, accepted };
}

export const onread = group('onread', {
  'onread: one buffer for all reads, and no data event': async (s) => {
    const own = Buffer.alloc(1000);
    const parts: Buffer[] = [];
    let same = true;
    const { client, accepted } = await reading(s, own, ({ bytes, buffer }) => {
      same &&= buffer === own;
      parts.push(Buffer.from(buffer.subarray(0, bytes)));
      return true;
    });
    const data = pattern(100_000);
    accepted.end(data);
    await s.closed(client, accepted);
    s.log(`whole: ${digest(...parts) === digest(data)}, the same buffer: ${same}`);
    s.log(`at most its length: ${parts.every((part) => part.length <= 1000)}`);
    s.state(client);
  },

  'onread: a function that gives a buffer for each read': async (s) => {
    const given: Uint8Array[] = [];
    const got: Uint8Array[] = [];
    let bytes = 0;
    const { client, accepted } = await reading(
      s,
      () => {
        const made = Buffer.alloc(500);
        given.push(made);
        return made;
      },
      (read) => {
        got.push(read.buffer);
        bytes += read.bytes;
        return true;
      },
    );
    s.log(`asked before the first read: ${given.length}`);
    accepted.end(pattern(1200));
    await s.closed(client, accepted);
    s.log(`${bytes} bytes in ${got.length} reads, given ${given.length}`);
    s.log(`in the order given: ${got.every((buffer, i) => buffer === given[i])}`);
  },

  'onread: a callback that returns false, then resume': async (s) => {
    let reads = 0;
    const { client, accepted } = await reading(s, Buffer.alloc(100), ({ bytes }) => {
      s.log(`read ${bytes}`);
      return ++reads !== 1;
    });
    accepted.write(pattern(100));
    await s.seen('read 100');
    accepted.write(pattern(50));
    await s.quiet();
    s.log(`reads ${reads}, bytesRead ${client.bytesRead}`);
    client.resume();
    await s.seen('read 50');
    client.end();
    accepted.end();
    await s.closed(client, accepted);
  },

  'onread: pause and resume': async (s) => {
    const { client, accepted } = await reading(s, Buffer.alloc(100), ({ bytes }) => {
      s.log(`read ${bytes}`);
      return true;
    });
    accepted.write(pattern(10));
    await s.seen('read 10');
    client.pause();
    accepted.write(pattern(20));
    await s.quiet();
    s.log(`paused ${client.isPaused()}, bytesRead ${client.bytesRead}`);
    client.resume();
    await s.seen('read 20');
    client.end();
    accepted.end();
    await s.closed(client, accepted);
  },

  'onread: paused before connect': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.end('hello'));
    const client = s.connect(port, {
      onread: {
        buffer: Buffer.alloc(100),
        callback: (bytes: number) => {
          s.log(`read ${bytes}`);
          return true;
        },
      },
    } as never);
    client.pause();
    await s.seen('client: ready');
    await s.quiet();
    s.log(`bytesRead ${client.bytesRead}`);
    client.resume();
    await s.closed(client);
  },

  'onread: destroyed in the callback': async (s) => {
    const { client, accepted } = await reading(s, Buffer.alloc(10), ({ bytes }) => {
      s.log(`read ${bytes}`);
      client.destroy();
      return true;
    });
    accepted.write(pattern(10));
    await s.closed(client);
    accepted.destroy();
    await s.closed(accepted);
  },

  'onread: the peer resets': async (s) => {
    const { client, accepted } = await reading(s, Buffer.alloc(10), () => true);
    accepted.resetAndDestroy();
    await s.closed(client, accepted);
  },

  'onread: time-outs are put off by reads': async (s) => {
    const { client, accepted } = await reading(s, Buffer.alloc(10), () => true);
    client.setTimeout(300);
    accepted.write('x');
    await s.seen('client: timeout');
    client.destroy();
    await s.closed(client);
  },

  'onread: a callback that throws, and the rest still comes': alone(async (s) => {
    let first = true;
    const { client, accepted } = await reading(s, Buffer.alloc(100), ({ bytes }) => {
      s.log(`read ${bytes}`);
      if (first) {
        first = false;
        throw s.thrown('of onread');
      }
      return true;
    });
    accepted.write('one');
    await s.seen('uncaught Error of onread');
    accepted.end('three');
    await s.seen('read 5');
    await s.closed(client, accepted);
  }),

  'onread that is none is ignored': async (s) => {
    const { client, accepted } = await s.pair({}, { onread: { buffer: 5, callback: 5 } } as never);
    accepted.end('x');
    client.resume();
    await s.closed(client, accepted);
    s.try('null', () => new s.face.Socket({ onread: null } as never).destroyed);
    s.try('no callback', () => {
      return new s.face.Socket({ onread: { buffer: Buffer.alloc(1) } } as never).destroyed;
    });
  },
});
