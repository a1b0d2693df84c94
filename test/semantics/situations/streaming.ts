/** Situations: bytes on their way. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Readable, Transform } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { alone, group } from '../situation.js';
import { digest, pattern } from '../stage.js';

const MIB = 1 << 20;

/** The digest of everything up to the end. */
async function receive(socket: Socket): Promise<string> {
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part as Buffer));
  await once(socket, 'end');
  return digest(...parts);
}

/** Until so many bytes wait in the stream's buffer, which nobody reads. */
async function waits(socket: Socket, bytes: number): Promise<number> {
  const listen = (): void => {};
  socket.on('readable', listen);
  while (socket.readableLength < bytes) await new Promise((resolve) => setTimeout(resolve, 1));
  socket.off('readable', listen);
  return socket.readableLength;
}

export const streaming = group('Streaming', {
  'many small writes: whole and in order': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const received = receive(accepted);
    const data = pattern(5000);
    for (let i = 0; i < data.length; i += 5) client.write(data.subarray(i, i + 5));
    client.end();
    s.log(`whole: ${(await received) === digest(data)}`, 'server');
    await s.closed(client, accepted);
  },

  'one write of 16 MiB': async (s) => {
    const { client, accepted } = await s.pair({ allowHalfOpen: true });
    client.resume();
    const data = pattern(16 * MIB);
    s.log(`write returns ${client.write(data, s.callback('write'))}`);
    s.log(`written ${client.bytesWritten}, needs drain ${client.writableNeedDrain}`);
    const received = receive(accepted);
    await s.seen('write()');
    client.end();
    s.log(`whole: ${(await received) === digest(data)}`, 'server');
    accepted.end();
    await s.closed(client, accepted);
    s.log(`read ${accepted.bytesRead}`, 'server');
  },

  'both directions at once': async (s) => {
    const { client, accepted } = await s.pair({ allowHalfOpen: true }, { allowHalfOpen: true });
    s.journal.ignore(/finish|end/); /* which comes first is a race */
    const [there, back] = [pattern(5 * MIB), pattern(3 * MIB)];
    const received = Promise.all([receive(accepted), receive(client)]);
    client.end(there);
    accepted.end(back);
    const [a, b] = await received;
    s.log(`whole: ${a === digest(there)}, ${b === digest(back)}`, 'main');
    await s.closed(client, accepted);
  },

  'callbacks of writes come in order': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    const sizes = [1, 100_000, 0, 8 * MIB, 3, 2 * MIB];
    for (const [i, size] of sizes.entries()) client.write(pattern(size), s.callback(`write ${i}`));
    client.end(s.callback('end'));
    await s.closed(client, accepted);
    s.log(`written ${client.bytesWritten}`);
  },

  'empty writes': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    s.log(`returns ${client.write('', s.callback('write string'))}`);
    s.log(`returns ${client.write(Buffer.alloc(0), s.callback('write buffer'))}`);
    s.log(`written ${client.bytesWritten}`);
    client.end('');
    await s.closed(client, accepted);
  },

  'strings in each encoding': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const received = receive(accepted);
    const texts: [string, BufferEncoding][] = [
      ['grüße ☕ 🙂', 'utf8'],
      ['grüße', 'latin1'],
      ['abc', 'ascii'],
      ['00ff10', 'hex'],
      ['AAECAw==', 'base64'],
      ['AAECAw', 'base64url'],
      ['☕', 'utf16le'],
    ];
    for (const [text, encoding] of texts) {
      client.write(text, encoding);
      s.log(`${encoding}: written ${client.bytesWritten}`);
    }
    client.setDefaultEncoding('hex');
    client.end('0a0b');
    const all = texts.map(([text, encoding]) => Buffer.from(text, encoding));
    s.log(`whole: ${(await received) === digest(...all, Buffer.from('0a0b', 'hex'))}`, 'server');
    await s.closed(client, accepted);
  },

  'strings that wait to be connected': async (s) => {
    const { port, server } = await s.listening();
    const arrived = once(server, 'connection');
    const client = s.connect(port);
    client.resume();
    client.write('☕', 'utf8', s.callback('utf8'));
    client.write('00ff', 'hex', s.callback('hex'));
    client.end('☕', 'utf16le');
    s.log(`written ${client.bytesWritten}`);
    const [accepted] = (await arrived) as [Socket];
    const whole = digest(
      Buffer.from('☕'),
      Buffer.from('00ff', 'hex'),
      Buffer.from('☕', 'utf16le'),
    );
    s.log(`whole: ${(await receive(accepted)) === whole}`, 'server');
    await s.closed(client, accepted);
    s.log(`written ${client.bytesWritten}`);
  },

  'typed arrays, and what cannot be written': async (s) => {
    const { client, accepted } = await s.pair();
    const received = receive(accepted);
    client.resume();
    client.write(new Uint8Array([1, 2, 3]));
    for (const wrong of [null, 5, {}, true] as never[]) {
      s.try(`write(${JSON.stringify(wrong)})`, () => client.write(wrong, s.callback('write')));
    }
    s.try('encoding', () => client.write('x', 'klingon' as never));
    client.end(new Uint8Array([4]));
    s.log(`whole: ${(await received) === digest(Buffer.from([1, 2, 3, 4]))}`, 'server');
    await s.closed(client, accepted);
  },

  'short reads of a long buffer': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const data = pattern(8000);
    client.write(data);
    const read = await waits(accepted, 8000);
    const parts: Buffer[] = [];
    const take = (bytes?: number): void => {
      const part: Buffer | null = accepted.read(bytes);
      if (part !== null) parts.push(part);
      s.log(`read ${bytes}: ${part?.length}, ${accepted.readableLength} left`, 'server');
    };
    s.log(`${read} wait`, 'server');
    for (const bytes of [10, 1, 0, 500, 3]) take(bytes);
    accepted.unshift(parts.pop());
    take(4);
    take(7000);
    take(10_000);
    client.end('more');
    await s.quiet();
    take(10_000);
    take(486);
    take();
    take();
    s.log(
      `whole: ${digest(...parts) === digest(data, Buffer.from('more'))}, read ${accepted.bytesRead}`,
      'server',
    );
    await s.closed(client, accepted);
  },

  'short reads, and the end comes before the rest is read': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.write(pattern(8000));
    await waits(accepted, 8000);
    s.log(`${accepted.read(10)?.length}, ${accepted.readableLength} left`, 'server');
    client.end();
    await s.quiet();
    s.log(`${accepted.read(10)?.length}, ${accepted.readableLength} left`, 'server');
    s.log(`ended ${accepted.readableEnded}`, 'server');
    s.log(`${accepted.read()?.length}, ${accepted.readableLength} left`, 'server');
    await s.closed(client, accepted);
  },

  'short reads, then a listener for data': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const data = pattern(8000);
    client.write(data);
    await waits(accepted, 8000);
    const parts: Buffer[] = [accepted.read(10), accepted.read(10)];
    const rest = receive(accepted);
    accepted.resume();
    client.end();
    s.log(`whole: ${(await rest) === digest(data.subarray(20))}`, 'server');
    s.log(`begin: ${digest(...parts) === digest(data.subarray(0, 20))}`, 'server');
    await s.closed(client, accepted);
  },

  'short reads, then setEncoding': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.write('ab'.repeat(4000));
    await waits(accepted, 8000);
    s.log(`${accepted.read(3)}`, 'server');
    accepted.setEncoding('latin1');
    s.log(`${accepted.read(3)} ${accepted.readableLength}`, 'server');
    accepted.destroy();
    s.log(`${accepted.read(3)} ${accepted.readableLength}`, 'server');
    await s.closed(client, accepted);
  },

  'setEncoding: characters that are cut in two': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    let text = '';
    accepted.setEncoding('utf8');
    accepted.on('data', (part) => {
      text += part;
    });
    const data = Buffer.from('a☕b🙂c');
    for (const byte of data) {
      client.write(Buffer.from([byte]));
      await s.quiet(2);
    }
    client.end();
    await s.closed(client, accepted);
    s.log(`text ${text}, read ${accepted.bytesRead}`, 'server');
  },

  'cork and uncork': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.cork();
    client.cork();
    for (let i = 1; i <= 3; i++) {
      s.log(`returns ${client.write('abc', s.callback(`write ${i}`))}`);
    }
    s.log(`corked ${client.writableCorked}, unsent ${client.writableLength}`);
    client.uncork();
    await s.quiet();
    s.log(`corked ${client.writableCorked}, written ${client.bytesWritten}`);
    client.uncork();
    s.log(`corked ${client.writableCorked}, unsent ${client.writableLength}`);
    await s.seen('accepted: data 9');
    client.end();
    await s.closed(client, accepted);
  },

  'end while corked': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.cork();
    client.write('abc', s.callback('write'));
    client.end('def', s.callback('end'));
    await s.closed(client, accepted);
    await s.seen('accepted: data 6');
  },

  'back-pressure: write says false, drain comes once it is read': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.resume();
    const data = pattern(32 * MIB);
    const received = receive(accepted);
    s.log(`write returns ${client.write(data, s.callback('write one', 'callbacks'))}`);
    s.log(`write returns ${client.write('more', s.callback('write two', 'callbacks'))}`);
    await s.quiet(150);
    s.log(`needs drain ${client.writableNeedDrain}, unsent ${client.writableLength}`);
    s.log(`written ${client.bytesWritten}`);
    accepted.resume();
    await s.seen('client: drain');
    client.end();
    s.log(`whole: ${(await received) === digest(data, Buffer.from('more'))}`, 'server');
    await s.closed(client, accepted);
  },

  'a writer that heeds back-pressure': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const received = receive(accepted);
    const data = pattern(8 * MIB);
    for (let at = 0; at < data.length; at += 65536) {
      if (!client.write(data.subarray(at, at + 65536))) await once(client, 'drain');
    }
    client.end();
    s.log(`whole: ${(await received) === digest(data)}`, 'server');
    await s.closed(client, accepted);
  },

  'writableHighWaterMark and readableHighWaterMark': async (s) => {
    const { client, accepted } = await s.pair(
      {},
      { writableHighWaterMark: 100, readableHighWaterMark: 200 },
    );
    accepted.resume();
    s.log(`${client.writableHighWaterMark} ${client.readableHighWaterMark}`);
    client.cork();
    for (let i = 0; i < 3; i++) s.log(`returns ${client.write('x'.repeat(49))}`);
    client.uncork();
    await s.seen('client: drain');
    s.log(`returns ${client.write('x'.repeat(99))}, ${client.write('x'.repeat(100))}`);
    client.end();
    client.resume();
    await s.closed(client, accepted);
  },

  'pause and resume': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.on('data', () => {});
    client.write('one');
    await s.seen('accepted: data 3');
    accepted.pause();
    client.write('more');
    await s.quiet();
    s.log(`paused ${accepted.isPaused()}, unread ${accepted.readableLength}`, 'server');
    accepted.resume();
    await s.seen('accepted: data 4');
    client.end();
    await s.closed(client, accepted);
  },

  'a reader that pauses after each chunk': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    s.journal.ignore(/pause|resume|data/);
    const data = pattern(2 * MIB);
    const parts: Buffer[] = [];
    accepted.on('data', (part) => {
      parts.push(part as Buffer);
      accepted.pause();
      setImmediate(() => accepted.resume());
    });
    client.end(data);
    await once(accepted, 'end');
    s.log(`whole: ${digest(...parts) === digest(data)}`, 'server');
    await s.closed(client, accepted);
  },

  'pause before connect': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.end('hello'));
    const client = s.connect(port);
    client.pause();
    client.on('data', () => {});
    await s.seen('client: ready');
    await s.quiet();
    s.log(`read ${client.bytesRead}, unread ${client.readableLength}`);
    client.resume();
    await s.closed(client);
  },

  'data that comes before anybody listens to it': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.write('early');
    await s.quiet();
    s.log(`read ${accepted.bytesRead}, unread ${accepted.readableLength}`, 'server');
    accepted.on('data', () => {});
    await s.seen('accepted: data 5');
    client.end();
    await s.closed(client, accepted);
  },

  'data and the end, before anybody listens': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.end('early');
    await s.quiet();
    s.state(accepted, 'accepted');
    accepted.on('data', () => {});
    await s.closed(client, accepted);
  },

  'the end where nobody reads': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.end();
    await s.closed(client, accepted);
  },

  'readable and read(n)': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.write('0123456789');
    await s.quiet();
    const parts: string[] = [];
    for (let part = accepted.read(3); part !== null; part = accepted.read(3)) {
      parts.push(String(part));
    }
    s.log(`read ${parts}, unread ${accepted.readableLength}`, 'server');
    client.end();
    await s.quiet();
    s.log(`read ${accepted.read()}, ${accepted.read()}`, 'server');
    await s.closed(client, accepted);
  },

  'bytesRead and bytesWritten after each phase': async (s) => {
    const { client, accepted } = await s.pair({ allowHalfOpen: true });
    const told = (): void => {
      s.log(`client read ${client.bytesRead}, written ${client.bytesWritten}`);
      s.log(`accepted read ${accepted.bytesRead}, written ${accepted.bytesWritten}`);
    };
    client.resume();
    told();
    client.write('x'.repeat(1000));
    await s.quiet();
    told();
    accepted.resume();
    accepted.write('x'.repeat(20));
    await s.seen('client: data 20');
    await s.seen('accepted: data 1000');
    told();
    client.end('last');
    await s.seen('accepted: end');
    accepted.end('last too');
    await s.closed(client, accepted);
    told();
  },

  'bytesWritten while connecting, corked, and destroyed with writes waiting': async (s) => {
    const { port } = await s.listening({ pauseOnConnect: true });
    const client = s.connect(port);
    client.write('x'.repeat(10));
    client.write('x'.repeat(20));
    s.log(`written ${client.bytesWritten}`);
    await s.seen('client: ready');
    s.log(`written ${client.bytesWritten}`);
    client.cork();
    client.write('x'.repeat(30));
    s.log(`written ${client.bytesWritten}`);
    client.uncork();
    client.write(Buffer.alloc(64 * MIB), () => {});
    s.log(`written ${client.bytesWritten}`);
    client.destroy();
    s.log(`written ${client.bytesWritten}`);
    await s.closed(client);
    s.log(`written ${client.bytesWritten}`);
  },

  'pipe: an echo of 2 MiB': async (s) => {
    const { client, accepted } = await s.pair({ allowHalfOpen: true }, { allowHalfOpen: true });
    s.journal.ignore(/accepted: (pause|resume|data|drain)/);
    accepted.pipe(accepted);
    const data = pattern(2 * MIB);
    const received = receive(client);
    client.end(data);
    s.log(`whole: ${(await received) === digest(data)}`);
    await s.closed(client, accepted);
  },

  'stream/promises: pipeline into a socket': async (s) => {
    const { client, accepted } = await s.pair();
    const data = pattern(MIB);
    const received = receive(accepted);
    client.resume();
    await pipeline(Readable.from([data.subarray(0, 1000), data.subarray(1000)]), client);
    s.log('pipeline is done', 'pipeline');
    s.log(`whole: ${(await received) === digest(data)}`, 'server');
    await s.closed(client, accepted);
  },

  'stream/promises: pipeline out of a socket': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    let bytes = 0;
    const done = pipeline(
      accepted,
      new Transform({
        transform(part: Buffer, _encoding, next) {
          bytes += part.length;
          next();
        },
      }).resume(),
    );
    client.end(pattern(100_000));
    await done;
    s.log(`pipeline is done, ${bytes} bytes`, 'pipeline');
    await s.closed(client, accepted);
  },

  'pipeline: the source fails': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    const source = Readable.from(
      (async function* () {
        yield 'some';
        throw new Error('the source failed');
      })(),
    );
    await pipeline(source, client).catch((error) => s.log(`failed ${s.journal.show(error)}`));
    await s.closed(client, accepted);
  },

  'pipeline: the peer resets': async (s) => {
    const { client, accepted } = await s.pair();
    s.journal.ignore(/pause/);
    const sink = new Transform({ transform: (_part, _encoding, next) => next() }).resume();
    const done = pipeline(accepted, sink);
    client.write('some');
    await s.seen('accepted: data 4');
    client.resetAndDestroy();
    await done.catch((error) => s.log(`failed ${s.journal.show(error)}`, 'pipeline'));
    await s.closed(client, accepted);
  },

  'finished(socket)': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    const done = finished(client).then(() => s.log('finished', 'finished'));
    client.end('x');
    await done;
    await s.closed(client, accepted);
  },

  'finished(socket) of one that is destroyed early': async (s) => {
    const { client } = await s.pair();
    const done = finished(client).catch((error) => s.log(`finished ${s.journal.show(error)}`));
    client.destroy();
    await done;
    await s.closed(client);
  },

  'for await: to the end': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.end(pattern(300_000));
    let bytes = 0;
    for await (const part of accepted) bytes += (part as Buffer).length;
    s.log(`${bytes} bytes`, 'loop');
    await s.closed(client, accepted);
  },

  'for await: break destroys': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    client.write('some');
    for await (const part of accepted) {
      s.log(`${(part as Buffer).length} bytes`, 'loop');
      break;
    }
    s.log(`destroyed ${accepted.destroyed}`, 'loop');
    await s.closed(client, accepted);
  },

  'for await: a reset is thrown': async (s) => {
    const { client, accepted } = await s.pair();
    client.write('some');
    try {
      for await (const part of accepted) {
        s.log(`${(part as Buffer).length} bytes`, 'loop');
        client.resetAndDestroy();
      }
    } catch (error) {
      s.log(`thrown ${s.journal.show(error)}`, 'loop');
    }
    await s.closed(client, accepted);
  },

  'a listener of data that throws: the rest still comes': alone(async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.once('data', () => {
      throw s.thrown('of data', 'server');
    });
    accepted.on('data', () => {});
    client.write('one');
    await s.seen('uncaught Error of data');
    client.end('two');
    await s.closed(client, accepted);
  }),

  'a callback of write that throws': alone(async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resume();
    client.write('one', () => {
      throw s.thrown('of write');
    });
    await s.seen('uncaught Error of write');
    client.end('two', s.callback('end'));
    await s.closed(client, accepted);
  }),

  'a listener of drain that throws': alone(async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resume();
    client.once('drain', () => {
      throw s.thrown('of drain');
    });
    client.write(pattern(8 * MIB));
    await s.seen('uncaught Error of drain');
    client.end();
    await s.closed(client, accepted);
  }),
});
