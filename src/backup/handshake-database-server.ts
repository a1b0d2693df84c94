/**
 * Figs. 5 and 5A, column 220: the server process, which a client calls on its WKP.
 *
 * Rows up to 224 belong to the port (`DatabaseServer` runs its door); the rows after it belong to
 * one session. The server calls back at the address that its configuration has for the host, never
 * at one that a caller names. After 246 no network connection is left. Event loop only.
 */
import { assert } from '../assert.js';
import { monotonicMs } from '../clock.js';
import { AF_INET, type STPConnect } from '../connect/stp-connect.js';
import { messageOf } from '../errors.js';
import { type Arrival, abortQuietly, refuse } from './door.js';
import { closeBoth } from './handshake-database-client.js';
import { type RunOptions, runSteps, type Step, type Trace } from './handshake-steps.js';
import { UNIDENTIFIED_MAX } from './limits.js';
import type { Mailbox } from './mailbox.js';
import {
  type DatabaseCall,
  ROLE_CONTROL,
  receiveStoragePort,
  type StoragePort,
  sendDescriptor,
  sendPreamble,
  sendStg,
} from './wire.js';

/** The rows of the port itself, which stand before the figure: it "waits on its WKP". */
export interface ServerPort {
  readonly network: STPConnect;
  readonly address: string;
  readonly wkp: number;
  /** The key of a host by its name; null sends in the clear. */
  readonly lookup: ((identity: string) => Buffer | undefined) | null;
  readonly onRefused: (peer: string, reason: string) => void;
  listener?: number;
}

export async function listenOnWkp(p: ServerPort): Promise<number> {
  const fd = p.network.socket(AF_INET);
  p.listener = fd;
  const { lookup, onRefused } = p;
  if (lookup) {
    const refused = (e: Error): void => onRefused('a caller', e.message);
    p.network.setsockopt(fd, 'psk', { lookup, refused });
  }
  await p.network.bind(fd, { host: p.address, port: p.wkp });
  await p.network.listen(fd, UNIDENTIFIED_MAX);
  return fd;
}

export interface ServerDatabaseOptions {
  /** Has the WKP's connection. */
  readonly network: STPConnect;
  /** Both mechanisms, attached to the STG; of this session alone. */
  readonly connect: STPConnect;
  readonly arrival: Arrival<DatabaseCall>;
  /** Name under which the pair's key is known to the client. */
  readonly identity: string;
  readonly client: {
    readonly name: string;
    readonly address: string;
    readonly key: Buffer | null;
  };
  readonly stg: string;
  readonly trace?: Trace | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface ServerDatabaseConnections {
  readonly data: number;
  readonly control: number;
}

export interface ServerDatabase {
  readonly calls: Pick<Mailbox<Arrival<DatabaseCall>>, 'take'>;
  readonly options: ServerDatabaseOptions;
  readonly connect: STPConnect;
  arrival?: Arrival<DatabaseCall>;
  dynamic?: number;
  storagePort?: StoragePort;
  data?: number;
  control?: number;
}

const must = <T>(value: T | undefined, what: string): T => {
  assert(value !== undefined, `a handshake row ran before its ${what} was there`);
  return value;
};

const both = (c: ServerDatabase): number[] => [
  must(c.data, 'socket'),
  must(c.control, 'control socket'),
];

const fig5 = { figure: '5', side: 'server' } as const;
const fig5a = { figure: '5A', side: 'server' } as const;

export const FIG5_SERVER: readonly Step<ServerDatabase>[] = [
  {
    ...fig5,
    step: 222,
    name: 'accept',
    what: 'a connection on the WKP',
    run: async (c, signal) => {
      c.arrival = await c.calls.take(signal);
    },
    next: 224,
  },
  {
    ...fig5,
    step: 224,
    name: 'receive',
    what: 'the dynamic port',
    run: (c) => assert(must(c.arrival, 'call').opening.port > 0, 'the door let a stranger in'),
    next: 226,
  },
  {
    ...fig5,
    step: 226,
    name: 'send',
    what: 'that the connection stands',
    run: async (c) => {
      const { fd, opening } = must(c.arrival, 'call');
      const { port: descriptor, token } = opening;
      await sendDescriptor(c.options.network, fd, { descriptor, token });
    },
    next: 228,
  },
  {
    ...fig5,
    step: 228,
    name: 'socket',
    what: 'AF_INET, for the dynamic port',
    run: (c) => {
      c.dynamic = c.connect.socket(AF_INET);
      const { client, identity } = c.options;
      if (client.key) c.connect.setsockopt(c.dynamic, 'psk', { identity, key: client.key });
    },
    next: 230,
  },
  {
    ...fig5,
    step: 230,
    name: 'bind',
    what: 'to an ephemeral port',
    run: (c) => c.connect.bind(must(c.dynamic, 'socket'), { port: 0 }),
    next: 234,
  },
  {
    ...fig5,
    step: 234,
    name: 'connect',
    what: 'to the dynamic port',
    run: async (c, signal) => {
      const { port } = must(c.arrival, 'call').opening;
      const { address: host } = c.options.client;
      await c.connect.connect(must(c.dynamic, 'socket'), { host, port }, { signal });
    },
    next: 236,
  },
  {
    ...fig5,
    step: 236,
    name: 'send',
    what: 'the STG to use',
    run: async (c) => {
      const { token } = must(c.arrival, 'call').opening;
      await sendStg(c.connect, must(c.dynamic, 'socket'), c.options.stg, token);
    },
    next: 238,
  },
  {
    ...fig5a,
    step: 238,
    name: 'receive',
    what: 'the STP port',
    run: async (c) => {
      c.storagePort = await receiveStoragePort(c.connect, must(c.dynamic, 'socket'));
    },
    next: 240,
  },
  {
    ...fig5a,
    step: 240,
    name: 'STPsocket',
    what: 'for data and for control',
    run: (c) => {
      c.data = c.connect.STPsocket();
      c.control = c.connect.STPsocket();
    },
    next: 242,
  },
  {
    ...fig5a,
    step: 242,
    name: 'STPbind',
    what: 'to dynamic STP ports of its own',
    run: async (c) => {
      for (const fd of both(c)) await c.connect.bind(fd, { port: 0 });
    },
    next: 244,
  },
  {
    ...fig5a,
    step: 244,
    name: 'STPconnect',
    what: "to the client's STP port, for data and for control",
    run: async (c, signal) => {
      const { port, token } = must(c.storagePort, 'port');
      const roles = [0, ROLE_CONTROL];
      for (const [i, fd] of both(c).entries()) {
        await c.connect.connect(fd, { port }, { signal });
        await sendPreamble(c.connect, fd, token, roles[i] as number);
      }
    },
    next: 246,
  },
  {
    ...fig5a,
    step: 246,
    name: 'close',
    what: 'the dynamic connection and the WKP connection',
    run: async (c) => {
      await Promise.all([
        closeBoth(c.connect, must(c.dynamic, 'socket')),
        closeBoth(c.options.network, must(c.arrival, 'call').fd),
      ]);
    },
    next: 'done',
  },
];

/** Sets a session up. Throws `StepError`, or the signal's reason; nothing is left open then. */
export async function serverDatabaseHandshake(
  options: ServerDatabaseOptions,
): Promise<ServerDatabaseConnections> {
  const { connect, network, arrival, client } = options;
  const calls = { take: async () => arrival };
  const c: ServerDatabase = { connect, options, calls };
  const run: RunOptions = {
    peer: `client ${client.name} at ${client.address}:${arrival.opening.port}`,
    trace: options.trace,
    startMs: monotonicMs(),
    timeoutMs: options.timeoutMs,
    signal: options.signal,
  };
  try {
    await runSteps(FIG5_SERVER, 222, c, run);
    return { data: must(c.data, 'stream'), control: must(c.control, 'stream') };
  } catch (e) {
    // The client waits for the call: it should not have to guess why none comes.
    await refuse(network, arrival.fd, messageOf(e));
    for (const fd of [c.dynamic, c.data, c.control]) {
      if (fd !== undefined) abortQuietly(connect, fd);
    }
    options.signal?.throwIfAborted();
    throw e;
  }
}
