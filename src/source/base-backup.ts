/**
 * PostgreSQL's own base backup, over its replication protocol (BASE_BACKUP, version 15 and later).
 *
 * One COPY carries everything, CopyData by CopyData, each with its kind in the first byte: `n` a new
 * archive (its name, and a tablespace's directory), `d` bytes of that archive (a tar without an
 * end), `p` progress, `m` the backup's manifest. This file parts the archives into members; it does
 * not look into their data. The server is believed no more than a peer: a header is checked before
 * anything is made of it.
 *
 * Until the COPY begins, pg has the socket. Then this thread reads it itself and blocks there: data of
 * large files goes from the socket to where the handler wants it (native/copy_data.cc), the rest
 * through a buffer; what is no CopyData is given to pg. Under TLS pg reads all of it.
 *
 * Worker threads: the handler may block, too.
 *
 * Source: PostgreSQL 15 documentation, 55.4 Streaming Replication Protocol.
 */
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { codeOfErrno, errnoOfCode, stpError } from '../errors.js';
import { WAIT_SLICE_MS } from '../limits.js';
import { native } from '../native.js';
import type { EntryType } from './names.js';
import type { PostgresqlSettings } from './postgresql-connection.js';

const BLOCK_BYTES = 512;
const VERSION_MIN = 150_000;

export interface BaseMember {
  readonly name: string;
  readonly type: EntryType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly link: string | null;
}

/** Data that is read from where it is. */
export interface DataSource {
  /** Puts up to `bytes` at a place; 0 where what follows comes another way. */
  read(into: Uint8Array, at: number, bytes: number): number;
}

/** Told in order; `data` exactly `size` bytes after each member that has some. */
export interface BaseBackupHandler {
  /** How much there will be, about, before anything else: the server's estimate, without WAL. */
  estimate(bytes: number): void;
  /** @param tablespace its object id and directory; null for the data directory itself */
  archive(tablespace: { readonly oid: string; readonly directory: string } | null): void;
  member(member: BaseMember): void;
  data(bytes: Uint8Array): void;
  /**
   * As `data`, from where it is: reads up to `bytes`, which may be fewer, and says how many.
   */
  dataFrom(from: DataSource, bytes: number): number;
  /** A piece of the backup's manifest, after all archives. */
  manifest(bytes: Uint8Array): void;
}

export interface BaseBackupOptions {
  /** A connection on which nothing was said yet. It stays the caller's, who ends it afterwards. */
  readonly fd: number;
  /** A duplicate of it, which is closed here. */
  readonly own: number;
  readonly settings: PostgresqlSettings;
  readonly label: string;
  /** Checkpoint at once, rather than when the server has time for it. */
  readonly fast: boolean;
}

const damaged = (what: string): Error =>
  stpError('EPROTO', `PostgreSQL sent a base backup that this program cannot read: ${what}`);

const [SPACE, ZERO, SEVEN, DIGITS_MAX] = [0x20, 0x30, 0x37, 12];

/** Octal digits with spaces around them, up to a zero byte. */
function octal(block: Buffer, at: number, bytes: number, what: string): number {
  const first = block[at] as number;
  let value = 0;
  // GNU's form for what octal digits cannot say.
  if ((first & 0x80) !== 0) {
    value = first & 0x7f;
    for (let i = 1; i < bytes; i++) value = value * 256 + (block[at + i] as number);
    if (Number.isSafeInteger(value)) return value;
    throw damaged(`${what} is too large`);
  }
  let [i, end] = [at, at + bytes];
  while (i < end && block[i] === SPACE) i++;
  const digitsAt = i;
  for (; i < end; i++) {
    const byte = block[i] as number;
    if (byte < ZERO || byte > SEVEN) break;
    value = value * 8 + byte - ZERO;
  }
  const digits = i - digitsAt;
  while (i < end && block[i] === SPACE) i++;
  if (i < end && block[i] === 0) end = i;
  if (i === end && digits > 0 && digits <= DIGITS_MAX) return value;
  throw damaged(`${what} is not an octal number`);
}

function textOf(block: Buffer, at: number, bytes: number): string {
  const field = block.subarray(at, at + bytes);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? bytes : end);
}

const types: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '\0': 'file',
  '2': 'symlink',
  '5': 'directory',
};

/** One header block; null for a block of zeros. Offsets: POSIX.1-2017, ustar Interchange Format. */
export function memberOf(block: Buffer): BaseMember | null {
  if (block[0] === 0 && block.every((byte) => byte === 0)) return null;
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += block[i] as number;
  if (octal(block, 148, 8, 'a checksum') !== sum) throw damaged('a checksum is wrong');
  const type = types[String.fromCharCode(block[156] as number)];
  const prefix = textOf(block, 345, 155);
  const short = textOf(block, 0, 100);
  const name = (prefix === '' ? short : `${prefix}/${short}`)
    .replace(/^\.\//, '')
    .replace(/\/$/, '');
  if (type === undefined) throw damaged(`${name} is neither a file, a directory nor a symlink`);
  return {
    name,
    type,
    mode: octal(block, 100, 8, 'a mode') & 0o7777,
    uid: octal(block, 108, 8, 'an owner'),
    gid: octal(block, 116, 8, 'a group'),
    size: type === 'file' ? octal(block, 124, 12, 'a size') : 0,
    mtimeSeconds: octal(block, 136, 12, 'a time'),
    link: type === 'symlink' ? textOf(block, 157, 100) : null,
  };
}

type TarHandler = Pick<BaseBackupHandler, 'member' | 'data' | 'dataFrom'>;

/** Parts one archive, however its bytes are cut. */
export class TarParser {
  readonly #handler: TarHandler;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockBytes = 0;
  #data = 0;
  #padding = 0;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const left = chunk.length - at;
      if (this.#data > 0) {
        const bytes = Math.min(left, this.#data);
        this.#handler.data(chunk.subarray(at, at + bytes));
        this.#data -= bytes;
        at += bytes;
      } else if (this.#padding > 0) {
        const bytes = Math.min(left, this.#padding);
        this.#padding -= bytes;
        at += bytes;
      } else {
        const bytes = Math.min(left, BLOCK_BYTES - this.#blockBytes);
        this.#block.set(chunk.subarray(at, at + bytes), this.#blockBytes);
        this.#blockBytes += bytes;
        at += bytes;
        if (this.#blockBytes === BLOCK_BYTES) this.#header();
      }
    }
  }

  /** Bytes of the member at hand that are still to come. */
  get dataLeft(): number {
    return this.#data;
  }

  /** As `push`, of data of the member at hand only, from where it is. */
  pushFrom(from: DataSource): void {
    this.#data -= this.#handler.dataFrom(from, this.#data);
  }

  #header(): void {
    this.#blockBytes = 0;
    const member = memberOf(this.#block);
    if (member === null) return;
    this.#data = member.size;
    this.#padding = (BLOCK_BYTES - (member.size % BLOCK_BYTES)) % BLOCK_BYTES;
    this.#handler.member(member);
  }

  /** @throws EPROTO if the archive stops inside a member */
  end(): void {
    if (this.#data > 0 || this.#padding > 0 || this.#blockBytes > 0) {
      throw damaged('an archive ends inside a member');
    }
  }
}

const [NEW_ARCHIVE, DATA, MANIFEST, PROGRESS] = [0x6e, 0x64, 0x6d, 0x70];

/** Takes CopyData messages; the state of one base backup. */
export class BaseBackupReader {
  readonly #handler: BaseBackupHandler;
  #tar: TarParser | null = null;
  #inManifest = false;
  manifestSeen = false;

  constructor(handler: BaseBackupHandler) {
    this.#handler = handler;
  }

  /** Bytes of a message of kind DATA, as many as are there. */
  data(bytes: Uint8Array): void {
    if (this.#inManifest) this.#handler.manifest(bytes);
    else if (this.#tar) this.#tar.push(bytes);
    else throw damaged('data of no archive');
  }

  /** Bytes of a file that will come as data and nothing else; 0 where that is not known. */
  get fileLeft(): number {
    return this.#inManifest ? 0 : (this.#tar?.dataLeft ?? 0);
  }

  /** Data of that file, from where it is. */
  dataFrom(from: DataSource): void {
    this.#tar?.pushFrom(from);
  }

  /** A message of any kind, whole. */
  copyData(chunk: Buffer): void {
    const body = chunk.subarray(1);
    const kind = chunk[0];
    if (kind === DATA) this.data(body);
    else if (kind === NEW_ARCHIVE) this.#archive(body);
    else if (kind === MANIFEST) {
      this.#endArchive();
      this.#inManifest = true;
      this.manifestSeen = true;
    } else if (kind !== PROGRESS) throw damaged(`a message of kind ${kind}`);
  }

  end(): void {
    this.#endArchive();
    if (!this.manifestSeen) throw damaged('its manifest is missing');
  }

  #endArchive(): void {
    this.#tar?.end();
    this.#tar = null;
  }

  #archive(body: Buffer): void {
    this.#endArchive();
    const [name = '', directory = ''] = body.toString('utf8').split('\0');
    const oid = /^(\d{1,10})\.tar$/.exec(name)?.[1];
    if (name !== 'base.tar' && oid === undefined) throw damaged('an archive of another name');
    this.#handler.archive(oid === undefined ? null : { oid, directory });
    this.#tar = new TarParser(this.#handler);
  }
}

const [COPY_DATA, COPY_OUT, HEADER_BYTES, KIND_BYTES] = [0x64, 0x48, 5, 1];
/** Of a message that is no data: a name and a directory, or a number. */
const SMALL_MESSAGE_BYTES_MAX = 1 << 16;
/** What is read at a time; PostgreSQL's messages have 32 KiB of data. */
const SOCKET_BYTES = 1 << 18;
/** Files with less to come go through the buffer, with what is around them. */
const DIRECT_BYTES_MIN = 1 << 15;
/** A header, and data that may be read along with it: kAsideBytes of native/copy_data.cc. */
export const COPY_ASIDE_BYTES = HEADER_BYTES + KIND_BYTES + (1 << 15);

/**
 * Parts what comes from the server: data of the base backup goes to the reader as it lies in the
 * buffer, everything else to pg, whose parser makes an object and a copy of each message.
 * Source: PostgreSQL 15 documentation, 55.7 Message Formats.
 */
export class MessageSplitter {
  readonly #reader: Pick<BaseBackupReader, 'data' | 'copyData'>;
  readonly #other: (bytes: Buffer) => void;
  readonly #header = Buffer.alloc(HEADER_BYTES + KIND_BYTES);
  #headerBytes = 0;
  #left = 0;
  #target: 'data' | 'small' | 'other' = 'other';
  #small: Buffer[] = [];
  /** The server has said that a COPY begins: what follows is for the reader. */
  isCopying = false;

  constructor(reader: Pick<BaseBackupReader, 'data' | 'copyData'>, other: (bytes: Buffer) => void) {
    this.#reader = reader;
    this.#other = other;
  }

  /**
   * @param bytes valid during the call only
   * @returns how many it has taken: all, but for those that come after the beginning of the COPY
   */
  push(bytes: Buffer): number {
    const isFirst = !this.isCopying;
    let at = 0;
    while (at < bytes.length && !(isFirst && this.isCopying)) {
      if (this.#left === 0) {
        at += this.#takeHeader(bytes, at);
        continue;
      }
      const end = Math.min(bytes.length, at + this.#left);
      this.#left -= end - at;
      this.#take(bytes.subarray(at, end));
      at = end;
    }
    return at;
  }

  /** Bytes of data that the message at hand still has; 0 between messages, -1 inside another one. */
  get dataLeft(): number {
    if (this.#headerBytes > 0) return -1;
    return this.#left === 0 || this.#target === 'data' ? this.#left : -1;
  }

  /** Data was taken elsewhere; so much of a message of data is left. */
  skipTo(dataLeft: number): void {
    this.#target = 'data';
    this.#left = dataLeft;
  }

  #takeHeader(bytes: Buffer, at: number): number {
    const header = this.#header;
    header[this.#headerBytes++] = bytes[at] as number;
    const isCopy = header[0] === COPY_DATA;
    if (this.#headerBytes < HEADER_BYTES + (isCopy ? KIND_BYTES : 0)) return 1;
    const length = header.readUInt32BE(1) - 4;
    if (length < (isCopy ? KIND_BYTES : 0)) throw damaged('a message of no length');
    this.#headerBytes = 0;
    if (!isCopy) {
      this.#target = 'other';
      this.#left = length;
      this.#other(Buffer.from(header.subarray(0, HEADER_BYTES)));
      this.#endOther();
      return 1;
    }
    this.#left = length - KIND_BYTES;
    this.#target = header[HEADER_BYTES] === DATA ? 'data' : 'small';
    if (this.#target === 'small') {
      if (length > SMALL_MESSAGE_BYTES_MAX) throw damaged(`a message of ${length} bytes`);
      this.#small = [Buffer.from(header.subarray(HEADER_BYTES))];
      if (this.#left === 0) this.#reader.copyData(Buffer.concat(this.#small));
    }
    return 1;
  }

  #take(bytes: Buffer): void {
    if (this.#target === 'data') this.#reader.data(bytes);
    else if (this.#target === 'other') {
      this.#other(Buffer.from(bytes));
      this.#endOther();
    } else {
      this.#small.push(Buffer.from(bytes));
      if (this.#left === 0) this.#reader.copyData(Buffer.concat(this.#small));
    }
  }

  #endOther(): void {
    if (this.#left === 0 && this.#header[0] === COPY_OUT) this.isCopying = true;
  }
}

/** A promise, and who settles it. */
class Settled {
  readonly promise: Promise<void>;
  isSettled = false;
  #resolve: () => void = () => {};
  #reject: (e: unknown) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Who waits may come later, or never.
    this.promise.catch(() => {});
  }

  readonly settle = (e?: unknown): void => {
    this.isSettled = true;
    if (e === undefined) this.#resolve();
    else this.#reject(e);
  };
}

/** Where the copied bytes of a socket go once the COPY has begun. */
type CopySink = Pick<BaseBackupReader, 'data' | 'copyData' | 'fileLeft' | 'dataFrom'>;

/** Of a descriptor that is connected: who wants to connect it is told that it is. */
function connectedSocket(options: SocketConstructorOpts): Socket {
  const socket = new Socket(options);
  socket.connect = () => {
    process.nextTick(() => socket.emit('connect'));
    return socket;
  };
  return socket;
}

/**
 * A socket of pg that stops where the COPY begins; from there on it is read by a thread that blocks.
 */
class CopySocket {
  readonly socket: Socket;
  /** Not the socket's own, whose number would be somebody else's if pg destroyed it meanwhile. */
  readonly #fd: number;
  /** The COPY has begun, or never will. */
  readonly begun = new Settled();
  readonly #splitter: MessageSplitter;
  #sink: CopySink | null = null;
  /** What came with the beginning of the COPY. */
  #rest: Buffer = Buffer.alloc(0);

  /** @param own a duplicate of `fd`, which is closed with the socket */
  constructor({ fd, own }: Pick<BaseBackupOptions, 'fd' | 'own'>) {
    this.#fd = fd;
    const sink = (): CopySink => {
      if (this.#sink === null) throw damaged('data before a COPY');
      return this.#sink;
    };
    const reader = {
      data: (bytes: Uint8Array) => sink().data(bytes),
      copyData: (chunk: Buffer) => sink().copyData(chunk),
    };
    this.#splitter = new MessageSplitter(reader, (bytes) => void this.socket.emit('data', bytes));
    const buffer = Buffer.allocUnsafeSlow(SOCKET_BYTES);
    const callback = (bytes: number): boolean => this.#onRead(buffer.subarray(0, bytes));
    // Node's documentation has `onread`; its types know it for `connect` only.
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      fd: own,
      onread: { buffer, callback },
    };
    this.socket = connectedSocket(options);
  }

  /** False stops the reading. */
  #onRead(bytes: Buffer): boolean {
    if (this.socket.destroyed) return false;
    try {
      const taken = this.#splitter.push(bytes);
      if (!this.#splitter.isCopying) return true;
      if (taken < bytes.length) this.#rest = Buffer.from(bytes.subarray(taken));
      this.begun.settle();
    } catch (e) {
      this.socket.destroy(e as Error);
    }
    return false;
  }

  /**
   * Reads, and blocks, until `ended` says that pg has had the last word.
   * @throws what the sink throws; ECONNRESET
   */
  read(sink: CopySink, ended: Settled): void {
    this.#sink = sink;
    const fd = this.#fd;
    const buffer = Buffer.allocUnsafeSlow(SOCKET_BYTES);
    const direct = new DirectReader(fd, this.#splitter);
    this.#splitter.push(this.#rest);
    while (!ended.isSettled) {
      if (sink.fileLeft >= DIRECT_BYTES_MIN && this.#splitter.dataLeft >= 0) {
        sink.dataFrom(direct);
        this.#splitter.push(direct.takeAside());
      } else {
        const bytes = received(native().socketReceive(fd, buffer, 0, SOCKET_BYTES, WAIT_SLICE_MS));
        this.#splitter.push(buffer.subarray(0, bytes));
      }
    }
  }
}

const NOTHING_YET = -errnoOfCode('EAGAIN');

/** Bytes, 0 for none so far. */
function received(result: number): number {
  if (result > 0) return result;
  if (result === NOTHING_YET) return 0;
  const code = result === 0 ? 'ECONNRESET' : codeOfErrno(-result);
  throw stpError(code, 'PostgreSQL ended the connection');
}

/** Data of CopyData messages, from the socket to where it is wanted. */
class DirectReader implements DataSource {
  readonly #fd: number;
  readonly #splitter: MessageSplitter;
  readonly #state = new Float64Array(2);
  readonly #aside = Buffer.allocUnsafeSlow(COPY_ASIDE_BYTES);
  #asideBytes = 0;

  constructor(fd: number, splitter: MessageSplitter) {
    this.#fd = fd;
    this.#splitter = splitter;
  }

  read(into: Uint8Array, at: number, bytes: number): number {
    while (this.#asideBytes === 0) {
      this.#state[0] = this.#splitter.dataLeft;
      const result = native().copyDataReceive(
        this.#fd,
        into,
        at,
        bytes,
        this.#state,
        this.#aside,
        WAIT_SLICE_MS,
      );
      this.#asideBytes = this.#state[1] as number;
      this.#splitter.skipTo(this.#state[0] as number);
      if (this.#asideBytes > 0) return result;
      const got = received(result);
      if (got > 0) return got;
    }
    return 0;
  }

  /** What came and is no data, for the splitter. */
  takeAside(): Buffer {
    const bytes = this.#asideBytes;
    this.#asideBytes = 0;
    return this.#aside.subarray(0, bytes);
  }
}

/** What pg's client asks of a query that it runs; its own class knows no COPY that goes out. */
class BaseBackupQuery {
  readonly ended = new Settled();
  /** Who takes the COPY's messages where pg reads them. */
  reader: BaseBackupReader | null = null;
  #error: Error | undefined;
  /** Of all tablespaces. */
  bytes = 0;

  constructor(private readonly text: string) {}

  submit(connection: { query(text: string): void }): void {
    connection.query(this.text);
  }

  handleCopyData(
    message: { chunk: Buffer },
    connection: { stream: { destroy(e: Error): void } },
  ): void {
    if (this.#error) return;
    try {
      this.reader?.copyData(message.chunk);
    } catch (e) {
      this.#error = e as Error;
      // There is no other way to make the server stop.
      connection.stream.destroy(this.#error);
      this.ended.settle(this.#error);
    }
  }

  handleError(e: Error): void {
    this.#error ??= e;
    this.ended.settle(this.#error);
  }

  handleReadyForQuery(): void {
    this.ended.settle(this.#error);
  }

  handleRowDescription(): void {}
  /** Tablespaces come as rows: object id, directory, KiB. The row before has the position only. */
  handleDataRow(message: { fields: (string | null)[] }): void {
    if (message.fields.length !== 3) return;
    const bytes = Number(message.fields[2]) * 1024;
    if (Number.isSafeInteger(bytes) && bytes >= 0) this.bytes += bytes;
  }

  handleCommandComplete(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  handleCopyInResponse(): void {}
}

/** An SQL string, for a protocol that has no parameters. */
const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

function noPassword(user: string): never {
  const where = 'put one into .pgpass, PGPASSFILE or PGPASSWORD of who asks for the backup';
  throw stpError('EACCES', `PostgreSQL asks ${user} for a password, and there is none: ${where}`);
}

/** As pg wants it. Nothing is looked up here: neither environment nor files are the user's. */
function clientConfig({ tls, password, ...said }: PostgresqlSettings): pg.ClientConfig {
  const common = {
    ...said,
    password: () => password ?? noPassword(said.user),
    replication: 'true',
  };
  if (typeof tls === 'boolean') return { ...common, ssl: tls };
  const { checkName, ...files } = tls;
  const ssl: ConnectionOptions = { ...files };
  if (checkName === false) ssl.checkServerIdentity = () => undefined;
  return { ...common, ssl };
}

/** A base backup that PostgreSQL makes: asked for at once, read when somebody wants it. */
export class BaseBackup {
  readonly #client: pg.Client;
  readonly #query: BaseBackupQuery;
  readonly #asked: Promise<void>;
  /** Null under TLS. */
  #copy: CopySocket | null = null;

  /** Asks; what goes wrong is told by `read`. */
  constructor(options: BaseBackupOptions) {
    const settings = {
      ...clientConfig(options.settings),
      application_name: 'stpbackup',
      // Under TLS pg makes another socket of it, which it reads itself: messages come to the query.
      stream: ((config: { ssl?: unknown }) => {
        if (config.ssl) return connectedSocket({ fd: options.own });
        this.#copy = new CopySocket(options);
        return this.#copy.socket;
      }) as () => Socket,
    };
    this.#client = new pg.Client(settings);
    const checkpoint = options.fast ? 'fast' : 'spread';
    // The server's own manifest and WAL, so that the set needs nothing else to be consistent.
    this.#query = new BaseBackupQuery(
      `BASE_BACKUP (LABEL ${quoted(options.label)}, CHECKPOINT '${checkpoint}', WAL true, ` +
        `WAIT false, MANIFEST 'yes', PROGRESS true)`,
    );
    this.#asked = this.#ask();
    this.#asked.catch(() => {});
  }

  async #ask(): Promise<void> {
    const client = this.#client;
    const { ended } = this.#query;
    // A connection that breaks fails the query that runs; between them it is the next one's affair.
    client.on('error', () => {});
    client.once('end', () =>
      ended.settle(stpError('ECONNRESET', 'PostgreSQL ended the connection')),
    );
    await client.connect();
    await assertVersion(client);
    // Where pg reads, data would come before there is anybody who takes it.
    if (this.#copy !== null) this.#submit();
  }

  #submit(): void {
    this.#client.query(this.#query as unknown as pg.Submittable);
  }

  /**
   * Reads it to its end, once.
   * @throws what the handler throws; ENOTSUP for a server before 15; what PostgreSQL says
   */
  async read(handler: BaseBackupHandler): Promise<void> {
    const reader = new BaseBackupReader(handler);
    const { ended } = this.#query;
    const copy = this.#copy;
    try {
      await this.#asked;
      if (copy === null) {
        this.#query.reader = reader;
        this.#submit();
        await ended.promise;
        handler.estimate(this.#query.bytes);
      } else {
        await Promise.race([copy.begun.promise, ended.promise]);
        handler.estimate(this.#query.bytes);
        copy.read(reader, ended);
        await ended.promise;
      }
      reader.end();
      this.#end();
    } catch (e) {
      // There is no other way to make the server stop.
      this.#stream.destroy();
      throw e;
    }
  }

  /** pg's, which under TLS is another one than that of the connection. */
  get #stream(): Socket {
    return (this.#client as unknown as { connection: { stream: Socket } }).connection.stream;
  }

  /** Nobody waits for good-byes, and nothing is read any more: the sink is somebody else's soon. */
  #end(): void {
    this.#client.end().catch(() => {});
    this.#stream.destroySoon();
  }
}

async function assertVersion(client: pg.Client): Promise<void> {
  const { rows } = await client.query('SHOW server_version_num');
  const version = Number((rows[0] as { server_version_num?: string })?.server_version_num);
  if (version >= VERSION_MIN) return;
  throw stpError(
    'ENOTSUP',
    `PostgreSQL ${version / 10000} is too old: 15 or a later one is needed`,
  );
}
