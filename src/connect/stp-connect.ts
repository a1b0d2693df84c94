/** PLACEHOLDER of the connect room (storage sockets are loopback TCP here); dropped at the merge. */
import net from 'node:net';
import tls from 'node:tls';
import { stpError } from '../errors.js';
import type { Host } from '../socket/host.js';
import type { StreamHandle } from '../socket/stp-socket.js';

export const AF_INET = 2;
export const AF_STP = 45;

export type PskOption =
  | { identity: string; key: Buffer }
  | { lookup: (identity: string) => Buffer | undefined };

interface Entry {
  family: number;
  local: { host?: string | undefined; port: number };
  psk?: PskOption;
  socket?: net.Socket;
  server?: net.Server;
  backlog: net.Socket[];
  waiters: ((s: net.Socket) => void)[];
}

const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256';

export class STPConnect {
  #next = 10;
  #entries = new Map<number, Entry>();
  constructor(readonly options: { host?: Host } = {}) {}

  #get(fd: number): Entry {
    const e = this.#entries.get(fd);
    if (!e) throw stpError('EBADF', `descriptor ${fd}`);
    return e;
  }
  socket(family: number): number {
    const fd = this.#next++;
    this.#entries.set(fd, { family, local: { port: 0 }, backlog: [], waiters: [] });
    return fd;
  }
  STPsocket(): number {
    return this.socket(AF_STP);
  }
  setsockopt(fd: number, _name: 'psk', value: PskOption): void {
    this.#get(fd).psk = value;
  }
  async bind(fd: number, a: { host?: string; port: number }): Promise<void> {
    this.#get(fd).local = { host: a.host, port: a.port };
  }
  async listen(fd: number, backlog = 16): Promise<void> {
    const e = this.#get(fd);
    const onSocket = (s: net.Socket): void => {
      s.on('error', () => {});
      const w = e.waiters.shift();
      if (w) w(s);
      else e.backlog.push(s);
    };
    const psk = e.psk;
    if (psk && 'lookup' in psk) {
      e.server = tls.createServer(
        {
          ciphers: CIPHERS,
          minVersion: 'TLSv1.3',
          pskCallback: (_s, identity) => psk.lookup(identity) ?? null,
        },
        onSocket,
      );
    } else e.server = net.createServer(onSocket);
    const server = e.server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: e.local.host ?? '127.0.0.1', port: e.local.port, backlog }, resolve);
    });
  }
  async accept(fd: number, o: { signal?: AbortSignal } = {}): Promise<number> {
    const e = this.#get(fd);
    const s =
      e.backlog.shift() ??
      (await new Promise<net.Socket>((resolve, reject) => {
        e.waiters.push(resolve);
        o.signal?.addEventListener('abort', () => {
          e.waiters = e.waiters.filter((w) => w !== resolve);
          reject(o.signal?.reason);
        });
        e.server?.once('close', () => reject(stpError('ECONNABORTED', 'closed')));
      }));
    const n = this.socket(e.family);
    this.#get(n).socket = s;
    return n;
  }
  async connect(
    fd: number,
    a: { host?: string; port: number },
    o: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const e = this.#get(fd);
    const psk = e.psk;
    await new Promise<void>((resolve, reject) => {
      const host = a.host ?? '127.0.0.1';
      if (psk && 'identity' in psk) {
        e.socket = tls.connect(
          {
            host,
            port: a.port,
            ciphers: CIPHERS,
            minVersion: 'TLSv1.3',
            checkServerIdentity: () => undefined,
            pskCallback: () => ({ psk: psk.key, identity: psk.identity }),
          },
          resolve,
        );
      } else e.socket = net.connect({ host, port: a.port }, resolve);
      e.socket.on('error', reject);
      o.signal?.addEventListener('abort', () => {
        e.socket?.destroy();
        reject(o.signal?.reason);
      });
    });
  }
  async send(fd: number, data: Uint8Array): Promise<void> {
    const s = this.#get(fd).socket;
    if (!s) throw stpError('ENOTCONN', '');
    await new Promise<void>((resolve, reject) => {
      s.write(data, (e) => (e ? reject(e) : resolve()));
    });
  }
  async receive(fd: number, max: number): Promise<Buffer> {
    const s = this.#get(fd).socket;
    if (!s) throw stpError('ENOTCONN', '');
    for (;;) {
      const b = (s.read(Math.min(max, s.readableLength || max)) ?? s.read()) as Buffer | null;
      if (b) {
        if (b.length > max) {
          s.unshift(b.subarray(max));
          return b.subarray(0, max);
        }
        return b;
      }
      if (s.readableEnded || s.destroyed) {
        if (s.errored) throw s.errored;
        return Buffer.alloc(0);
      }
      await new Promise<void>((resolve) => {
        const done = (): void => {
          s.off('readable', done);
          s.off('end', done);
          s.off('close', done);
          resolve();
        };
        s.once('readable', done);
        s.once('end', done);
        s.once('close', done);
      });
    }
  }
  async receiveExactly(fd: number, n: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let have = 0;
    while (have < n) {
      const b = await this.receive(fd, n - have);
      if (b.length === 0) throw stpError('ECONNRESET', `the peer ended after ${have} of ${n} bytes`);
      parts.push(b);
      have += b.length;
    }
    return Buffer.concat(parts);
  }
  getsockname(fd: number): { host: string; port: number } {
    const e = this.#get(fd);
    const a = (e.server?.address() ?? e.socket?.address()) as net.AddressInfo;
    return { host: a.address, port: a.port };
  }
  getpeername(fd: number): { host: string; port: number } {
    const s = this.#get(fd).socket;
    return { host: s?.remoteAddress ?? '', port: s?.remotePort ?? 0 };
  }
  async shutdown(fd: number): Promise<void> {
    this.#get(fd).socket?.end();
  }
  async close(fd: number): Promise<void> {
    const e = this.#get(fd);
    this.#entries.delete(fd);
    e.server?.close();
    for (const s of e.backlog) s.destroy();
    e.socket?.end();
    e.socket?.resume();
    setTimeout(() => e.socket?.destroy(), 200).unref();
  }
  abort(fd: number): void {
    const e = this.#get(fd);
    this.#entries.delete(fd);
    if (e.socket instanceof tls.TLSSocket) e.socket.destroy();
    else e.socket?.resetAndDestroy();
    e.server?.close();
  }
  detach(_fd: number): StreamHandle {
    throw new Error('placeholder');
  }
  traffic(): {
    inet: { sent: number; received: number };
    stp: { sent: number; received: number };
  } {
    return { inet: { sent: 0, received: 0 }, stp: { sent: 0, received: 0 } };
  }
  async closeAll(): Promise<void> {
    for (const fd of [...this.#entries.keys()]) await this.close(fd);
  }
}
