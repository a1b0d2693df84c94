/**
 * One end of one connection as its host holds it: two rings, the cable, and the way back to the
 * director when the end lets go.
 *
 * Invariant: `release` runs once, after which nothing of the connection is touched but by those who
 * hold it; the director may use the slot again as soon as they and the other end have let go too. Event loop's thread.
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

/** Who uses an end waits for bytes, or for room. */
export const AWAITS_BYTES = 1;
export const AWAITS_ROOM = 2;

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
  /** What a ready bit is due for: AWAITS_ numbers, added up. */
  awaits: () => number = () => 0;
  /** Called when the host leaves: whoever uses this end closes it. */
  onLost: (error?: Error) => void = () => {};
  tx: number;
  rx: number;
  /** The safety timer has found something unannounced the last time. */
  #suspected = false;
  /** Has sent since its pages were last given back: see idle-pages.ts. */
  dirty = false;
  #open = true;
  /** Those who work on pages of this end apart from its thread. */
  #holders = 0;

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

  /**
   * For the safety timer: looks again, since a host of the STG may have spoiled a wait word. What
   * nobody has announced may be announced just now; who finds it a second time counts it.
   * @returns true if a wake-up was lost
   */
  lookAgain(): boolean {
    const ring = this.#unannounced();
    if (ring >= 0 && !this.#suspected) {
      this.#suspected = true;
      return false;
    }
    this.#suspected = false;
    if (ring >= 0) native().ringCountSafety(ring);
    this.onReady();
    return ring >= 0;
  }

  /** The ring that has something which its user awaits, and no ready bit; -1: none. */
  #unannounced(): number {
    if (this.tx < 0) return -1;
    const awaits = this.awaits();
    if (awaits & AWAITS_BYTES && native().ringUnannounced(this.rx)) return this.rx;
    if (awaits & AWAITS_ROOM && native().ringUnannounced(this.tx)) return this.tx;
    return -1;
  }

  /** Gives the rings up without a word to the peer: another thread has them from now on. */
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
    } else {
      /* Lent: whatever the borrower has not closed in order is reset. */
      this.abort();
    }
    if (this.#holders === 0) this.#letGo();
  }

  /** Somebody works on its pages: they do not go back to the pool before `unhold`. */
  hold(): void {
    this.#holders++;
  }

  unhold(): void {
    if (--this.#holders === 0 && !this.#open) this.#letGo();
  }

  /** From here on pages and slot may be another stream's. */
  #letGo(): void {
    if (this.tx >= 0) this.lend(); /* the numbers are given out again */
    this.host.forget(this);
  }
}
