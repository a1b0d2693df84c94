/**
 * One end of one connection as its host holds it: two rings, the cable, and the way back to the
 * director when the end lets go.
 *
 * Invariant: `release` runs once, after which nothing of the connection is touched; the director
 * may use the slot again as soon as the other end has let go too. Event loop's thread.
 */
import type { DirectorEvent } from '../memory/member-ring.js';
import { openRing, type RingOptions } from '../memory/page-ring.js';
import { native } from '../native.js';
import type { Host } from './host.js';
import { forgetPages, watchPages } from './idle-pages.js';

/** Who is at the other end, as the kernel told stpd when it attached. */
export interface Peer {
  readonly hostId: number;
  readonly uid: number;
  readonly gid: number;
  /** For display: a PID is not an identity. */
  readonly pid: number;
}

export class StreamEnd {
  readonly host: Host;
  readonly options: RingOptions;
  readonly localPort: number;
  readonly remotePort: number;
  readonly peer: Peer;
  /** Ready index: 2 * connection + end. */
  readonly key: number;
  readonly cable: number;
  readonly view: number;
  /** Called when the director or the peer has marked this end ready, or the peer is gone. */
  onReady: () => void = () => {};
  /** Called when the host leaves: whoever uses this end closes it. */
  onLost: (error?: Error) => void = () => {};
  tx: number;
  rx: number;
  /** Has sent since its pages were last given back: see idle-pages.ts. */
  dirty = false;
  #open = true;

  constructor(host: Host, event: DirectorEvent, cable: number) {
    this.host = host;
    this.cable = cable;
    this.view = host.stgView;
    this.localPort = event.localPort;
    this.remotePort = event.remotePort;
    this.peer = {
      hostId: event.peerHost,
      uid: event.peerUid,
      gid: event.peerGid,
      pid: event.peerPid,
    };
    this.key = event.connection * 2 + event.end;
    this.options = {
      stg: host.stgView,
      connection: event.connection,
      generation: event.generation,
      end: event.end,
      selfMember: host.member,
      selfGeneration: host.memberGeneration,
      peerMember: event.peerMember,
      cable,
    };
    this.tx = openRing(this.options, true);
    this.rx = openRing(this.options, false);
  }

  get open(): boolean {
    return this.#open;
  }

  /** Another thread has the rings, and may be in the middle of a page. */
  get lent(): boolean {
    return this.#open && this.tx < 0;
  }

  /** Resets the connection under a borrower. It must still give the stream back: `release`. */
  abort(): void {
    const { stg, connection, end, peerMember, cable } = this.options;
    native().connectionAbort(stg, connection, end, peerMember, cable);
  }

  /** Marks the pages of this end for return once they are idle. */
  sent(): void {
    if (!this.dirty) watchPages(this);
  }

  /** Gives the rings up without a word to the peer: another thread has them now. */
  lend(): void {
    forgetPages(this);
    native().ringClose(this.tx);
    native().ringClose(this.rx);
    this.tx = -1;
    this.rx = -1;
  }

  /**
   * Lets go of the connection.
   * @param reset true: the peer gets ECONNRESET; false: an orderly end after the last byte
   */
  release(reset: boolean): void {
    if (!this.#open) return;
    this.#open = false;
    forgetPages(this);
    if (this.tx >= 0) {
      if (reset) native().ringAbort(this.tx);
      else native().ringFinish(this.tx);
      native().ringCloseReading(this.rx, reset ? 1 : 0);
      native().ringClose(this.tx);
      native().ringClose(this.rx);
      /* The numbers are given out again: by mistake used, they would be another stream's. */
      this.tx = -1;
      this.rx = -1;
    } else {
      /* Lent: whatever the borrower has not closed in order is reset. */
      this.abort();
    }
    this.host.forget(this);
  }
}
