/**
 * One host of case `idle`: listens, connects to the next host, and then does nothing.
 */
import { serveRole } from '../harness/role.js';
import { connected, type Sockets } from './socket-kind.js';
import { stpSockets } from './stp-adapter.js';

const nothing = {
  round: () => Promise.reject(new Error('an idle host has no rounds')),
};

let sockets: Sockets | undefined;

serveRole({
  async receive(open, listening) {
    sockets = await stpSockets(open);
    listening(await sockets.listen((socket) => socket.resume()));
    return nothing;
  },
  async send({ connections = 0 }, address) {
    if (sockets === undefined) throw new Error('the host listens first');
    for (let i = 0; i < connections; i++) {
      (await connected(sockets.connect(address))).resume();
    }
    return nothing;
  },
});
