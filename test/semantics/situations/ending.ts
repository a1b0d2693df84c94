/** Situations: half-close, orderly end, reset, destroy. */
import { once } from 'node:events';
import { alone, group } from '../situation.js';
import { pattern } from '../stage.js';

const MIB = 1 << 20;
const BOTH_WAYS = { allowHalfOpen: true };

export const ending = group('Ending', {
  'half-close from the connecting side: the answer still comes': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    accepted.resume();
    client.resume();
    client.end('question');
    await s.seen('accepted: end');
    s.state(accepted, 'accepted');
    s.log(`write returns ${accepted.write('answer', s.callback('write', 'server'))}`, 'server');
    await s.seen('client: data 6');
    s.state(client);
    accepted.end('.');
    await s.closed(client, accepted);
  },

  'half-close from the accepting side: the answer still comes': async (s) => {
    const { client, accepted } = await s.pair({}, BOTH_WAYS);
    accepted.resume();
    client.resume();
    accepted.end('question');
    await s.seen('client: end');
    s.state(client);
    client.write('answer');
    await s.seen('accepted: data 6');
    s.state(accepted, 'accepted');
    client.end('.');
    await s.closed(client, accepted);
  },

  'half-close, and the other side without allowHalfOpen ends by itself': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.end();
    await s.closed(client, accepted);
    s.state(client);
    s.state(accepted, 'accepted');
  },

  'allowHalfOpen on both sides: each ends when it likes': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS, BOTH_WAYS);
    accepted.resume();
    client.resume();
    client.end();
    await s.seen('accepted: end');
    await s.quiet();
    s.state(client);
    s.state(accepted, 'accepted');
    accepted.end();
    await s.closed(client, accepted);
  },

  'both sides end at once': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS, BOTH_WAYS);
    s.journal.ignore(/finish|end/); /* which of the two comes first is a race */
    accepted.resume();
    client.resume();
    client.end('a');
    accepted.end('b');
    await s.closed(client, accepted);
  },

  'end(data, callback) and end(data, encoding, callback)': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    accepted.resume();
    client.resume();
    const same = client.end('x', s.callback('end'));
    s.log(`the same: ${same === client}, written ${client.bytesWritten}`);
    await s.seen('accepted: end');
    accepted.end('00', 'hex', s.callback('end', 'server'));
    await s.closed(client, accepted);
    await s.seen('client: data 1');
  },

  'end twice': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.end(s.callback('end one'));
    client.end(s.callback('end two'));
    await s.seen('client: finish');
    client.end(s.callback('end three'));
    await s.closed(client, accepted);
    client.end(s.callback('end four'));
    await s.seen(/^end four/);
  },

  'end with data after end': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.end();
    client.end('more', s.callback('end'));
    await s.closed(client, accepted);
  },

  'write after end': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.end();
    s.log(`returns ${client.write('late', s.callback('write'))}`);
    s.state(client);
    await s.closed(client, accepted);
  },

  'write after destroy': async (s) => {
    const { client } = await s.pair();
    client.destroy();
    s.log(`returns ${client.write('late', s.callback('write'))}`);
    await s.closed(client);
    s.log(`returns ${client.write('later', s.callback('write again'))}`);
    await s.seen(/^write again/);
  },

  'write in the listener of end': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resume();
    accepted.on('end', () => {
      s.log(`returns ${accepted.write('last', s.callback('write', 'server'))}`, 'server');
    });
    client.end();
    await s.closed(client, accepted);
  },

  'write after the peer has ended, without allowHalfOpen': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resume();
    accepted.on('finish', () => {
      s.log(`returns ${accepted.write('late', s.callback('write', 'server'))}`, 'server');
    });
    client.end();
    await s.closed(client, accepted);
    s.log(`returns ${accepted.write('later', s.callback('write', 'server'))}`, 'server');
    await s.quiet();
  },

  'end in the listener of end, with allowHalfOpen': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    client.resume();
    accepted.resume();
    accepted.on('end', () => accepted.end('answer', s.callback('end', 'server')));
    client.end('question');
    await s.closed(client, accepted);
  },

  'destroy: the peer gets an orderly end': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    const same = client.destroy();
    s.log(`the same: ${same === client}`);
    s.state(client);
    await s.closed(client, accepted);
    s.state(client);
  },

  'destroy with an error': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.destroy(new Error('mine'));
    s.state(client);
    await s.closed(client, accepted);
    s.state(client);
  },

  'destroy twice, then with an error': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.destroy();
    client.destroy();
    client.destroy(new Error('too late'));
    await s.closed(client, accepted);
    client.destroy(new Error('much too late'));
    await s.quiet();
  },

  'destroy in the listener of connect': async (s) => {
    const { port, server } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const client = s.connect(port);
    client.on('connect', () => client.destroy());
    await s.closed(client);
    await s.seen('accepted: close false');
  },

  'destroy in the listener of data': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.on('data', () => accepted.destroy());
    client.write('x');
    await s.closed(client, accepted);
  },

  'destroy in the listener of connection': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.destroy());
    const client = s.connect(port);
    client.resume();
    await s.closed(client);
    server.close();
    await s.closed(server);
  },

  'destroy right behind end: nothing is lost, finish does not come': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.end('last', s.callback('end'));
    client.destroy();
    await s.closed(client, accepted);
  },

  'destroy with data that was never read: the peer gets a reset': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.resume();
    client.write('unread');
    await s.quiet();
    accepted.destroy();
    await s.closed(client, accepted);
  },

  'destroy with writes waiting': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.write(pattern(32 * MIB), s.callback('write one'));
    client.write('two', s.callback('write two'));
    client.end('three', s.callback('end'));
    await s.quiet();
    client.destroy();
    await s.closed(client);
    await s.quiet();
    accepted.destroy();
    await s.closed(accepted);
  },

  'destroy with an error, with writes waiting': async (s) => {
    const { client } = await s.pair({ pauseOnConnect: true });
    client.write(pattern(32 * MIB), s.callback('write one'));
    client.write('two', s.callback('write two'));
    await s.quiet();
    client.destroy(new Error('mine'));
    await s.closed(client);
    await s.quiet();
  },

  'destroySoon: everything is written first': async (s) => {
    const { client, accepted } = await s.pair({}, BOTH_WAYS);
    let bytes = 0;
    accepted.on('data', (part) => {
      bytes += (part as Buffer).length;
    });
    client.write(pattern(8 * MIB), s.callback('write'));
    client.destroySoon();
    s.state(client);
    await s.closed(client, accepted);
    s.log(`bytes ${bytes}`, 'server');
  },

  'destroySoon with nothing to write': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    accepted.resume();
    client.destroySoon();
    await s.seen('accepted: end');
    accepted.end();
    await s.closed(client, accepted);
  },

  'destroySoon behind end': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    accepted.resume();
    client.end('x');
    await s.seen('client: finish');
    client.destroySoon();
    s.log(`destroyed ${client.destroyed}`);
    await s.seen('accepted: end');
    accepted.end();
    await s.closed(client, accepted);
  },

  'resetAndDestroy: the peer gets ECONNRESET': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    const same = client.resetAndDestroy();
    s.log(`the same: ${same === client}`);
    await s.closed(client, accepted);
    s.state(accepted, 'accepted');
  },

  'resetAndDestroy from the accepting side': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resetAndDestroy();
    await s.closed(client, accepted);
  },

  'resetAndDestroy twice': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resetAndDestroy();
    client.resetAndDestroy();
    await s.closed(client, accepted);
    client.resetAndDestroy();
    await s.quiet();
  },

  'resetAndDestroy once the data was read': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.write('data');
    await s.seen('accepted: data 4');
    client.resetAndDestroy();
    await s.closed(client, accepted);
  },

  'resetAndDestroy behind end': async (s) => {
    const { client, accepted } = await s.pair(BOTH_WAYS);
    accepted.resume();
    client.resume();
    client.end('x');
    await s.seen('accepted: end');
    client.resetAndDestroy();
    await s.closed(client);
    await s.quiet();
    s.log(`destroyed ${accepted.destroyed}`, 'server');
    accepted.write('late', s.callback('write', 'server'));
    await s.closed(accepted);
  },

  'resetAndDestroy with writes waiting': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.write(pattern(32 * MIB), () => {});
    await s.quiet();
    client.resetAndDestroy();
    await s.closed(client);
    s.journal.ignore(/data/);
    accepted.resume();
    await s.closed(accepted);
  },

  'a reset right behind data that nobody has read yet': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.write('data');
    await s.quiet();
    client.resetAndDestroy();
    await s.closed(client);
    await s.quiet();
    s.log(`destroyed ${accepted.destroyed}`, 'server');
    accepted.resume();
    await s.closed(accepted);
  },

  'a reset where nobody reads: a write tells': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.resetAndDestroy();
    await s.closed(client);
    await s.quiet();
    s.log(`destroyed ${accepted.destroyed}`, 'server');
    accepted.write('late', s.callback('write', 'server'));
    await s.closed(accepted);
  },

  'a reset where nobody reads: reading tells': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.resetAndDestroy();
    await s.closed(client);
    await s.quiet();
    s.log(`destroyed ${accepted.destroyed}`, 'server');
    accepted.resume();
    await s.closed(accepted);
  },

  'a reset while a write waits': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    client.resume();
    client.write(pattern(32 * MIB), () => s.log('write()'));
    await s.quiet();
    accepted.resetAndDestroy();
    await s.closed(client, accepted);
  },

  'a reset that nobody listens to': alone(async (s) => {
    const { client, accepted } = await s.pair({}, {}, { unheard: true });
    client.resume();
    accepted.resetAndDestroy();
    await s.closed(client);
  }),

  'a write to a peer that has closed': async (s) => {
    const { client, accepted } = await s.pair({}, BOTH_WAYS);
    client.resume();
    accepted.destroy();
    await s.seen('client: end');
    s.log(`returns ${client.write('one', s.callback('write one'))}`);
    await s.quiet();
    s.log(`destroyed ${client.destroyed}`);
    if (!client.destroyed) client.write('two', s.callback('write two'));
    await s.closed(client);
  },

  'a listener of end that throws': alone(async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    accepted.resume();
    accepted.once('end', () => {
      throw s.thrown('of end', 'server');
    });
    client.end();
    await s.seen('uncaught Error of end');
    await s.quiet();
    s.log(`destroyed ${accepted.destroyed}`, 'server');
  }),

  'a listener of close that throws': alone(async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.once('close', () => {
      throw s.thrown('of close');
    });
    client.destroy();
    await s.seen('uncaught Error of close');
    await s.closed(accepted);
  }),

  'a listener of error that throws: close still comes': alone(async (s) => {
    const { client } = await s.pair();
    client.once('error', () => {
      throw s.thrown('of error');
    });
    client.destroy(new Error('mine'));
    await s.seen('uncaught Error of error');
    await s.quiet();
  }),

  'a listener of connect that throws': alone(async (s) => {
    const { port } = await s.listening();
    const client = s.connect(port);
    client.once('connect', () => {
      throw s.thrown('of connect');
    });
    await s.seen('uncaught Error of connect');
    client.resume();
    client.end('x');
    client.destroy();
    await s.closed(client);
  }),

  'await using: Symbol.asyncDispose of a socket': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    try {
      await (client as unknown as AsyncDisposable)[Symbol.asyncDispose]();
    } catch (error) {
      s.log(`rejects ${s.journal.show(error)}`, 'dispose');
    }
    s.log(`destroyed ${client.destroyed}`, 'dispose');
    await s.closed(client, accepted);
  },

  'once(socket, "close") and events.once of an error': async (s) => {
    const { client, accepted } = await s.pair();
    client.resume();
    const failed = once(client, 'end').catch((error) =>
      s.log(`rejects ${s.journal.show(error)}`, 'once'),
    );
    accepted.resetAndDestroy();
    await failed;
    await s.closed(client, accepted);
  },
});
