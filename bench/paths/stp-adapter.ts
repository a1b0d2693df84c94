/**
 * What the benchmark uses of the package, in one place. Loaded when an STP path runs, so that the
 * baselines run where the package does not.
 */
import type { Duplex } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import type { Address, OpenRequest } from '../harness/protocol.js';

export interface StreamHandle {
  readonly port: MessagePort;
}

export interface StpSocket extends Duplex {
  detach(): StreamHandle;
}

export interface BlockingStream {
  send(data: Uint8Array): void;
  receive(into: Uint8Array): number;
  reserve(): Uint8Array;
  commit(bytes: number): void;
  peek(): Uint8Array | null;
  consume(bytes: number): void;
  /** Microseconds that a call looks before it sleeps. */
  setSpin(microseconds: number): void;
  readonly segment: { readonly number: number };
}

interface StpServer {
  listen(options: { port: number }): unknown;
  address(): { port: number } | null;
  close(): void;
  once(event: string, listener: (...args: never[]) => void): unknown;
}

interface Host {
  connect(options: { port: number }): StpSocket;
  createServer(options?: { pauseOnConnect?: boolean }): StpServer;
}

interface Package {
  attach(options: { runDirectory?: string; stg: string; name?: string }): Promise<Host>;
  BlockingStream: new (handle: StreamHandle) => BlockingStream;
  native(): SegmentMemory;
}

/** Native helpers on segment memory: offsets count from the start of the segment. */
export interface SegmentMemory {
  /** Sets every byte. */
  fillBytes(segment: number, offset: number, bytes: number, value: number): void;
  /** Sum of little-endian 64-bit words modulo 2^64; `bytes` is a multiple of 8. */
  sumBytes(segment: number, offset: number, bytes: number): bigint | number;
}

export const loadPackage = async (): Promise<Package> =>
  (await import(new URL('../../src/index.js', import.meta.url).href)) as Package;

export const loadSegmentMemory = async (): Promise<SegmentMemory> => (await loadPackage()).native();

const attach = async (open: OpenRequest, side: string): Promise<Host> => {
  const { runDirectory, stg } = open;
  if (runDirectory === undefined) throw new Error('an STP path needs an array');
  return (await loadPackage()).attach({ runDirectory, stg, name: `bench-${side}` });
};

const once = (emitter: Pick<StpServer, 'once'>, event: string): Promise<unknown> =>
  new Promise((resolve, reject) => {
    emitter.once(event, resolve as never);
    if (event !== 'error') emitter.once('error', reject as never);
  });

/** Listens on a dynamic port, tells it, and takes one connection. */
export async function acceptOne(
  open: OpenRequest,
  listening: (address: Address) => void,
  options: { pauseOnConnect: boolean },
): Promise<StpSocket> {
  const host = await attach(open, 'receiver');
  const server = host.createServer(options);
  const ready = once(server, 'listening');
  const connection = once(server, 'connection');
  server.listen({ port: 0 });
  await ready;
  listening(server.address()?.port ?? 0);
  const socket = (await connection) as StpSocket;
  server.close();
  return socket;
}

export async function connectOne(open: OpenRequest, port: Address): Promise<StpSocket> {
  const host = await attach(open, 'sender');
  const socket = host.connect({ port: Number(port) });
  await once(socket as unknown as StpServer, 'connect');
  return socket;
}
