/**
 * What a new backup can take over from an interrupted one, found by looking at all of it.
 *
 * Each medium is read once: every header must be as its line says, and all data must have its
 * digest. A medium ends behind its last good member: what a killed server had not written yet is cut
 * off. But good members behind a bad one are not a matter of an end: then nothing is taken over.
 *
 * Leaves two files beside the media: `kept.jsonl`, the lines that count, in the order of the walk,
 * and `kept.index`, the list that the client compares with: the parent's, if there is one, with these
 * entries in it. Blocks, as long as reading all media takes; any thread that has the set's lock.
 */
import { closeSync, constants, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '../errors.js';
import { compareWalk, displayPath } from '../source/names.js';
import { PlainFile } from './bytes.js';
import { type Interrupted, KEPT_LINES_FILE, KEPT_LIST_FILE } from './interrupted.js';
import {
  type Adopted,
  type KeptItem,
  type KeptMedium,
  keptItems,
  NotAdopted,
  voidOf,
} from './kept-lines.js';
import {
  encodeKept,
  encodeVoid,
  endOffset,
  hasLargeData,
  LineError,
  type ManifestEntry,
  type ManifestVoid,
  MediaTiling,
  mediaDataBytes,
  mediaDigest,
  memberOf,
} from './manifest.js';
import { type MediaReader, mediumFile } from './media.js';
import { DigestingCursor } from './media-digest.js';
import { paddedBytes, TAR_END_BYTES } from './pax.js';
import { MANIFEST_FILE } from './set-writer.js';
import { isAtOrBelow } from './stored-path.js';
import { MemberError, memberDifference, readMember } from './tar-member.js';
import { type ParentList, TreeMerge } from './tree-merge.js';
import { writeAll } from './write-all.js';

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;

/** What that backup wrote itself, then what it had taken over and not come to. */
function* allItems(directory: string, onScan: (ns: bigint) => void): Generator<KeptItem> {
  const tiling = new MediaTiling();
  let last: Buffer | null = null;
  for (const item of keptItems(join(directory, MANIFEST_FILE), onScan)) {
    const { record } = item;
    if (record.kind !== 'deleted') tile(tiling, record);
    if (record.kind !== 'void' && !(record.kind === 'entry' && record.again)) {
      last = Buffer.from(record.path);
    }
    yield item;
  }
  for (const item of keptItems(join(directory, KEPT_LINES_FILE), onScan)) {
    const { record } = item;
    const isNew =
      record.kind === 'deleted'
        ? last === null || compareWalk(record.path, last) > 0
        : record.headerOffset >= (tiling.ends[record.medium] ?? 0);
    if (isNew) yield item;
  }
}

function tile(tiling: MediaTiling, record: ManifestEntry | ManifestVoid): void {
  try {
    tiling.add(record);
  } catch (e) {
    if (e instanceof LineError) throw new NotAdopted(e.message);
    throw e;
  }
}

/** One medium of it, read from front to back beside its lines. */
class Medium {
  readonly cursor: DigestingCursor;
  end = 0;
  #broken: string | null = null;
  #hasVoid = false;

  constructor(readonly media: MediaReader) {
    this.cursor = new DigestingCursor(media);
  }

  addVoid(): void {
    this.#hasVoid = true;
  }

  facts(): KeptMedium {
    const isKnown = this.#broken === null && !this.#hasVoid;
    this.cursor.add(new Uint8Array(TAR_END_BYTES));
    return { bytes: this.end, xxh3: isKnown ? this.cursor.text : null };
  }

  /** True if the member is what its line says. */
  keeps(record: ManifestEntry | ManifestVoid): boolean {
    const end = record.kind === 'void' ? record.headerOffset + record.bytes : endOffset(record);
    const problem = record.kind === 'void' ? this.#skipTo(end) : this.#problemOf(record);
    this.#hasVoid ||= record.kind === 'void';
    if (problem !== null) {
      this.#broken ??= problem;
      this.#skipTo(Math.min(end, this.media.bytes));
      return false;
    }
    // A void has no bytes of its own: it says nothing about what lies before it.
    if (this.#broken !== null && record.kind === 'void') return false;
    if (this.#broken !== null) throw new NotAdopted(`${this.media.name}: ${this.#broken}`);
    this.end = end;
    return true;
  }

  #skipTo(end: number): string | null {
    if (end > this.media.bytes) return 'it ends in a void';
    if (end > this.cursor.offset) this.cursor.skip(end - this.cursor.offset);
    return null;
  }

  #problemOf(entry: ManifestEntry): string | null {
    const name = displayPath(entry.path);
    const { cursor } = this;
    // Behind a bad member that was longer than the medium.
    if (cursor.offset !== entry.headerOffset) return `${name} has no place`;
    try {
      const found = readMember((bytes) => {
        if (cursor.offset + bytes > entry.dataOffset) throw new MemberError('it is too long');
        return cursor.take(bytes);
      });
      if (found === null || cursor.offset !== entry.dataOffset) return `${name} has no header`;
      const different = memberDifference(found, memberOf(entry));
      if (different !== null) return `the header of ${name} is damaged: ${different}`;
      const data = mediaDataBytes(entry);
      if (data > 0) {
        const blake3 = cursor.passData(data, hasLargeData(entry));
        if (blake3 !== mediaDigest(entry)) return `${name} does not have its digest`;
      }
      const padding = cursor.take(paddedBytes(data) - data);
      return padding.some((byte) => byte !== 0) ? `the padding behind ${name} is not zero` : null;
    } catch (e) {
      if (e instanceof MemberError || (isCoded(e) && e.code === 'EINVAL')) return e.message;
      throw e;
    }
  }
}

/**
 * @param parent the list of the set that both backups are made against
 * @param ordinal place of the new set in its chain
 * @param onProgress bytes read so far
 * @throws NotAdopted; EIO, ENOSPC
 */
export function adopt(
  found: Interrupted,
  parent: ParentList | null,
  onProgress: (bytes: number) => void = () => {},
): Adopted {
  const { directory, id, startedAt } = found;
  const ordinal = found.chain?.length ?? 0;
  const list = join(directory, KEPT_LIST_FILE);
  rmSync(list, { force: true });
  const scan = { ns: null as bigint | null };
  const onScan = (ns: bigint): void => {
    if (scan.ns === null || ns < scan.ns) scan.ns = ns;
  };
  // The scans' times stand in front of all lines.
  for (const _ of keptItems(join(directory, MANIFEST_FILE), onScan)) break;
  for (const _ of keptItems(join(directory, KEPT_LINES_FILE), onScan)) break;
  const scanNs = scan.ns ?? 0n;
  const merge = new TreeMerge({ path: list, ordinal, parent, isKept: true });
  const lines = new LinesFile(join(directory, `${KEPT_LINES_FILE}.new`));
  const media: Medium[] = [];
  try {
    merge.begin(scanNs);
    lines.put(Buffer.from(`{"scanNs":"${scanNs}"}`));
    const counted = keepAll({ directory, merge, lines, media, onScan, onProgress });
    if (counted.entries === 0) throw new NotAdopted('no entry of it is complete');
    const { bytes: listBytes } = merge.finish();
    lines.finish();
    renameSync(join(directory, `${KEPT_LINES_FILE}.new`), join(directory, KEPT_LINES_FILE));
    const kept = media.map((medium) => medium.facts());
    return { id, startedAt, media: kept, scanNs, ...counted, listBytes };
  } catch (e) {
    if (e instanceof LineError) throw new NotAdopted(e.message);
    throw e;
  } finally {
    merge.close();
    lines.close();
    for (const { media: reader } of media) reader.close();
  }
}

interface Keeping {
  readonly directory: string;
  readonly merge: TreeMerge;
  readonly lines: LinesFile;
  /** Opened as lines name them. */
  readonly media: Medium[];
  readonly onScan: (ns: bigint) => void;
  readonly onProgress: (bytes: number) => void;
}

function keepAll(k: Keeping): { entries: number; bytes: number } {
  let [entries, bytes] = [0, 0];
  // Directories that the last entry is in, and itself if it is one.
  const open: Buffer[] = [];
  for (const { record, line } of allItems(k.directory, k.onScan)) {
    if (record.kind === 'deleted') k.merge.remove(record.path);
    else {
      const isThere = openUpTo(k, record.medium);
      if (!isThere || !k.media[record.medium]?.keeps(record)) continue;
      k.onProgress(k.media.reduce((sum, { end }) => sum + end, 0));
      if (record.kind === 'entry' && record.again) {
        if (!open.some((path) => path.equals(record.path))) {
          k.media[record.medium]?.addVoid();
          k.lines.put(Buffer.from(encodeVoid(voidOf(record)).trimEnd()));
          continue;
        }
      } else if (record.kind === 'entry') {
        while (open.length > 0 && !isAtOrBelow(record.path, open.at(-1) as Buffer)) open.pop();
        if (record.type === 'directory') open.push(record.path);
      }
      if (record.kind === 'entry') {
        if (!record.superseded && !record.again) {
          entries++;
          bytes += mediaDataBytes(record);
        }
        // Hashes of blocks follow from the data, which is what was looked at.
        const kept = { ...record, blocks: null };
        k.merge.put(kept, 0, line.length);
        k.lines.put(record.blocks === null ? line : Buffer.from(encodeKept(kept).trimEnd()));
        continue;
      }
    }
    k.lines.put(line);
  }
  return { entries, bytes };
}

/** False if the medium is not there: its file was not made yet when all ended. */
function openUpTo({ directory, media }: Keeping, medium: number): boolean {
  while (media.length <= medium) {
    if (!existsSync(join(directory, mediumFile(media.length)))) return false;
    media.push(new Medium(new PlainFile(join(directory, mediumFile(media.length)))));
  }
  return true;
}

const GATHER_BYTES = 256 << 10;

class LinesFile {
  readonly #fd: number;
  #gathered: Buffer[] = [];
  #bytes = 0;
  #open = true;

  constructor(path: string) {
    this.#fd = openSync(path, CREATE, 0o600);
  }

  put(line: Buffer): void {
    this.#gathered.push(Buffer.concat([line, NEWLINE]));
    this.#bytes += line.length + 1;
    if (this.#bytes >= GATHER_BYTES) this.#write();
  }

  #write(): void {
    writeAll(this.#fd, Buffer.concat(this.#gathered));
    this.#gathered = [];
    this.#bytes = 0;
  }

  finish(): void {
    this.#write();
    fsyncSync(this.#fd);
    this.close();
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

const NEWLINE = Buffer.of(0x0a);
