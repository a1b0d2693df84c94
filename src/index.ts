/**
 * The library: sockets through a storage array's memory.
 */

export {
  BlockingConnect,
  type BlockingConnectOptions,
  type BlockingOptions,
} from './connect/blocking-connect.js';
export {
  STPaccept,
  STPbind,
  STPclose,
  STPconnect,
  STPdial,
  STPgetpeername,
  STPgetsockname,
  STPgetsockopt,
  STPlisten,
  STPpoll,
  STPrecv,
  STPsend,
  STPserve,
  STPsetsockopt,
  STPshutdown,
  STPsocket,
} from './connect/stp-calls.js';
export * from './connect/stp-connect.js';
export type { LoopCounters } from './memory/event-loop.js';
export { native } from './native.js';
export type { ConnectOptions, ListenOptions, StpSocketOptions } from './socket/arguments.js';
export { BlockingStream } from './socket/blocking-stream.js';
export type { FileTransferOptions } from './socket/file-transfer.js';
export { type AttachOptions, attach, Host } from './socket/host.js';
export { Page } from './socket/page.js';
export {
  onRecords,
  RecordDecoder,
  RecordEncoder,
  type RecordOptions,
  RecordReceiver,
  RecordSender,
  RecordWriter,
  recordsOf,
} from './socket/records.js';
export { type StpDrop, StpServer, type StpServerOptions } from './socket/stp-server.js';
export { StpSocket, type StreamHandle } from './socket/stp-socket.js';
export type { SocketCounters, StreamCounters } from './socket/stream-counters.js';
export type { Peer } from './socket/stream-end.js';
