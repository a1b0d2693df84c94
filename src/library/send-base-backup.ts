/**
 * A PostgreSQL base backup becomes one stream of frames, the client's side.
 *
 *   data/                  the data directory, `backup_manifest` included
 *   data/pg_tblspc/OID     symlink to ../../tablespaces/OID, wherever it pointed
 *   tablespaces/OID/       each tablespace
 *
 * So a set extracted anywhere, by this program or by plain tar, is a cluster that starts there.
 * Nothing is kept on the client's disk: a member's length stands in the header that PostgreSQL
 * sends. Worker thread: the stream's calls block, and with them the connection to PostgreSQL.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { stpError } from '../errors.js';
import type {
  BaseBackup,
  BaseBackupHandler,
  BaseMember,
  DataSource,
} from '../source/base-backup.js';
import { pathProblem } from '../source/names.js';
import {
  encodeTotals,
  FRAME_END,
  FRAME_ENTRY,
  FrameWriter,
  LINES_BYTES_TARGET,
  type PageSink,
  type Totals,
} from './frames.js';
import { encodeEntry, isLargeData } from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';
import { plainFacts } from './plain-facts.js';

type Facts = ReturnType<typeof plainFacts>;
type Owner = Pick<Facts, 'uid' | 'gid'>;

const NS = 1_000_000_000n;

/** Large files report progress this often. */
const SLICE_BYTES = 8 << 20;

/** A base backup's own manifest, held in memory until its length is known: some 150 bytes a file. */
const BASE_MANIFEST_BYTES_MAX = 256 << 20;

/**
 * Sends one base backup, then END, and flushes; the caller shuts the stream down.
 * @param progress kept up to date for another thread: [entries, bytes of data, -, bytes there will
 *   be, about]
 */
export async function sendBaseBackup(
  sink: PageSink,
  backup: BaseBackup,
  progress: Float64Array,
): Promise<Totals> {
  const sender = new BaseBackupSender(sink, progress);
  await backup.read(sender);
  return sender.finish();
}

class BaseBackupSender implements BaseBackupHandler {
  readonly #frames: FrameWriter;
  readonly #progress: Float64Array;
  readonly #headers = new TarHeaderWriter();
  readonly #hasher = new Blake3Hasher();
  readonly #made = new Set<string>();
  readonly #manifest: Buffer[] = [];
  #manifestBytes = 0;
  #top = 'data';
  #owner: Owner = { uid: 0, gid: 0 };
  /** The file whose data is on its way. */
  #open: { facts: Facts; headerBytes: number; left: number } | null = null;
  #lines = '';
  #mediaBytes = 0;
  #entries = 0;
  #bytes = 0;

  constructor(sink: PageSink, progress: Float64Array) {
    this.#frames = new FrameWriter(sink);
    this.#progress = progress;
  }

  estimate(bytes: number): void {
    this.#progress[3] = bytes;
  }

  archive(tablespace: { oid: string } | null): void {
    this.#top = tablespace === null ? 'data' : `tablespaces/${tablespace.oid}`;
  }

  member(member: BaseMember): void {
    this.#owner = member;
    this.#makeTop();
    const path = `${this.#top}/${member.name}`;
    const problem = pathProblem(Buffer.from(path));
    if (problem !== null) throw stpError('EPROTO', `PostgreSQL sent a name that ${problem}`);
    const mtimeNs = BigInt(member.mtimeSeconds) * NS;
    const { type, mode, size } = member;
    const link = type === 'symlink' ? this.#linkOf(member) : null;
    const times = { mtimeNs, ctimeNs: mtimeNs };
    this.#begin({ ...plainFacts(path, size, this.#owner), ...times, type, mode, link });
  }

  data(bytes: Uint8Array): void {
    const open = this.#open;
    if (open === null) throw stpError('EPROTO', 'PostgreSQL sent data of no file');
    this.#hasher.update(bytes);
    this.#frames.put(bytes, 0, bytes.length);
    this.#count(open, bytes.length);
  }

  dataFrom(from: DataSource, bytes: number): number {
    const open = this.#open;
    if (open === null) throw stpError('EPROTO', 'PostgreSQL sent data of no file');
    const count = this.#frames.putFrom(from, 0, Math.min(bytes, SLICE_BYTES), this.#hasher);
    this.#count(open, count);
    return count;
  }

  #count(open: { left: number }, bytes: number): void {
    open.left -= bytes;
    this.#progress[1] = (this.#progress[1] as number) + bytes;
    if (open.left === 0) this.#finishFile();
  }

  manifest(bytes: Uint8Array): void {
    this.#manifestBytes += bytes.length;
    if (this.#manifestBytes > BASE_MANIFEST_BYTES_MAX) {
      throw stpError(
        'EMSGSIZE',
        `PostgreSQL's backup manifest is longer than ${BASE_MANIFEST_BYTES_MAX} bytes`,
      );
    }
    // The parser's buffer is used again after this call.
    this.#manifest.push(Buffer.from(bytes));
  }

  finish(): Totals {
    const bytes = Buffer.concat(this.#manifest);
    this.#begin(plainFacts('data/backup_manifest', bytes.length, this.#owner));
    if (bytes.length > 0) this.data(bytes);
    this.#flushLines();
    const totals = { entries: this.#entries, bytes: this.#bytes, warnings: 0 };
    this.#frames.frame(FRAME_END, encodeTotals(totals));
    this.#frames.flush();
    return totals;
  }

  /** The directories that no archive has: PostgreSQL insists on 0700 for its own. */
  #makeTop(): void {
    const parts = this.#top.split('/');
    for (let i = 1; i <= parts.length; i++) {
      const path = parts.slice(0, i).join('/');
      if (this.#made.has(path)) continue;
      this.#made.add(path);
      this.#begin({ ...plainFacts(path, 0, this.#owner), type: 'directory', mode: 0o700 });
    }
  }

  #linkOf({ name }: BaseMember): Buffer {
    const oid = /^pg_tblspc\/(\d+)$/.exec(name)?.[1];
    if (oid !== undefined && this.#top === 'data') return Buffer.from(`../../tablespaces/${oid}`);
    throw stpError('EPROTO', `PostgreSQL sent a symlink that is no tablespace: ${name}`);
  }

  #begin(facts: Facts): void {
    if (this.#open !== null) throw stpError('EPROTO', 'PostgreSQL sent a member inside another');
    const headerBytes = this.#headers.write(facts);
    const isLarge = isLargeData(facts.path, facts.size);
    this.#frames.beginMember(this.#headers.buffer, headerBytes, facts.size, isLarge);
    this.#hasher.reset();
    this.#open = { facts, headerBytes, left: facts.size };
    if (facts.size === 0) this.#finishFile();
  }

  #finishFile(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    const { facts, headerBytes } = open;
    const blake3 = facts.type === 'file' ? this.#hasher.digest('hex') : null;
    this.#frames.endMember(blake3);
    const headerOffset = this.#mediaBytes;
    const dataOffset = headerOffset + headerBytes;
    this.#mediaBytes = dataOffset + paddedBytes(facts.size);
    this.#lines += encodeEntry(facts, headerOffset, dataOffset, blake3, false);
    this.#bytes += facts.size;
    this.#progress[0] = ++this.#entries;
    if (this.#lines.length >= LINES_BYTES_TARGET) this.#flushLines();
  }

  #flushLines(): void {
    if (this.#lines === '') return;
    this.#frames.frame(FRAME_ENTRY, Buffer.from(this.#lines));
    this.#lines = '';
  }
}
