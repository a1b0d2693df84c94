/**
 * Path `stp-duplex`: STP sockets as Node streams, with 'data' events.
 */
import { serveRole } from '../harness/role.js';
import { DuplexParticipant } from './duplex-participant.js';
import { acceptOne, connectOne } from './stp-adapter.js';

serveRole({
  async receive(open, listening) {
    const socket = await acceptOne(open, listening, { pauseOnConnect: false });
    return new DuplexParticipant(socket, 'receiver');
  },
  async send(open, address) {
    return new DuplexParticipant(await connectOne(open, address), 'sender');
  },
});
