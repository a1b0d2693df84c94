/**
 * STP for threads that block: the thread's own host, turned by hand instead of by an event loop.
 *
 * Control (bind, listen, connect, accept) is a command to the director and a wait for its answer in
 * the host's turn; data is the page ring, which waits by a futex. So neither the main thread nor
 * any event loop takes part. A stream that was handed over by another thread has its bells there:
 * it moves bytes as well, and only a poll has to look again and again.
 */
import { stpError } from '../errors.js';
import { NUMBERS, WINDOW_BYTES } from '../layout/tables.js';
import type { DirectorEvent } from '../memory/member-ring.js';
import {
  openRing,
  RING_CONTENDED,
  RING_END,
  RING_NO_PAGE,
  ringError,
} from '../memory/page-ring.js';
import { native } from '../native.js';
import type { Host, HostListener } from '../socket/host.js';
import { forgetPages, type PageUser, releaseIdlePages, watchPages } from '../socket/idle-pages.js';
import { PagePatience, type PagePlace } from '../socket/no-page.js';
import { lacking } from '../socket/reason.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import { StreamEnd } from '../socket/stream-end.js';
import {
  type Armed,
  type BlockingEndpoint,
  type BlockingLink,
  END,
  type Wait,
} from './blocking-socket.js';
import { POLLERR, POLLHUP, POLLIN, POLLOUT } from './channel.js';
import type { Address, Peer, Target } from './endpoint.js';
import type { SocketOptions } from './options.js';
import { failed } from './settle.js';
import { checkStpTarget } from './stp-endpoint.js';

/** A board that another holds is tried again after this. */
const AGAIN_MS = 2;
/** How long a release may wait for the director before it is believed without its word. */
const RELEASE_MS = 1000;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));

export class BlockingStpEndpoint implements BlockingEndpoint, HostListener {
  readonly #host: Host;
  readonly #spin: () => number;
  readonly #number: number;
  readonly #queue: DirectorEvent[] = [];
  #port = 0;
  #listening = false;
  /** Of a connect: the port asked for, and the director's answer. */
  #asked: { port: number; answer: DirectorEvent | undefined; givenUp: boolean } | undefined;

  /** @param spin microseconds that a wait for the director looks before it sleeps */
  constructor(host: Host, spin: () => number) {
    this.#host = host;
    this.#spin = spin;
    this.#number = host.newSocketNumber();
  }

  bind(at: Target, wait: Wait): void {
    checkStpTarget(at, 0, 'bind');
    const answer = this.#command({ op: NUMBERS.OP_BIND, port: at.port }, wait, (late) => {
      this.#host.tell({ op: NUMBERS.OP_UNBIND, port: late.localPort });
    });
    if (answer.status !== 0) {
      const refusal = this.#host.refusal(answer, 'bind', at.port);
      throw failed('bind', `${this.#host.stg}:${at.port}`, refusal);
    }
    this.#port = answer.localPort;
  }

  listen(backlog: number, wait: Wait): void {
    this.#host.addServer(this.#number, this);
    this.#listening = true;
    const port = this.#port;
    const fields = { op: NUMBERS.OP_LISTEN, port, backlog, socket: this.#number };
    const answer = this.#command(fields, wait, () => {});
    if (answer.status !== 0) {
      throw failed(
        'listen',
        `${this.#host.stg}:${port}`,
        this.#host.refusal(answer, 'listen', port),
      );
    }
  }

  /**
   * Waits for the answer of one command.
   * @param onLate called where the wait was given up and the director does it after all
   */
  #command(
    fields: Parameters<Host['ask']>[0],
    wait: Wait,
    onLate: (event: DirectorEvent) => void,
  ): DirectorEvent {
    let answer: DirectorEvent | undefined;
    let givenUp = false;
    this.#host.ask(fields, (event) => {
      answer = event;
      if (givenUp && event.kind !== 0 && event.status === 0) onLate(event);
    });
    try {
      while (answer === undefined) this.#host.waitTurn(wait.next(), [], this.#spin());
    } catch (error) {
      givenUp = true;
      throw error;
    }
    if (answer.kind === 0) throw this.#gone(wait.call);
    return answer;
  }

  #gone(call: string): Error {
    return (
      this.#host.detached ??
      lacking(NUMBERS.REASON_NO_STPD, stpError('ENETDOWN', 'stpd is gone', call))
    );
  }

  /** For the host. It is accepted, and leaves the backlog, when accept() takes it. */
  onIncoming(event: DirectorEvent): void {
    this.#queue.push(event);
  }

  /** For the host: what has arrived can still be accepted. */
  onLost(): void {
    this.#listening = false;
  }

  /** For the host, when it leaves. */
  close(): void {
    this.release();
  }

  accept(): BlockingLink | undefined {
    for (let event = this.#queue.shift(); event !== undefined; event = this.#queue.shift()) {
      const { connection, generation } = event;
      this.#host.tell({ op: NUMBERS.OP_ACCEPT, connection, generation });
      const link = this.#open(event);
      // One whose peer is gone already is nobody's.
      if (link !== undefined) return link;
    }
    if (!this.#listening) throw this.#gone('accept');
    return undefined;
  }

  get arrived(): boolean {
    return this.#queue.length > 0 || !this.#listening;
  }

  startConnect(to: Target): void {
    checkStpTarget(to, 1, 'connect');
    const asked = { port: to.port, answer: undefined as DirectorEvent | undefined, givenUp: false };
    this.#asked = asked;
    const fields = { op: NUMBERS.OP_CONNECT, port: to.port, localPort: this.#port };
    this.#host.ask(fields, (event) => {
      asked.answer = event;
      if (asked.givenUp && event.kind !== 0 && event.status === 0) this.#host.refuse(event);
    });
  }

  connected(): BlockingLink | undefined {
    const { port, answer } = this.#asked ?? {};
    if (answer === undefined) return undefined;
    this.#asked = undefined;
    const to = `${this.#host.stg}:${port}`;
    if (answer.kind === 0) throw failed('connect', to, this.#gone('connect'));
    if (answer.status !== 0) {
      throw failed('connect', to, this.#host.refusal(answer, 'connect', port as number));
    }
    const link = this.#open(answer);
    if (link === undefined) {
      throw failed('connect', to, stpError('ECONNRESET', 'the peer is gone', 'connect'));
    }
    return link;
  }

  #open(event: DirectorEvent): BlockingLink | undefined {
    const cable = this.#host.cable(event.cable);
    if (cable === undefined) {
      this.#host.refuse(event);
      return undefined;
    }
    const end = new StreamEnd(this.#host, event, cable);
    this.#host.addStream(end);
    return new BlockingStpLink(ownStream(this.#host, end));
  }

  get armed(): Armed {
    return this.arrived || this.#asked?.answer !== undefined ? 'ready' : 'host';
  }

  name(): Address {
    return { family: 'stp', stg: this.#host.stg, port: this.#port };
  }

  release(): void {
    if (this.#asked !== undefined) this.#asked.givenUp = true;
    this.#asked = undefined;
    this.#listening = false;
    this.#host.removeServer(this.#number);
    for (const event of this.#queue.splice(0)) this.#host.refuse(event);
    const port = this.#port;
    this.#port = 0;
    if (port === 0) return;
    // Answered before the port is anybody else's: the next bind of it, by whoever, finds it free.
    let answered = false;
    this.#host.ask({ op: NUMBERS.OP_UNBIND, port }, () => {
      answered = true;
    });
    const until = performance.now() + RELEASE_MS;
    while (!answered && performance.now() < until) this.#host.waitTurn(50, [], this.#spin());
  }
}

/** A stream as this thread has it: of its own host, or handed over. */
interface Stream {
  readonly tx: number;
  readonly rx: number;
  readonly user: PageUser;
  readonly pages: PagePlace;
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  /** Its bells ring in this thread. */
  readonly own: boolean;
  /** Lets go of it; undefined once it was let go elsewhere: the host has left the array. */
  readonly leave: (reset: boolean) => void;
  readonly isOpen: () => boolean;
}

function ownStream(host: Host, end: StreamEnd): Stream {
  const { hostId, uid, gid, pid } = end.peer;
  const { tx, rx } = end;
  return {
    tx,
    rx,
    user: end,
    pages: host.pagePlace,
    local: { family: 'stp', stg: host.stg, port: end.localPort },
    remote: { family: 'stp', stg: host.stg, port: end.remotePort },
    peer: { by: 'stpd', hostId, uid, gid, pid },
    own: true,
    leave: (reset) => end.release(reset),
    isOpen: () => end.open,
  };
}

/** Opens the rings of a stream that another thread has detached. */
export function handedStream(
  stream: StreamHandle,
  local: Address,
  remote: Address,
  peer: Peer,
): Stream {
  const tx = openRing(stream.ring, true, stream.txCursor);
  const rx = openRing(stream.ring, false, stream.rxCursor);
  let open = true;
  const user = { tx, view: stream.ring.stg, dirty: false };
  watchPages(user); /* whoever had it before may have sent */
  const leave = (reset: boolean): void => {
    if (!open) return;
    open = false;
    forgetPages(user);
    if (reset) native().ringAbort(tx);
    else native().ringFinish(tx);
    native().ringCloseReading(rx, reset ? 1 : 0);
    native().ringClose(tx);
    native().ringClose(rx);
    stream.port.close();
  };
  const { pages } = stream;
  return { tx, rx, user, pages, local, remote, peer, own: false, leave, isOpen: () => open };
}

export class BlockingStpLink implements BlockingLink {
  readonly local: Address;
  readonly remote: Address;
  readonly peer: Peer;
  readonly #stream: Stream;
  readonly #patience = new PagePatience();
  #sent = 0;
  #window = WINDOW_BYTES;
  #finished = false;

  constructor(stream: Stream) {
    this.#stream = stream;
    this.local = stream.local;
    this.remote = stream.remote;
    this.peer = stream.peer;
  }

  send(data: Uint8Array, offset: number, bytes: number, sliceMs: number): number {
    this.#check();
    if (!this.#stream.user.dirty) watchPages(this.#stream.user);
    const sent = native().ringWrite(this.#stream.tx, data, offset, bytes, sliceMs);
    if (sent < 0) return this.#again(sent, 'write', sliceMs);
    this.#sent += sent;
    return sent;
  }

  receive(into: Uint8Array, offset: number, bytes: number, sliceMs: number): number {
    this.#check();
    const got = native().ringRead(this.#stream.rx, into, offset, bytes, sliceMs);
    if (got > 0) return got;
    if (got === RING_END) return END;
    if (got < 0) return this.#again(got, 'read', sliceMs);
    // A slice went by: what this thread has sent may be read, and its pages can go back.
    releaseIdlePages();
    return 0;
  }

  #check(): void {
    if (!this.#stream.isOpen()) {
      throw stpError('ECONNRESET', 'its host has left the array', 'read');
    }
  }

  /** A full pool is waited for, until ENOBUFS; everything else is an error. */
  #again(result: number, syscall: string, sliceMs: number): number {
    if (result !== RING_NO_PAGE && result !== RING_CONTENDED) throw ringError(result, syscall);
    if (sliceMs === 0) return 0;
    releaseIdlePages();
    if (result === RING_NO_PAGE) this.#patience.pause(this.#stream.pages, this.#sent, sliceMs);
    else Atomics.wait(sleepWord, 0, 0, Math.min(AGAIN_MS, sliceMs));
    return 0;
  }

  finish(): void {
    this.#finished = true;
    if (this.#stream.isOpen()) native().ringFinish(this.#stream.tx);
  }

  close(reset: boolean): void {
    if (!this.#stream.isOpen()) return;
    // As a kernel does: closing with unread bytes resets.
    this.#stream.leave(reset || native().ringState(this.#stream.rx) > 0);
  }

  apply(options: Readonly<SocketOptions>): void {
    const { tx, rx } = this.#stream;
    if (!this.#stream.isOpen()) return;
    if (options.sendBufferBytes !== null && options.sendBufferBytes !== this.#window) {
      this.#window = options.sendBufferBytes;
      native().ringSetLimit(tx, this.#window);
    }
    if (options.spinMicroseconds !== null) {
      native().ringSetSpin(tx, options.spinMicroseconds);
      native().ringSetSpin(rx, options.spinMicroseconds);
    }
  }

  bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null {
    return name === 'sendBufferBytes' ? this.#window : null;
  }

  readiness(events: number): number {
    if (!this.#stream.isOpen()) return POLLERR | POLLHUP | (events & POLLIN);
    const { tx, rx } = this.#stream;
    const come = native().ringState(rx);
    const ended = come === RING_END;
    if (come < 0 && !ended) return POLLERR | POLLHUP | (events & POLLIN);
    let ready = 0;
    if (events & POLLIN && (come > 0 || ended)) ready |= POLLIN;
    // Not zero: there is room, or a write would say why there is none.
    if (events & POLLOUT && !this.#finished && native().ringState(tx) !== 0) ready |= POLLOUT;
    if (ended && this.#finished) ready |= POLLHUP;
    return ready;
  }

  arm(events: number): Armed {
    const { tx, rx, own } = this.#stream;
    if (!own) return 'look';
    // Also where nobody asked for bytes: a reset is told in any case.
    if (native().ringArm(rx) !== 0 && this.readiness(events) !== 0) return 'ready';
    if (events & POLLOUT && !this.#finished && native().ringArm(tx) !== 0) return 'ready';
    return 'host';
  }
}
