/**
 * A data connection on its way from the event loop to a mover, whichever mechanism it has.
 *
 * A stream of the array goes to the thread as it is. A network connection stays on the event loop,
 * where node:tls keeps its keys, and the thread gets one end of a socketpair; the event loop moves
 * the bytes between the two, each way until its end. An end that the network did not finish looks
 * like an orderly one to the thread: the frames above say when all is there. Event loop only.
 */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { familyOf, type STPConnect } from '../connect/stp-connect.js';
import { isCoded } from '../errors.js';
import { native } from '../native.js';
import type { StreamHandle } from '../socket/stp-socket.js';

/** To be posted to one worker, which opens it: mover-thread.ts. */
export type MoverLink =
  | { readonly mechanism: 'stp'; readonly handle: StreamHandle }
  /** `socket`: for adoption, once: native/tcp.cc. */
  | { readonly mechanism: 'inet'; readonly socket: number };

/** Gives a connected descriptor up to a mover; a network one stays in `connect` until closed. */
export function moverLink(connect: STPConnect, fd: number): MoverLink {
  if (familyOf(fd) === 'stp') return { mechanism: 'stp', handle: connect.detach(fd) };
  const [own, others] = native().socketPair(true);
  const socket = native().tcpDispatch(others);
  native().closeDescriptor(others);
  join(connect.stream(fd), new net.Socket({ fd: own, allowHalfOpen: true }));
  return { mechanism: 'inet', socket };
}

/** After the thread is gone, or if none came: what was not opened is closed. Again is no error. */
export function dropLink(link: MoverLink): void {
  if (link.mechanism === 'stp') {
    link.handle.port.close();
    return;
  }
  try {
    native().tcpClose(native().tcpAdopt(link.socket), false);
  } catch (e) {
    if (!isCoded(e) || e.code !== 'EBADF') throw e;
  }
}

/** Each one's bytes and end go to the other; what breaks one breaks the other. */
function join(network: Duplex, thread: net.Socket): void {
  network.pipe(thread);
  thread.pipe(network);
  const pairs = [
    [network, thread],
    [thread, network],
  ] as const;
  for (const [one, other] of pairs) {
    // Whoever uses the stream learns of its failure by its end; the session's reason comes apart.
    one.on('error', () => {});
    one.on('close', () => {
      if (!one.readableEnded || !one.writableFinished) other.destroy();
    });
  }
}
