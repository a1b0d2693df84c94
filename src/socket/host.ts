/** PLACEHOLDER: types only, until the room `socket` is there. */
import { EventEmitter } from 'node:events';
import type { StpServer } from './stp-server.js';
import type { StpSocket } from './stp-socket.js';

export declare class Host extends EventEmitter {
  readonly hostId: number;
  readonly stg: string;
  connect(
    options: { port: number; localPort?: number; allowHalfOpen?: boolean; signal?: AbortSignal },
    onConnect?: () => void,
  ): StpSocket;
  createServer(
    options?: { allowHalfOpen?: boolean; pauseOnConnect?: boolean },
    onConnection?: (socket: StpSocket) => void,
  ): StpServer;
  bind(port: number): Promise<number>;
  unbind(port: number): Promise<void>;
  close(): Promise<void>;
}

export async function attach(_options: {
  runDirectory?: string;
  stg: string;
  name?: string;
}): Promise<Host> {
  throw Object.assign(new Error('ENOSYS: attach() is not there yet'), { code: 'ENOSYS' });
}
