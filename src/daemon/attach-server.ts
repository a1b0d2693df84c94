/**
 * The door of the array: accepts hosts on the attach socket, knows them by what the kernel says of
 * them, and keeps the socket as the sign that they live. Main thread.
 */
import { isCoded, messageOf, stpError } from '../errors.js';
import { ATTACH_MESSAGE_BYTES_MAX } from '../limits.js';
import { native } from '../native.js';
import { type AttachRequest, attachRequest } from '../socket/attach-protocol.js';

export interface Credentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export interface AttachAnswer {
  readonly message: object;
  readonly descriptors: readonly number[];
}

export interface AttachHandler {
  /** Decides and grants. Throws coded errors, which the host gets as they are. */
  onAttach(fd: number, request: AttachRequest, who: Credentials): Promise<AttachAnswer>;
  /** The answer was sent, or could not be: then everything granted is taken back. */
  onAnswered(fd: number, sent: boolean): void;
  /** The socket of a host that had been answered has ended. */
  onGone(fd: number): void;
}

const READABLE = 1;
const DISCONNECT = 4;
const BACKLOG = 128;
/** Everybody may knock; the access list of the STG decides. */
const SOCKET_MODE = 0o666;
/** Those who have connected and not yet said what they want: few, and not for long. */
const UNANSWERED_MAX = 256;
/** Of one user: nobody shuts the others out. */
const UNANSWERED_UID_MAX = 32;
const REQUEST_TIMEOUT_MS = 10_000;
const PAUSE_MS = 100;

interface Visitor {
  readonly fd: number;
  readonly uid: number;
  watch: number;
  timer: NodeJS.Timeout | undefined;
  attached: boolean;
}

export class AttachServer {
  readonly #handler: AttachHandler;
  readonly #visitors = new Map<number, Visitor>();
  readonly #unansweredByUid = new Map<number, number>();
  #unanswered = 0;
  #fd = -1;
  #watch = -1;

  constructor(handler: AttachHandler) {
    this.#handler = handler;
  }

  listen(path: string): void {
    this.#fd = native().unixListen(path, BACKLOG, SOCKET_MODE);
    this.#watchDoor();
  }

  #watchDoor(): void {
    this.#watch = native().watchStart(this.#fd, READABLE, () => this.#accept());
    native().watchRef(this.#watch, true);
  }

  /** No descriptor or memory is left for a visitor: those outside wait until one is given back. */
  #pause(): void {
    native().watchStop(this.#watch);
    setTimeout(() => {
      if (this.#fd >= 0) this.#watchDoor();
    }, PAUSE_MS);
  }

  #countUnanswered(uid: number, change: 1 | -1): void {
    this.#unanswered += change;
    const now = (this.#unansweredByUid.get(uid) ?? 0) + change;
    if (now === 0) this.#unansweredByUid.delete(uid);
    else this.#unansweredByUid.set(uid, now);
  }

  #accept(): void {
    for (;;) {
      let fd: number;
      try {
        fd = native().unixAccept(this.#fd);
      } catch (error) {
        if (!isCoded(error)) throw error;
        return this.#pause();
      }
      if (fd < 0) return;
      const { uid } = native().peerCredentials(fd);
      const sameUser = this.#unansweredByUid.get(uid) ?? 0;
      if (this.#unanswered >= UNANSWERED_MAX || sameUser >= UNANSWERED_UID_MAX) {
        native().closeDescriptor(fd);
        continue;
      }
      this.#countUnanswered(uid, 1);
      const visitor: Visitor = { fd, uid, watch: -1, timer: undefined, attached: false };
      visitor.timer = setTimeout(() => this.#end(visitor), REQUEST_TIMEOUT_MS);
      visitor.watch = native().watchStart(fd, READABLE | DISCONNECT, () =>
        this.#onReadable(visitor),
      );
      this.#visitors.set(fd, visitor);
    }
  }

  #onReadable(visitor: Visitor): void {
    let message: { data: Buffer; fds: number[] } | undefined;
    try {
      message = native().receiveMessage(visitor.fd, ATTACH_MESSAGE_BYTES_MAX);
    } catch {
      return this.#end(visitor);
    }
    if (message === undefined) return;
    for (const fd of message.fds) native().closeDescriptor(fd);
    if (message.data.length === 0) return this.#end(visitor);
    if (visitor.timer === undefined) return; /* a second word is not for us */
    clearTimeout(visitor.timer);
    visitor.timer = undefined;
    void this.#answer(visitor, message.data);
  }

  async #answer(visitor: Visitor, data: Buffer): Promise<void> {
    try {
      const parsed = attachRequest.safeParse(parseJson(data));
      if (!parsed.success) {
        throw stpError('EPROTO', 'this is not an attach request of a known form');
      }
      const who = native().peerCredentials(visitor.fd);
      const { message, descriptors } = await this.#handler.onAttach(visitor.fd, parsed.data, who);
      const sent = this.#send(visitor, message, descriptors);
      visitor.attached = sent;
      this.#handler.onAnswered(visitor.fd, sent);
      if (sent) this.#countUnanswered(visitor.uid, -1);
      else this.#end(visitor);
    } catch (error) {
      const code = isCoded(error) ? error.code : 'EIO';
      const text = messageOf(error).replace(`${code}: `, '');
      this.#send(visitor, { ok: false, code, message: text }, []);
      this.#end(visitor);
    }
  }

  #send(visitor: Visitor, message: object, descriptors: readonly number[]): boolean {
    if (this.#visitors.get(visitor.fd) !== visitor) return false;
    try {
      return native().sendMessage(visitor.fd, Buffer.from(JSON.stringify(message)), descriptors);
    } catch {
      return false;
    }
  }

  #end(visitor: Visitor): void {
    if (this.#visitors.get(visitor.fd) !== visitor) return;
    this.#visitors.delete(visitor.fd);
    clearTimeout(visitor.timer);
    native().watchStop(visitor.watch);
    if (visitor.attached) this.#handler.onGone(visitor.fd);
    else this.#countUnanswered(visitor.uid, -1);
    native().closeDescriptor(visitor.fd);
  }

  /** Sends a host away. */
  dismiss(fd: number): void {
    const visitor = this.#visitors.get(fd);
    if (visitor !== undefined) this.#end(visitor);
  }

  /** Nobody new comes in; who is there stays. */
  closeDoor(): void {
    if (this.#fd < 0) return;
    native().watchStop(this.#watch);
    native().closeDescriptor(this.#fd);
    this.#fd = -1;
  }

  /** The end of stpd, not of the hosts: nothing of theirs is reclaimed. */
  close(): void {
    this.closeDoor();
    for (const visitor of this.#visitors.values()) {
      clearTimeout(visitor.timer);
      native().watchStop(visitor.watch);
      native().closeDescriptor(visitor.fd);
    }
    this.#visitors.clear();
  }
}

function parseJson(data: Buffer): unknown {
  try {
    return JSON.parse(data.toString('utf8'));
  } catch {
    return undefined;
  }
}
