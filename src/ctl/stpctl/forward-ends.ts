/**
 * The two ends of a forward: where connections come from, and where they go. Main thread.
 */
import { connect, createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import { isCoded, messageOf, stpError } from '../../errors.js';
import { BACKLOG_MAX } from '../../limits.js';
import type { Host } from '../../socket/host.js';
import type { StpSocket } from '../../socket/stp-socket.js';
import { plainMessage } from '../command-line.js';
import { type Address, addressText } from './forward-address.js';
import type { ArrayLink } from './forward-array.js';
import { ReadBuffer, type Side } from './forward-relay.js';
import { clearUnixPath, listenUnix } from './forward-unix.js';

type StpAddress = Extract<Address, { kind: 'stp' }>;
type NetAddress = Extract<Address, { kind: 'tcp' | 'unix' }>;

const stpSide = (socket: StpSocket, name: string, reads: ReadBuffer): Side => ({
  input: socket,
  output: socket,
  reads,
  name,
  reset: () => socket.resetAndDestroy(),
});

const netSide = (
  socket: Socket,
  kind: NetAddress['kind'],
  name: string,
  reads?: ReadBuffer,
): Side => ({
  input: socket,
  output: socket,
  reads,
  name,
  reset: () => {
    /* A Unix socket has no reset: its peer sees an end, or EPIPE when it writes. */
    if (kind === 'tcp' && !socket.destroyed && !socket.connecting) socket.resetAndDestroy();
    else socket.destroy();
  },
});

/**
 * Node reads into a buffer of ours where it connects (`onread`), and has no such option for what it
 * accepts. The constructor that it uses for both has one: it gets the accepted handle. Where a Node
 * has no such handle, the socket stays as it is.
 */
function withReadBuffer(accepted: Socket, reads: ReadBuffer): Socket | undefined {
  const holder = accepted as Socket & { _handle?: { useUserBuffer?: unknown } | null };
  const handle = holder._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  const { onread } = reads;
  const options = { handle, onread, allowHalfOpen: true, pauseOnCreate: true };
  const socket = new Socket(options as SocketConstructorOpts);
  holder._handle = null;
  accepted.destroy();
  return socket;
}

// --- where connections come from -----------------------------------------------------------------

export interface Listener {
  /** The address with the port it has really got. */
  readonly address: Address;
  /** Takes no more connections; those that stand are not touched. */
  close(): void;
}

export interface ListenerOptions {
  /** Mode of a Unix socket's file. */
  readonly mode: number;
  readonly onSide: (side: Side) => void;
  readonly say: (line: string) => void;
}

function listenError(address: Address, error: Error): Error {
  const code = isCoded(error) ? error.code : 'EIO';
  const at = `cannot listen on ${addressText(address)}`;
  const why: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process listens there; stop it, or choose another port',
    EACCES: 'this user may not; ports below 1024 need root, a path needs a directory of ours',
    EADDRNOTAVAIL: 'this machine has no such address; see: ip address',
    ENOTFOUND: 'no such host name',
  };
  return stpError(code, `${at}: ${why[code] ?? plainMessage(error)}`);
}

const listening = (server: Server, start: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    start();
  });

/** @throws what clearUnixPath and listen(2) give, with what to do about it */
export async function listenNet(
  address: NetAddress,
  { mode, onSide, say }: ListenerOptions,
): Promise<Listener> {
  const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true };
  const server = createServer(options, (socket) => {
    const { remoteAddress: host = '?', remotePort: port = 0 } = socket;
    const peer = address.kind === 'tcp' ? ({ kind: 'tcp', host, port } as const) : address;
    const reads = new ReadBuffer();
    const own = withReadBuffer(socket, reads);
    if (own === undefined) onSide(netSide(socket, address.kind, addressText(peer)));
    else onSide(netSide(own, address.kind, addressText(peer), reads));
  });
  if (address.kind === 'unix') await clearUnixPath(address.path);
  try {
    await listening(server, () => {
      if (address.kind === 'unix') listenUnix(server, address.path, mode, BACKLOG_MAX);
      else server.listen({ host: address.host, port: address.port, backlog: BACKLOG_MAX });
    });
  } catch (error) {
    throw listenError(address, error as Error);
  }
  /* Of accept(2), such as EMFILE: that connection is lost, the next may work. */
  server.on('error', (error) => {
    const why = isCoded(error) && error.code === 'EMFILE' ? NO_DESCRIPTOR : messageOf(error);
    say(`a connection to ${addressText(address)} could not be accepted: ${why}`);
  });
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  return {
    address: address.kind === 'tcp' ? { ...address, port } : address,
    close: () => void server.close(),
  };
}

/** Listens in the STG, and again after each new attachment, on the same port. */
export async function listenStp(
  address: StpAddress,
  link: ArrayLink,
  { onSide, say }: ListenerOptions,
): Promise<Listener> {
  let port = address.port;
  let close: () => void = () => {};
  const start = (host: Host): Promise<void> =>
    new Promise((resolve, reject) => {
      const server = host.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
        link.track(socket);
        const { peer, remotePort = 0 } = socket;
        const who = `host ${peer?.hostId ?? '?'}, uid ${peer?.uid ?? '?'}`;
        const reads = new ReadBuffer();
        socket.readInto(reads.onread);
        onSide(stpSide(socket, `stp:${address.stg}:${remotePort} (${who})`, reads));
      });
      server.once('error', reject);
      server.listen({ port, backlog: BACKLOG_MAX }, () => {
        port = server.address()?.port ?? port;
        resolve();
      });
      close = () => server.close();
    });
  await start(link.host);
  link.onAttached = (host) => {
    start(host).then(
      () => say(`listening on stp:${address.stg}:${port} again`),
      (error: Error) =>
        say(`cannot listen on stp:${address.stg}:${port} again: ${plainMessage(error)}`),
    );
  };
  return {
    address: { ...address, port },
    close: () => {
      link.onAttached = () => {};
      close();
    },
  };
}

// --- where they go -------------------------------------------------------------------------------

export interface Target {
  readonly side: Side;
  /** Settles when it is connected, or cannot be. `side.reset()` ends the try. */
  readonly connected: Promise<void>;
}

type Hints = Readonly<Record<string, string>>;

const HINTS: Readonly<Record<'stp' | 'tcp' | 'unix', Hints>> = {
  stp: { ECONNREFUSED: "nobody listens there; start the server, see 'stpctl socket list'" },
  tcp: {
    ECONNREFUSED: 'nobody listens there; start the server, or correct the address',
    ENOTFOUND: 'no such host name; correct the address',
    ECONNRESET: 'it closed the connection at once; see what the server says',
  },
  unix: {
    ENOENT: 'there is no such socket; start the server it belongs to',
    ECONNREFUSED: 'nobody listens there; start the server it belongs to',
    EACCES: 'this user may not connect to it; see its mode with: ls -l',
    EAGAIN: 'its backlog is full; the server does not keep up',
  },
};

const NO_DESCRIPTOR = "no descriptor is free; raise 'ulimit -n', or lower --max-connections";

function connectError(address: StpAddress | NetAddress, error: Error): Error {
  const code = isCoded(error) ? error.code : 'EIO';
  const hint = code === 'EMFILE' ? NO_DESCRIPTOR : HINTS[address.kind][code];
  const why = hint ?? plainMessage(error);
  return stpError(code, `${addressText(address)}: ${why}`);
}

function target(address: StpAddress | NetAddress, socket: Socket | StpSocket, side: Side): Target {
  socket.pause(); /* until it is joined: there is nobody yet to take what it reads */
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (error: Error) => reject(connectError(address, error)));
    socket.once('close', () => reject(stpError('ECANCELED', `${side.name}: given up`)));
  });
  return { side, connected };
}

/** Starts to connect to a TCP port or a Unix socket. */
export function connectNet(address: NetAddress): Target {
  const reads = new ReadBuffer();
  const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, onread: reads.onread };
  const socket = connect({ ...options, ...address });
  return target(address, socket, netSide(socket, address.kind, addressText(address), reads));
}

/** Starts to connect to a port of the link's STG. */
export function connectStp(address: StpAddress, link: ArrayLink): Target {
  const reads = new ReadBuffer();
  const { onread } = reads;
  const socket = link.host.connect({ port: address.port, allowHalfOpen: true, onread });
  link.track(socket);
  return target(address, socket, stpSide(socket, addressText(address), reads));
}
