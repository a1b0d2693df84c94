/**
 * How the event-loop sockets of a path are made; what is done with them is the same for all.
 */
import type { Duplex } from 'node:stream';
import type { Address, OpenRequest } from '../harness/protocol.js';

/** Emits 'connect' when it stands. */
export interface StreamSocket extends Duplex {
  setNoDelay?(noDelay: boolean): unknown;
}

/** As `net.connect` takes it. */
export interface Onread {
  readonly buffer: Uint8Array;
  /** @returns whether to go on reading */
  callback(bytes: number, buffer: Uint8Array): boolean;
}

export interface Sockets {
  /** Listens as long as the process lives. */
  listen(take: (socket: StreamSocket) => void): Promise<Address>;
  connect(address: Address, onread?: Onread): StreamSocket;
  /** Lets this thread's event loop poll, or not; absent where none ever does. */
  setPolling?(on: boolean): void;
}

export type OpenSockets = (open: OpenRequest) => Promise<Sockets> | Sockets;

/** Resolves once it stands. */
export function connected<S extends Duplex>(socket: S): Promise<S> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
