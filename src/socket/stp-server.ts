/** PLACEHOLDER: types only, until the room `socket` is there. */
import type { EventEmitter } from 'node:events';

export declare class StpServer extends EventEmitter {
  listen(options: { port: number; backlog?: number }, onListening?: () => void): this;
  address(): { port: number; stg: string } | null;
  close(onClosed?: (error?: Error) => void): this;
}
