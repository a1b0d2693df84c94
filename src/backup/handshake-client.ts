/**
 * Figs. 4 and 4A, columns 110 and 150: the client process, which waits on its WKP and on WKP + 1.
 *
 * Rows up to `accept` (118, 158) belong to the ports and run for ever; the rows after it belong to
 * one session. Sessions of several servers run at the same time on one WKP: a second connection is
 * told by the token of step 122 that it gives back, a connection on WKP + 1 by its session id, and
 * either figure of a session may come first. Event loop only.
 */
import { randomBytes } from 'node:crypto';
import { assert } from '../assert.js';
import { AF_INET, STPConnect } from '../connect/stp-connect.js';
import { messageOf } from '../errors.js';
import { within } from './deadline.js';
import { type Arrival, abortQuietly, peerName } from './door.js';
import { bindInRange, type PortRange } from './dynamic-port.js';
import { rowOf, type Step } from './handshake-steps.js';
import { STEP_TIMEOUT_MS, STREAMS_MAX, TOKEN_BYTES, UNIDENTIFIED_MAX } from './limits.js';
import { Mailbox } from './mailbox.js';
import {
  type DescriptorToken,
  HandshakeError,
  type Opening,
  ROLE_CONTROL,
  receivePreamble,
  sameSecret,
  sendDescriptor,
  sendStoragePort,
} from './wire.js';

export interface StgOpening {
  readonly stg: string;
  readonly sessionId: Buffer;
}

/** What the rows 112 to 118 and 152 to 158 need: a port to be. */
interface Port {
  readonly connect: STPConnect;
  readonly address: string;
  readonly wkp: number;
  readonly lookup: ((identity: string) => Buffer | undefined) | null;
  readonly onRefused: (peer: string, reason: string) => void;
  listener?: number;
}

/** The second connections that sessions wait for, by the descriptor number that 122 sent. */
export class SecondConnections {
  readonly #due = new Map<number, { token: Buffer; mailbox: Mailbox<Arrival<Opening>> }>();

  expect(given: DescriptorToken): Mailbox<Arrival<Opening>> {
    const mailbox = new Mailbox<Arrival<Opening>>();
    this.#due.set(given.descriptor, { token: given.token, mailbox });
    return mailbox;
  }

  forget(given: DescriptorToken): void {
    this.#due.delete(given.descriptor);
  }

  /**
   * Takes a second connection to its session. A token is good once: a wrong one leaves the session
   * waiting for the right one, a repeated one finds nobody.
   */
  admit(arrival: Arrival<Opening>, given: DescriptorToken): void {
    const due = this.#due.get(given.descriptor);
    if (!due || !sameSecret(due.token, given.token)) {
      throw new HandshakeError(
        `no session waits for a second connection with descriptor ${given.descriptor} and this token`,
      );
    }
    this.#due.delete(given.descriptor);
    due.mailbox.put(arrival);
  }
}

export interface ClientFig4 extends Port {
  readonly firsts: Mailbox<Arrival<Opening>>;
  readonly seconds: SecondConnections;
  first?: Arrival<Opening>;
  given?: DescriptorToken;
  expected?: Mailbox<Arrival<Opening>>;
  second?: Arrival<Opening>;
}

export interface ClientFig4A extends Port {
  readonly arrivals: Mailbox<Arrival<StgOpening>>;
  /** A layer of this session's own that reaches an STG; attaches to it if need be. */
  readonly storageOf: (stg: string) => Promise<STPConnect>;
  /** Dynamic TCP ports, for data that goes over the network. */
  readonly ports?: PortRange | undefined;
  readonly timeoutMs?: number | undefined;
  arrival?: Arrival<StgOpening>;
  storage?: STPConnect;
  storageListener?: number;
  storagePort?: number;
  streams?: StreamDoor;
  /** The stream that step 172 waits for; 1 and up follow when the request tells how many. */
  role: number;
  readonly accepted: number[];
}

const must = <T>(value: T | undefined, what: string): T => {
  assert(value !== undefined, `a handshake row ran before its ${what} was there`);
  return value;
};

function listeningSocket(p: Port): void {
  p.listener = p.connect.socket(AF_INET);
  const { lookup, onRefused } = p;
  if (!lookup) return;
  const refused = (e: Error): void => onRefused('a caller', e.message);
  p.connect.setsockopt(p.listener, 'psk', { lookup, refused });
}

const fig4 = { figure: '4', side: 'client' } as const;

export const FIG4_CLIENT: readonly Step<ClientFig4>[] = [
  {
    ...fig4,
    step: 112,
    name: 'socket',
    what: 'AF_INET, for the WKP',
    run: listeningSocket,
    next: 114,
  },
  {
    ...fig4,
    step: 114,
    name: 'bind',
    what: 'to the WKP',
    run: async (c) => {
      await c.connect.bind(must(c.listener, 'socket'), { host: c.address, port: c.wkp });
    },
    next: 116,
  },
  {
    ...fig4,
    step: 116,
    name: 'listen',
    what: 'on the WKP',
    run: async (c) => {
      await c.connect.listen(must(c.listener, 'socket'), UNIDENTIFIED_MAX);
    },
    next: 118,
  },
  {
    ...fig4,
    step: 118,
    name: 'accept',
    what: 'a connection on the WKP',
    patient: true,
    run: async (c, signal) => {
      c.first = await c.firsts.take(signal);
    },
    next: 120,
  },
  {
    ...fig4,
    step: 120,
    name: 'receive',
    what: 'the well-known string: this is the first connection, a second is due',
    run: (c) => assert(c.first?.opening.kind === 'first', 'the door let a stranger in'),
    next: 122,
  },
  {
    ...fig4,
    step: 122,
    name: 'send',
    what: 'the descriptor of the accepted socket',
    run: async (c) => {
      const first = must(c.first, 'connection');
      c.given = { descriptor: first.fd, token: randomBytes(TOKEN_BYTES) };
      // Before it is sent: the second connection may be here before send returns.
      c.expected = c.seconds.expect(c.given);
      await sendDescriptor(c.connect, first.fd, c.given);
    },
    next: 124,
  },
  {
    ...fig4,
    step: 124,
    name: 'accept',
    what: 'the second connection on the WKP',
    run: async (c, signal) => {
      c.second = await must(c.expected, 'mailbox').take(signal);
    },
    next: 126,
  },
  {
    ...fig4,
    step: 126,
    name: 'receive',
    what: 'the descriptor: it is the same server process',
    run: (c) => {
      const opening = must(c.second, 'connection').opening;
      assert(opening.kind === 'second', 'the door took a first connection for a second');
      assert(sameSecret(opening.given.token, must(c.given, 'token').token), 'a stranger came in');
    },
    next: 'done',
  },
];

/**
 * Step 172 for all streams of a session: accepts storage connections and knows them by their first
 * bytes. A connection with another token, or with a role that is taken, is reset and reported; one
 * that says nothing holds up nobody.
 */
export class StreamDoor {
  readonly #mailboxes = new Map<number, Mailbox<number>>();
  readonly #taken = new Set<number>();
  readonly #closed = new AbortController();

  constructor(
    private readonly storage: STPConnect,
    private readonly listener: number,
    readonly token: Buffer,
    private readonly onRefused: (peer: string, reason: string) => void,
    private readonly timeoutMs = STEP_TIMEOUT_MS,
  ) {
    void this.#keep();
  }

  /** The storage connection with this role, once it is here. */
  stream(role: number, signal: AbortSignal): Promise<number> {
    return this.#mailbox(role).take(signal);
  }

  /** No further streams; the listener is closed, streams that were handed out live on. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    for (const mailbox of this.#mailboxes.values()) {
      for (const fd of mailbox.drain()) abortQuietly(this.storage, fd);
    }
    await this.storage.close(this.listener);
  }

  #mailbox(role: number): Mailbox<number> {
    const known = this.#mailboxes.get(role);
    if (known) return known;
    const mailbox = new Mailbox<number>();
    this.#mailboxes.set(role, mailbox);
    return mailbox;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closed;
    let unheard = 0;
    while (!signal.aborted) {
      let fd: number;
      try {
        fd = await this.storage.accept(this.listener, { signal });
      } catch (e) {
        // The listener died with the array: whoever waits for a stream runs into its own limit.
        if (!signal.aborted) this.onRefused('a storage connection', messageOf(e));
        return;
      }
      if (unheard >= STREAMS_MAX) {
        abortQuietly(this.storage, fd);
        continue;
      }
      unheard++;
      void this.#hear(fd).finally(() => {
        unheard--;
      });
    }
  }

  async #hear(fd: number): Promise<void> {
    const peer = peerName(this.storage, fd);
    try {
      const silent = (): Error => new Error(`said nothing for ${this.timeoutMs / 1000} s`);
      const { token, role } = await within(
        this.timeoutMs,
        receivePreamble(this.storage, fd),
        silent,
      );
      if (!sameSecret(token, this.token)) throw new HandshakeError('a wrong token');
      if (role >= STREAMS_MAX && role !== ROLE_CONTROL) {
        throw new HandshakeError(`role ${role}; data streams have 0 to ${STREAMS_MAX - 1}`);
      }
      if (this.#closed.signal.aborted) throw new HandshakeError('all streams are here already');
      if (this.#taken.has(role)) throw new HandshakeError(`role ${role} is taken already`);
      this.#taken.add(role);
      this.#mailbox(role).put(fd);
    } catch (e) {
      this.onRefused(peer, messageOf(e));
      abortQuietly(this.storage, fd);
    }
  }
}

const fig4a = { figure: '4A', side: 'client' } as const;

/** Where an STG was named; else FIG4A_CLIENT_NETWORK. */
export const FIG4A_CLIENT: readonly Step<ClientFig4A>[] = [
  {
    ...fig4a,
    step: 152,
    name: 'socket',
    what: 'AF_INET, for WKP + 1',
    run: listeningSocket,
    next: 154,
  },
  {
    ...fig4a,
    step: 154,
    name: 'bind',
    what: 'to WKP + 1',
    run: async (c) => {
      await c.connect.bind(must(c.listener, 'socket'), { host: c.address, port: c.wkp + 1 });
    },
    next: 156,
  },
  {
    ...fig4a,
    step: 156,
    name: 'listen',
    what: 'on WKP + 1',
    run: async (c) => {
      await c.connect.listen(must(c.listener, 'socket'), UNIDENTIFIED_MAX);
    },
    next: 158,
  },
  {
    ...fig4a,
    step: 158,
    name: 'accept',
    what: 'a connection on WKP + 1',
    patient: true,
    run: async (c, signal) => {
      c.arrival = await c.arrivals.take(signal);
    },
    next: 160,
  },
  {
    ...fig4a,
    step: 160,
    name: 'receive',
    what: 'the length of the STG identifier, then the identifier',
    run: (c) => assert(c.arrival !== undefined, 'the door let a stranger in'),
    next: 162,
  },
  {
    ...fig4a,
    step: 162,
    name: 'STPsocket',
    what: 'and bind to a dynamic STP port',
    run: async (c, signal) => {
      const storage = await c.storageOf(must(c.arrival, 'connection').opening.stg);
      // An attach that came too late: nobody would ever close what is opened now.
      signal.throwIfAborted();
      c.storage = storage;
      c.storageListener = storage.STPsocket();
      await storage.bind(c.storageListener, { port: 0 });
    },
    next: 164,
  },
  {
    ...fig4a,
    step: 164,
    name: 'STPlisten',
    what: 'on that port',
    run: async (c) => {
      await must(c.storage, 'STG').listen(must(c.storageListener, 'socket'), STREAMS_MAX);
    },
    next: 166,
  },
  {
    ...fig4a,
    step: 166,
    name: 'STPgetsockname',
    what: 'the details of the socket',
    run: (c) => {
      c.storagePort = must(c.storage, 'STG').getsockname(must(c.storageListener, 'socket')).port;
    },
    next: 168,
  },
  {
    ...fig4a,
    step: 168,
    name: 'STPgetsockname',
    what: 'the value of the dynamic port',
    run: (c) => {
      assert(must(c.storagePort, 'name') > 0, 'a listening STP socket without a port');
      c.streams = new StreamDoor(
        must(c.storage, 'STG'),
        must(c.storageListener, 'socket'),
        randomBytes(TOKEN_BYTES),
        c.onRefused,
        c.timeoutMs,
      );
    },
    next: 170,
  },
  {
    ...fig4a,
    step: 170,
    name: 'send',
    what: 'the STP port',
    run: async (c) => {
      const { token } = must(c.streams, 'token');
      const port = must(c.storagePort, 'name');
      await sendStoragePort(c.connect, must(c.arrival, 'connection').fd, { port, token });
    },
    next: 172,
  },
  {
    ...fig4a,
    step: 172,
    name: 'STPaccept',
    what: 'the storage connection',
    run: async (c, signal) => {
      c.accepted[c.role] = await must(c.streams, 'listener').stream(c.role, signal);
    },
    next: 'done',
  },
];

/** The rows of FIG4A_CLIENT but for some. */
const otherwise = (rows: readonly Step<ClientFig4A>[]): readonly Step<ClientFig4A>[] =>
  FIG4A_CLIENT.map((row) => rows.find(({ step }) => step === row.step) ?? row);

/** The same where the server names no STG: a TCP listener of this session instead. */
export const FIG4A_CLIENT_NETWORK: readonly Step<ClientFig4A>[] = otherwise([
  {
    ...fig4a,
    step: 162,
    name: 'socket',
    what: 'and bind to a dynamic TCP port: the data goes over the network',
    run: async (c) => {
      const storage = new STPConnect();
      c.storage = storage;
      c.storageListener = storage.socket(AF_INET);
      const { lookup, onRefused } = c;
      const refused = (e: Error): void => onRefused('a caller', e.message);
      if (lookup) storage.setsockopt(c.storageListener, 'psk', { lookup, refused });
      await bindInRange(storage, c.storageListener, c.address, c.ports);
    },
    next: 164,
  },
  { ...rowOf(FIG4A_CLIENT, 164), name: 'listen' },
  { ...rowOf(FIG4A_CLIENT, 166), name: 'getsockname' },
  { ...rowOf(FIG4A_CLIENT, 168), name: 'getsockname' },
  { ...rowOf(FIG4A_CLIENT, 170), what: 'the TCP port' },
  { ...rowOf(FIG4A_CLIENT, 172), name: 'accept', what: 'the data connection' },
]);
