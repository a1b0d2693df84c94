/**
 * Paths with `onread`: chunks come into one buffer of the caller, as node:net and STP offer it.
 *
 * node:net has it for sockets that connect, not for those that a server accepts. So here the sender
 * listens and the receiver connects, on all paths alike; where, it is told over a first connection
 * in the usual direction.
 */
import { Buffer } from 'node:buffer';
import type { Address, OpenRequest } from '../harness/protocol.js';
import type { PathRole } from '../harness/role.js';
import { DuplexParticipant } from './duplex-participant.js';
import { connected, type Onread, type OpenSockets, type StreamSocket } from './socket-kind.js';

const ONREAD_BYTES = 262144;

/** @param take gets each chunk; it is valid until it returns */
function onreadInto(take: (chunk: Buffer) => void): Onread {
  const buffer = Buffer.alloc(ONREAD_BYTES);
  return {
    buffer,
    callback(bytes) {
      take(bytes === buffer.length ? buffer : buffer.subarray(0, bytes));
      return true;
    },
  };
}

export function onreadRole(openSockets: OpenSockets): PathRole {
  return {
    async receive(open, listening) {
      const sockets = await openSockets(open);
      const told = new Promise<Address>((resolve, reject) => {
        const take = (socket: StreamSocket): void => {
          socket.once('error', reject);
          socket.once('data', (text: Buffer) => {
            socket.end();
            resolve(JSON.parse(text.toString()) as Address);
          });
        };
        sockets.listen(take).then(listening, reject);
      });
      let participant: DuplexParticipant | undefined;
      const onread = onreadInto((chunk) => participant?.take(chunk));
      const socket = await connected(sockets.connect(await told, onread));
      participant = new DuplexParticipant(socket, 'receiver', 'onread');
      return participant;
    },
    async send(open: OpenRequest, address) {
      const sockets = await openSockets(open);
      let accepted = (_: StreamSocket): void => {};
      const connection = new Promise<StreamSocket>((resolve) => {
        accepted = resolve;
      });
      const own = await sockets.listen((socket) => accepted(socket));
      const telling = await connected(sockets.connect(address));
      telling.resume().end(JSON.stringify(own));
      return new DuplexParticipant(await connection, 'sender');
    },
  };
}
