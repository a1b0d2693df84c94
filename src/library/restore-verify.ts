/**
 * What was restored, read back through the file system and held against the set: a list of what is
 * to be there, kept while the restore runs, and the comparison afterwards.
 *
 * The list is a file without a name below the target: it goes with its descriptor, whatever happens.
 *
 *   offset  bytes
 *   0       4      length of the line, little-endian
 *   4       4      length of the map
 *   8       ..     the line of the manifest, then the map of a sparse file
 *
 * What the page cache holds is not read from the disk itself. Worker thread: all of it blocks.
 */
import { randomBytes } from 'node:crypto';
import {
  type BigIntStats,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readSync,
  unlinkSync,
} from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded } from '../errors.js';
import { type Segment, SparseMapParser } from '../source/sparse.js';
import { XATTRS_BYTES_MAX, xattrsOf } from '../source/xattrs.js';
import type { ManifestEntry } from './manifest.js';
import { TAR_BLOCK_BYTES } from './pax.js';
import { entryOf, type RestoreOptions, type RestoreProblem } from './restore.js';
import { differences, placed } from './restore-plan.js';
import { EscapeError, procPath, TargetTree } from './restore-target.js';
import { writeAll } from './write-all.js';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
const CHUNK_BYTES = 1 << 20;
const GATHER_BYTES = 1 << 18;
const RECORD_BYTES = 8;

export interface Verified {
  readonly entries: number;
  /** Of file data, holes left out. */
  readonly bytes: number;
  /** Entries that are not as in the set; each is named. */
  readonly wrong: number;
}

export class RestoreCheck {
  readonly #target: string;
  readonly #options: RestoreOptions;
  readonly #list: number;
  readonly #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  readonly #zeros = Buffer.alloc(CHUNK_BYTES);
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;
  #listBytes = 0;
  #bytes = 0;

  /** @param target of the restore, which is there */
  constructor(target: string, options: RestoreOptions) {
    this.#target = target;
    this.#options = options;
    const tree = new TargetTree(target, false);
    // Where it may write: in place that is not the target itself, which is `/`.
    const [place = Buffer.from('.')] = options.below ?? [];
    try {
      const key = place.toString('latin1');
      const directory = procPath(tree.open(key === '.' ? '' : key, false));
      const name = `${directory}/.stp-restore-${randomBytes(8).toString('hex')}`;
      this.#list = openSync(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      unlinkSync(name);
    } finally {
      tree.close();
    }
  }

  /** To be there at the end. Both are copied. */
  expect(line: Buffer, map: Buffer | null): void {
    const head = Buffer.alloc(RECORD_BYTES);
    head.writeUInt32LE(line.length, 0);
    head.writeUInt32LE(map?.length ?? 0, 4);
    const record = Buffer.concat(map === null ? [head, line] : [head, line, map]);
    this.#gathered.push(record);
    this.#gatheredBytes += record.length;
    if (this.#gatheredBytes >= GATHER_BYTES) this.#flush();
  }

  #flush(): void {
    const bytes = Buffer.concat(this.#gathered);
    this.#gathered = [];
    this.#gatheredBytes = 0;
    writeAll(this.#list, bytes);
    this.#listBytes += bytes.length;
  }

  /** After the restore is finished: reads all of it back, and names what is not as it was. */
  verify(): Verified {
    this.#flush();
    const tree = new TargetTree(this.#target, false);
    let entries = 0;
    let wrong = 0;
    try {
      for (const { line, map } of this.#records()) {
        const entry = placed(entryOf(line, entries + 1), this.#options);
        entries++;
        if (entry === null) continue;
        const found = this.#compare(tree, entry, map);
        if (found.length === 0) continue;
        wrong++;
        const { path } = entry;
        const message = `${tree.shown(path)} is not as in the set: ${found.join(', ')}`;
        const problem: RestoreProblem = { path, code: 'EBADMSG', message };
        this.#options.onProblem(problem);
      }
    } finally {
      tree.close();
    }
    return { entries, bytes: this.#bytes, wrong };
  }

  *#records(): Generator<{ line: Buffer; map: Buffer }> {
    const head = Buffer.alloc(RECORD_BYTES);
    for (let at = 0; at < this.#listBytes; ) {
      this.#read(this.#list, head, at);
      const line = Buffer.allocUnsafe(head.readUInt32LE(0));
      const map = Buffer.allocUnsafe(head.readUInt32LE(4));
      at += RECORD_BYTES;
      this.#read(this.#list, line, at);
      this.#read(this.#list, map, at + line.length);
      at += line.length + map.length;
      yield { line, map };
    }
  }

  /** True if all of `into` could be read. */
  #read(fd: number, into: Uint8Array, position: number): boolean {
    for (let at = 0; at < into.length; ) {
      const read = readSync(fd, into, at, into.length - at, position + at);
      if (read === 0) return false;
      at += read;
    }
    return true;
  }

  #compare(tree: TargetTree, entry: ManifestEntry, map: Buffer): string[] {
    try {
      const isTarget = entry.path.length === 1 && entry.path[0] === 0x2e;
      const access = isTarget
        ? Buffer.from(`${procPath(tree.rootFd)}/.`)
        : tree.accessOf(entry.path, false);
      const there = lstatSync(access, { bigint: true });
      if (entry.type === 'hardlink') return this.#compareLink(tree, entry, there);
      const found = differences(entry, there, access, this.#ownersCount);
      if (found[0] === 'type') return found;
      if (!this.#hasXattrs(entry, access)) found.push('attributes');
      if (entry.type === 'file' && !this.#hasData(entry, access, map)) found.push('data');
      return found;
    } catch (e) {
      if (e instanceof EscapeError) return [e.message];
      if (isCoded(e)) return [e.code === 'ENOENT' ? 'it is not there' : e.code];
      throw e;
    }
  }

  #compareLink(tree: TargetTree, entry: ManifestEntry, there: BigIntStats): string[] {
    if (entry.link === null) return ['link'];
    const first = lstatSync(tree.accessOf(entry.link, false), { bigint: true });
    return first.ino === there.ino && first.dev === there.dev ? [] : ['link'];
  }

  get #ownersCount(): boolean {
    return this.#options.owners !== false && process.geteuid?.() === 0;
  }

  /** Those of the set: a file system may have its own besides. */
  #hasXattrs(entry: ManifestEntry, access: Buffer): boolean {
    const { getXattrs } = this.#options.native;
    if (entry.xattrs === null || getXattrs === undefined) return true;
    const here = xattrsOf(getXattrs(access, XATTRS_BYTES_MAX)) ?? [];
    return entry.xattrs.every(({ name, value }) =>
      here.some((one) => one.name.equals(name) && one.value.equals(value)),
    );
  }

  #hasData(entry: ManifestEntry, access: Buffer, map: Buffer): boolean {
    const fd = openSync(access, O_RDONLY | O_NOFOLLOW);
    try {
      const digest = new Blake3Hasher();
      if (!entry.sparse) {
        return this.#digest(fd, 0, entry.size, digest) && digest.digest('hex') === entry.blake3;
      }
      const segments = segmentsOf(map, entry.size);
      digest.update(map);
      let end = 0;
      for (const { offset, bytes } of segments) {
        if (!this.#isZero(fd, end, offset) || !this.#digest(fd, offset, bytes, digest))
          return false;
        end = offset + bytes;
      }
      return this.#isZero(fd, end, entry.size) && digest.digest('hex') === entry.blake3;
    } finally {
      closeSync(fd);
    }
  }

  #digest(fd: number, from: number, bytes: number, digest: Blake3Hasher): boolean {
    for (let at = 0; at < bytes; ) {
      const part = this.#chunk.subarray(0, Math.min(CHUNK_BYTES, bytes - at));
      if (!this.#read(fd, part, from + at)) return false;
      digest.update(part);
      at += part.length;
    }
    this.#bytes += bytes;
    return true;
  }

  #isZero(fd: number, from: number, to: number): boolean {
    for (let at = from; at < to; ) {
      const part = this.#chunk.subarray(0, Math.min(CHUNK_BYTES, to - at));
      if (!this.#read(fd, part, at)) return false;
      if (part.compare(this.#zeros, 0, part.length) !== 0) return false;
      at += part.length;
    }
    return true;
  }

  /** Harmless when done twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#list);
  }
  #closed = false;
}

/** The map was good when the file was restored. */
function segmentsOf(map: Buffer, size: number): readonly Segment[] {
  const parser = new SparseMapParser();
  for (let at = 0; at < map.length; at += TAR_BLOCK_BYTES) {
    parser.add(map.subarray(at, at + TAR_BLOCK_BYTES), size);
  }
  return parser.segments;
}
