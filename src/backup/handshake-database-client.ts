/**
 * Figs. 5 and 5A, column 180: the client process, which initiates a database session.
 *
 * Three network connections at most exist, and none is left when it returns: the one to the
 * server's WKP, the one that the server makes to the dynamic port, and the listener of that port.
 * What ties them together is one token, drawn before step 196, which 236 gives back; 210 carries
 * another, which begins each storage connection. If a step fails, everything of the session is
 * closed and the first failure is thrown. Event loop only.
 */
import { randomBytes } from 'node:crypto';
import { assert } from '../assert.js';
import { monotonicMs } from '../clock.js';
import { AF_INET, type STPConnect } from '../connect/stp-connect.js';
import { messageOf } from '../errors.js';
import { absence } from './absent.js';
import { type Arrival, abortQuietly, keepDoor, refuse } from './door.js';
import { bindInRange } from './dynamic-port.js';
import { StreamDoor } from './handshake-client.js';
import { type RunOptions, runSteps, type Step, type Trace } from './handshake-steps.js';
import { STREAMS_MAX, TOKEN_BYTES, UNIDENTIFIED_MAX } from './limits.js';
import { Mailbox } from './mailbox.js';
import {
  HandshakeError,
  ROLE_CONTROL,
  receiveDescriptor,
  receiveStg,
  sameSecret,
  sendDynamicPort,
  sendStoragePort,
} from './wire.js';

export interface DatabaseHandshakeOptions {
  /** The network mechanism, of this session alone. */
  readonly network: STPConnect;
  /** A layer of this session's own that reaches an STG; attaches to it if need be. */
  readonly storageOf: (stg: string) => Promise<STPConnect>;
  /** Name of this host, under which the pair's key is known to the server. */
  readonly identity: string;
  /** `key` null sends in the clear. */
  readonly server: {
    readonly name: string;
    readonly address: string;
    readonly wkp: number;
    readonly key: Buffer | null;
  };
  /** Where the dynamic port listens: its address, and its range. 0 to 0: any free port. */
  readonly address: string;
  readonly ports: { readonly from: number; readonly to: number };
  readonly onRefused: (peer: string, reason: string) => void;
  readonly trace?: Trace | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

/** What is left: storage connections only. */
export interface DatabaseConnections {
  readonly stg: string;
  readonly storage: STPConnect;
  readonly data: number;
  readonly control: number;
}

export interface ClientDatabase {
  readonly connect: STPConnect;
  readonly options: DatabaseHandshakeOptions;
  readonly token: Buffer;
  readonly ended: AbortController;
  readonly calls: Mailbox<Arrival<string>>;
  listener?: number;
  dynamicPort?: number;
  wkp?: number;
  /** Rejects with what the server says, or with its end, over the WKP connection after 226. */
  wkpEnd?: Promise<never>;
  dynamic?: number;
  stg?: string;
  storage?: STPConnect;
  storageListener?: number;
  storagePort?: number;
  streams?: StreamDoor;
  data?: number;
  control?: number;
}

const must = <T>(value: T | undefined, what: string): T => {
  assert(value !== undefined, `a handshake row ran before its ${what} was there`);
  return value;
};

/** Keeps the dynamic port until its one caller, who knows the token, is here. */
function answerCalls(c: ClientDatabase): void {
  const { connect, options, token } = c;
  let taken = false;
  void keepDoor<{ stg: string; sessionId: Buffer }>({
    connect,
    listener: must(c.listener, 'listener'),
    identify: (fd) => receiveStg(connect, fd),
    admit: (arrival) => {
      const { stg, sessionId } = arrival.opening;
      if (!sameSecret(sessionId, token)) throw new HandshakeError('a wrong token');
      if (taken) throw new HandshakeError('this session has its connection already');
      taken = true;
      c.calls.put({ fd: arrival.fd, peer: arrival.peer, opening: stg });
    },
    onRefused: options.onRefused,
    signal: c.ended.signal,
    timeoutMs: options.timeoutMs,
  });
}

/** A server that cannot call back says why over its WKP; one that died ends it. */
async function refusalOverWkp(c: ClientDatabase): Promise<never> {
  await receiveDescriptor(c.connect, must(c.wkp, 'socket'));
  throw new HandshakeError('a second acknowledgement where none is due');
}

/** Ends a connection in good order: our end, then the other's. A reset is an end, too. */
export async function closeBoth(connect: STPConnect, fd: number): Promise<void> {
  try {
    await connect.shutdown(fd, 'write');
    for (;;) if ((await connect.receive(fd, 4096)).length === 0) break;
    await connect.close(fd);
  } catch {
    abortQuietly(connect, fd);
  }
}

const fig5 = { figure: '5', side: 'client' } as const;
const fig5a = { figure: '5A', side: 'client' } as const;

export const FIG5_CLIENT: readonly Step<ClientDatabase>[] = [
  {
    ...fig5,
    step: 182,
    name: 'socket',
    what: 'AF_INET, for the dynamic port',
    run: (c) => {
      c.listener = c.connect.socket(AF_INET);
      const { server, onRefused } = c.options;
      const { key, name } = server;
      if (!key) return;
      const lookup = (identity: string): Buffer | undefined =>
        identity === name ? key : undefined;
      const refused = (e: Error): void => onRefused('a caller', e.message);
      c.connect.setsockopt(c.listener, 'psk', { lookup, refused });
    },
    next: 184,
  },
  {
    ...fig5,
    step: 184,
    name: 'bind',
    what: 'to a dynamic port',
    run: (c) => {
      const { address, ports } = c.options;
      return bindInRange(c.connect, must(c.listener, 'socket'), address, ports);
    },
    next: 186,
  },
  {
    ...fig5,
    step: 186,
    name: 'listen',
    what: 'on the dynamic port',
    run: async (c) => {
      await c.connect.listen(must(c.listener, 'socket'), UNIDENTIFIED_MAX);
    },
    next: 188,
  },
  {
    ...fig5,
    step: 188,
    name: 'getsockname',
    what: 'the value of the dynamic port',
    run: (c) => {
      c.dynamicPort = c.connect.getsockname(must(c.listener, 'socket')).port;
    },
    next: 190,
  },
  {
    ...fig5,
    step: 190,
    name: 'socket',
    what: "AF_INET, for the server's WKP",
    run: (c) => {
      c.wkp = c.connect.socket(AF_INET);
      const { server, identity } = c.options;
      if (server.key) c.connect.setsockopt(c.wkp, 'psk', { identity, key: server.key });
    },
    next: 192,
  },
  {
    ...fig5,
    step: 192,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => c.connect.bind(must(c.wkp, 'socket'), { port: 0 }),
    next: 194,
  },
  {
    ...fig5,
    step: 194,
    name: 'connect',
    what: "to the server's WKP",
    run: async (c, signal) => {
      const { address: host, wkp: port } = c.options.server;
      await c.connect.connect(must(c.wkp, 'socket'), { host, port }, { signal });
    },
    next: 196,
  },
  {
    ...fig5,
    step: 196,
    name: 'send',
    what: 'the dynamic port',
    run: async (c) => {
      // Before it is sent: the server may call before send returns.
      answerCalls(c);
      const port = must(c.dynamicPort, 'port');
      const { token, options } = c;
      await sendDynamicPort(c.connect, must(c.wkp, 'socket'), {
        host: options.identity,
        port,
        token,
      });
    },
    next: '196A',
  },
  {
    ...fig5,
    step: '196A',
    name: 'receive',
    what: 'the acknowledgement',
    run: async (c) => {
      const given = await receiveDescriptor(c.connect, must(c.wkp, 'socket'));
      if (given.descriptor !== c.dynamicPort || !sameSecret(given.token, c.token)) {
        throw new HandshakeError('the acknowledgement is of another session');
      }
    },
    next: 198,
  },
  {
    ...fig5,
    step: 198,
    name: 'accept',
    what: 'a connection on the dynamic port',
    run: async (c, signal) => {
      c.wkpEnd = refusalOverWkp(c);
      const arrival = await Promise.race([c.calls.take(signal), c.wkpEnd]);
      c.dynamic = arrival.fd;
      c.stg = arrival.opening;
    },
    next: 200,
  },
  {
    ...fig5,
    step: 200,
    name: 'receive',
    what: 'the STG',
    run: (c) => assert(must(c.stg, 'STG').length > 0, 'the door let a stranger in'),
    next: 202,
  },
  {
    ...fig5a,
    step: 202,
    name: 'STPsocket',
    what: 'of that STG',
    run: async (c, signal) => {
      const storage = await c.options.storageOf(must(c.stg, 'STG'));
      // An attach that came too late: nobody would ever close what is opened now.
      signal.throwIfAborted();
      c.storage = storage;
      c.storageListener = storage.STPsocket();
    },
    next: 204,
  },
  {
    ...fig5a,
    step: 204,
    name: 'STPbind',
    what: 'to a dynamic STP port',
    run: (c) => must(c.storage, 'STG').bind(must(c.storageListener, 'socket'), { port: 0 }),
    next: 206,
  },
  {
    ...fig5a,
    step: 206,
    name: 'STPlisten',
    what: 'on that port',
    run: async (c) => {
      const storage = must(c.storage, 'STG');
      const listener = must(c.storageListener, 'socket');
      await storage.listen(listener, STREAMS_MAX);
      const { onRefused, timeoutMs } = c.options;
      const token = randomBytes(TOKEN_BYTES);
      c.streams = new StreamDoor(storage, listener, token, onRefused, timeoutMs);
    },
    next: 208,
  },
  {
    ...fig5a,
    step: 208,
    name: 'STPgetsockname',
    what: 'the value of the STP port',
    run: (c) => {
      c.storagePort = must(c.storage, 'STG').getsockname(must(c.storageListener, 'socket')).port;
    },
    next: 210,
  },
  {
    ...fig5a,
    step: 210,
    name: 'send',
    what: 'the STP port, over the dynamic connection',
    run: async (c) => {
      const port = must(c.storagePort, 'port');
      const { token } = must(c.streams, 'token');
      await sendStoragePort(c.connect, must(c.dynamic, 'connection'), { port, token });
    },
    next: 212,
  },
  {
    ...fig5a,
    step: 212,
    name: 'STPaccept',
    what: 'the storage connections for data and for control',
    run: async (c, signal) => {
      const streams = must(c.streams, 'listener');
      [c.data, c.control] = await Promise.all([
        streams.stream(0, signal),
        streams.stream(ROLE_CONTROL, signal),
      ]);
      await streams.close();
    },
    next: 214,
  },
  {
    ...fig5a,
    step: 214,
    name: 'close',
    what: 'the dynamic connection, its listener and the WKP connection',
    run: async (c) => {
      c.ended.abort(new Error('the storage connections stand'));
      const wkp = must(c.wkp, 'socket');
      await c.connect.shutdown(wkp, 'write');
      await Promise.allSettled([c.wkpEnd]);
      await Promise.all([
        closeBoth(c.connect, must(c.dynamic, 'connection')),
        c.connect.close(wkp),
        c.connect.close(must(c.listener, 'socket')),
      ]);
    },
    next: 'done',
  },
];

/** Sets a session up. Throws `StepError`, or the signal's reason; nothing is left open then. */
export async function databaseHandshake(
  options: DatabaseHandshakeOptions,
): Promise<DatabaseConnections> {
  const { network, server } = options;
  const c: ClientDatabase = {
    connect: network,
    options,
    token: randomBytes(TOKEN_BYTES),
    ended: new AbortController(),
    calls: new Mailbox(),
  };
  const run: RunOptions = {
    peer: `server ${server.name} at ${server.address}:${server.wkp}`,
    trace: options.trace,
    startMs: monotonicMs(),
    timeoutMs: options.timeoutMs,
    signal: options.signal,
  };
  try {
    await runSteps(FIG5_CLIENT, 182, c, run);
    return {
      stg: must(c.stg, 'STG'),
      storage: must(c.storage, 'STG'),
      data: must(c.data, 'stream'),
      control: must(c.control, 'stream'),
    };
  } catch (e) {
    c.ended.abort(e);
    // The server waits for the port: it should not have to guess why none comes.
    if (c.dynamic !== undefined) await refuse(network, c.dynamic, messageOf(absence(e) ?? e));
    await c.streams?.close().catch(() => {});
    await c.storage?.closeAll().catch(() => {});
    await network.closeAll();
    options.signal?.throwIfAborted();
    throw e;
  }
}
