/**
 * Figs. 4 and 4A, columns 80 and 130: the server process, which initiates a file-system session.
 *
 * Both figures run at the same time and neither waits for the other; the session id, drawn before
 * step 82, ties them together at the client. After both, the session holds two network connections
 * (control, errors) and one storage connection for each data stream. If a step fails, everything
 * of the session is closed and the first failure is thrown. Event loop only.
 */
import { randomBytes } from 'node:crypto';
import { clearTimeout, setTimeout } from 'node:timers';
import { assert } from '../assert.js';
import { monotonicMs } from '../clock.js';
import { AF_INET, type STPConnect } from '../connect/stp-connect.js';
import { abortQuietly } from './door.js';
import { type RunOptions, runSteps, type Step, StepError, type Trace } from './handshake-steps.js';
import { REASON_GRACE_MS, SESSION_ID_BYTES } from './limits.js';
import {
  type DescriptorToken,
  HandshakeError,
  NO_STG,
  receiveDescriptor,
  receiveStoragePort,
  type StoragePort,
  sendHello,
  sendPreamble,
  sendReturn,
  sendStg,
} from './wire.js';

export interface ServerHandshakeOptions {
  /** Both mechanisms, attached to the STG; of this session alone, so that its counters are too. */
  readonly connect: STPConnect;
  /** Name under which the pair's key is known to the client. */
  readonly identity: string;
  /** The client: its name, address and WKP; `key` null sends in the clear. */
  readonly client: {
    readonly name: string;
    readonly address: string;
    readonly wkp: number;
    readonly key: Buffer | null;
  };
  /** NO_STG: the data goes over the network, too. */
  readonly stg: string;
  /** Data streams to set up, from 1 to STREAMS_MAX. */
  readonly streams: number;
  readonly trace?: Trace | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface ServerConnections {
  readonly sessionId: Buffer;
  /** First network connection. */
  readonly control: number;
  /** Second network connection. */
  readonly errors: number;
  /** Data connections, in the order of their roles. */
  readonly streams: readonly number[];
}

interface Shared {
  readonly connect: STPConnect;
  readonly options: ServerHandshakeOptions;
  readonly sessionId: Buffer;
  /** Every descriptor the session opened, to close when it fails. */
  readonly opened: Set<number>;
}

interface Fig4 extends Shared {
  first?: number;
  second?: number;
  given?: DescriptorToken;
}

interface Fig4A extends Shared {
  network?: number;
  storagePort?: StoragePort;
  storage?: number;
}

const must = <T>(value: T | undefined, what: string): T => {
  assert(value !== undefined, `a handshake row ran before its ${what} was there`);
  return value;
};

function networkSocket(s: Shared): number {
  const fd = s.connect.socket(AF_INET);
  s.opened.add(fd);
  const { client, identity } = s.options;
  if (client.key) s.connect.setsockopt(fd, 'psk', { identity, key: client.key });
  return fd;
}

// The designated port is the remote one: from WKP to WKP there is room for one connection only.
const bindEphemeral = async (s: Shared, fd: number): Promise<void> => {
  await s.connect.bind(fd, { port: 0 });
};

const connectTo = async (
  s: Shared,
  fd: number,
  port: number,
  signal: AbortSignal,
): Promise<void> => {
  await s.connect.connect(fd, { host: s.options.client.address, port }, { signal });
};

const fig4 = { figure: '4', side: 'server' } as const;

export const FIG4_SERVER: readonly Step<Fig4>[] = [
  {
    ...fig4,
    step: 82,
    name: 'socket',
    what: 'AF_INET, for the first connection',
    run: (c) => {
      c.first = networkSocket(c);
    },
    next: 84,
  },
  {
    ...fig4,
    step: 84,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => bindEphemeral(c, must(c.first, 'socket')),
    next: 86,
  },
  {
    ...fig4,
    step: 86,
    name: 'connect',
    what: "to the client's WKP",
    run: (c, signal) => connectTo(c, must(c.first, 'socket'), c.options.client.wkp, signal),
    next: 90,
  },
  {
    ...fig4,
    step: 90,
    name: 'send',
    what: 'the well-known string',
    run: (c) => sendHello(c.connect, must(c.first, 'socket'), c.sessionId),
    next: 92,
  },
  {
    ...fig4,
    step: 92,
    name: 'receive',
    what: 'the descriptor',
    run: async (c) => {
      c.given = await receiveDescriptor(c.connect, must(c.first, 'socket'));
    },
    next: 94,
  },
  {
    ...fig4,
    step: 94,
    name: 'socket',
    what: 'AF_INET, for the second connection',
    run: (c) => {
      c.second = networkSocket(c);
    },
    next: 96,
  },
  {
    ...fig4,
    step: 96,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => bindEphemeral(c, must(c.second, 'socket')),
    next: 98,
  },
  {
    ...fig4,
    step: 98,
    name: 'connect',
    what: 'to the same WKP',
    run: (c, signal) => connectTo(c, must(c.second, 'socket'), c.options.client.wkp, signal),
    next: 100,
  },
  {
    ...fig4,
    step: 100,
    name: 'send',
    what: 'the descriptor back, over the second connection',
    run: (c) => sendReturn(c.connect, must(c.second, 'socket'), must(c.given, 'descriptor')),
    next: 'done',
  },
];

const fig4a = { figure: '4A', side: 'server' } as const;

export const FIG4A_SERVER: readonly Step<Fig4A>[] = [
  {
    ...fig4a,
    step: 132,
    name: 'socket',
    what: 'AF_INET, for the exchange of the STG',
    run: (c) => {
      c.network = networkSocket(c);
    },
    next: 134,
  },
  {
    ...fig4a,
    step: 134,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => bindEphemeral(c, must(c.network, 'socket')),
    next: 136,
  },
  {
    ...fig4a,
    step: 136,
    name: 'connect',
    what: 'to WKP + 1',
    run: (c, signal) => connectTo(c, must(c.network, 'socket'), c.options.client.wkp + 1, signal),
    next: 138,
  },
  {
    ...fig4a,
    step: 138,
    name: 'send',
    what: 'the length of the STG identifier, then the identifier',
    run: (c) => sendStg(c.connect, must(c.network, 'socket'), c.options.stg, c.sessionId),
    next: 140,
  },
  {
    ...fig4a,
    step: 140,
    name: 'receive',
    what: 'the STP port',
    run: async (c) => {
      c.storagePort = await receiveStoragePort(c.connect, must(c.network, 'socket'));
    },
    next: 142,
  },
  {
    ...fig4a,
    step: 142,
    name: 'STPsocket',
    what: 'for the storage connection',
    run: (c) => {
      c.storage = c.connect.STPsocket();
      c.opened.add(c.storage);
    },
    next: 144,
  },
  {
    ...fig4a,
    step: 144,
    name: 'STPbind',
    what: 'to a dynamic STP port of its own',
    run: async (c) => {
      await c.connect.bind(must(c.storage, 'socket'), { port: 0 });
    },
    next: 146,
  },
  {
    ...fig4a,
    step: 146,
    name: 'STPconnect',
    what: "to the client's STP port",
    run: async (c, signal) => {
      const { port } = must(c.storagePort, 'port');
      await c.connect.connect(must(c.storage, 'socket'), { port }, { signal });
    },
    next: 'done',
  },
];

/** The same where there is no STG: 142 to 146 by the network's calls, to the port that 170 gave. */
export const FIG4A_SERVER_NETWORK: readonly Step<Fig4A>[] = [
  ...FIG4A_SERVER.filter(({ step }) => Number(step) < 142),
  {
    ...fig4a,
    step: 142,
    name: 'socket',
    what: 'AF_INET, for the data connection over the network',
    run: (c) => {
      c.storage = networkSocket(c);
    },
    next: 144,
  },
  {
    ...fig4a,
    step: 144,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => bindEphemeral(c, must(c.storage, 'socket')),
    next: 146,
  },
  {
    ...fig4a,
    step: 146,
    name: 'connect',
    what: "to the client's dynamic port",
    run: (c, signal) => {
      const { port } = must(c.storagePort, 'port');
      return connectTo(c, must(c.storage, 'socket'), port, signal);
    },
    next: 'done',
  },
];

async function establishStorage(shared: Shared, run: RunOptions): Promise<number[]> {
  const table = shared.options.stg === NO_STG ? FIG4A_SERVER_NETWORK : FIG4A_SERVER;
  const context: Fig4A = { ...shared };
  const streams: number[] = [];
  for (let role = 0; role < shared.options.streams; role++) {
    // 132 to 140 once, 142 to 146 once for each stream.
    await runSteps(table, role === 0 ? 132 : 142, context, run);
    const fd = must(context.storage, 'socket');
    await sendPreamble(shared.connect, fd, must(context.storagePort, 'port').token, role);
    streams.push(fd);
  }
  // Its work is done; control and errors have connections of their own.
  const network = must(context.network, 'socket');
  shared.opened.delete(network);
  void shared.connect.close(network).catch(() => abortQuietly(shared.connect, network));
  return streams;
}

const isRefusal = (e: unknown): boolean =>
  e instanceof StepError && e.cause instanceof HandshakeError;

/** Sets a session up. Throws `StepError`, or the signal's reason; nothing of it is left open then. */
export async function serverHandshake(options: ServerHandshakeOptions): Promise<ServerConnections> {
  const { connect, client } = options;
  const failed = new AbortController();
  const opened = new Set<number>();
  const shared: Shared = { connect, options, sessionId: randomBytes(SESSION_ID_BYTES), opened };
  const run: RunOptions = {
    peer: `client ${client.name} at ${client.address}:${client.wkp}`,
    trace: options.trace,
    startMs: monotonicMs(),
    timeoutMs: options.timeoutMs,
    signal: options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal,
  };
  const network: Fig4 = { ...shared };
  const figures = [
    runSteps(FIG4_SERVER, 82, network, run),
    establishStorage(shared, { ...run, peer: `${run.peer} (WKP + 1: ${client.wkp + 1})` }),
  ] as const;
  // A figure that was refused knows why; one that was cut off may only have seen the consequence, so
  // the other has a moment to say more.
  let grace: NodeJS.Timeout | undefined;
  let reason: unknown;
  const onFailure = (e: unknown): void => {
    if (reason === undefined || isRefusal(e)) reason = e;
    if (isRefusal(e)) failed.abort(e);
    else grace ??= setTimeout(() => failed.abort(e), REASON_GRACE_MS);
  };
  for (const figure of figures) figure.catch(onFailure);
  try {
    const [, streams] = await Promise.all(figures);
    assert(streams.length === options.streams, 'a stream is missing');
    return {
      sessionId: shared.sessionId,
      control: must(network.first, 'socket'),
      errors: must(network.second, 'socket'),
      streams,
    };
  } catch {
    await Promise.allSettled(figures);
    for (const fd of opened) abortQuietly(connect, fd);
    options.signal?.throwIfAborted();
    throw reason;
  } finally {
    clearTimeout(grace);
  }
}
