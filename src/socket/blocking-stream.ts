/** PLACEHOLDER of the socket room; dropped at the merge. */
import type { StreamHandle } from './stp-socket.js';

const absent = (): never => {
  throw new Error('placeholder');
};

export class BlockingStream {
  constructor(readonly handle: StreamHandle) {}
  send(_data: Uint8Array): void {
    absent();
  }
  receive(_into: Uint8Array): number {
    return absent();
  }
  reserve(): Uint8Array {
    return absent();
  }
  commit(_bytes: number): void {
    absent();
  }
  peek(): Uint8Array | null {
    return absent();
  }
  consume(_bytes: number): void {
    absent();
  }
  sendFile(_fd: number, _position: number, _bytes: number): number {
    return absent();
  }
  receiveToFile(_fd: number, _position: number, _bytes: number): number {
    return absent();
  }
  shutdown(): void {
    absent();
  }
  close(): void {
    absent();
  }
  abort(): void {
    absent();
  }
}
