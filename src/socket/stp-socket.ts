/** PLACEHOLDER: types only, until the room `socket` is there. */
import type { Duplex } from 'node:stream';

export interface StreamHandle {
  readonly port: import('node:worker_threads').MessagePort;
}

export declare class StpSocket extends Duplex {
  readonly connecting: boolean;
  readonly localPort: number;
  readonly remotePort: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly peer: { hostId: number; uid: number; gid: number; pid: number };
  readonly stg: string;
  destroySoon(): void;
  resetAndDestroy(): this;
  setNoDelay(on?: boolean): this;
  setKeepAlive(on?: boolean, delayMs?: number): this;
  detach(): StreamHandle;
}
