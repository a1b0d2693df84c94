/**
 * The library: sockets through a storage array's memory. `attach` gives a `Host`, which stands for
 * `node:net`; `BlockingStream` is for worker threads (docs/pages.md), `STPConnect` and
 * `BlockingConnect` are one set of calls over the array and over TCP (docs/stpconnect.md). `native`
 * is the addon, for those who know the layout: its face may change in any version.
 *
 * Objects belong to the thread that made them. Errors have a POSIX `code`.
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
export { type CopyChoice, native } from './native.js';
export type { ConnectOptions, ListenOptions, StpSocketOptions } from './socket/arguments.js';
export { BlockingStream } from './socket/blocking-stream.js';
export type { FileTransferOptions } from './socket/file-transfer.js';
export { type AttachOptions, attach, Host, type HostCounters } from './socket/host.js';
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
