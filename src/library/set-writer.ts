/**
 * One set while it is written: media, manifest and summary in a directory of its own.
 *
 * Invariant: nothing of it is visible until `commit` has it all on the disk and renames the
 * directory into place; every other end, a full disk included, leaves no trace of it and touches no
 * other set. The manifest accepts an entry only if it tiles the media that have arrived.
 *
 * One thread uses it, synchronously. If the process dies, its lock goes with it and the next
 * `Library.open` or `beginSet` removes what is left.
 */
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../assert.js';
import { isCoded, stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import type { Sealing } from './age-file.js';
import { BlocksWriter, blocksPath } from './blocks.js';
import { syncDirectory, writeNewFile } from './disk.js';
import { type FrameReader, LINE_BYTES_MAX } from './frames.js';
import { KEPT_LINES_FILE, markResumable, unmarkResumable } from './interrupted.js';
import { type Adopted, KeptLines, type KeptMedium, type KeptRecord } from './kept-lines.js';
import { endKeptMedia } from './kept-media.js';
import {
  decodeLine,
  encodeHeader,
  encodeScan,
  encodeTrailer,
  endOffset,
  type FurtherMedium,
  hasLargeData,
  LineError,
  type ManifestEntry,
  type ManifestHeader,
  MediaTiling,
  mediaDataBytes,
  mediaDigest,
} from './manifest.js';
import { createMedia, type MediaWriter } from './media.js';
import type { MediaCoding, MediaPlan, VolumeFacts, VolumeHome } from './media-plan.js';
import { NewFile } from './new-file.js';
import { TAR_END_BYTES } from './pax.js';
import { type LargeData, type MediaSink, receiveMedia } from './receive-media.js';
import { encodeSummary, SUMMARY_FILE } from './summary.js';
import { type ParentList, TreeMerge } from './tree-merge.js';

export const MANIFEST_FILE = 'manifest.jsonl';
export const INDEX_FILE = 'tree.index';
const SEALED = '.age';

type Coded = { readonly coding?: MediaCoding };
/** Names in the directory of a set. */
export const manifestName = ({ coding }: Coded): string =>
  coding?.encrypt ? MANIFEST_FILE + SEALED : MANIFEST_FILE;
export const listName = ({ coding }: Coded): string =>
  coding?.encrypt ? INDEX_FILE + SEALED : INDEX_FILE;

/** Who may read manifest and list. */
function listSealing(plan: MediaPlan, home: VolumeHome, name: string): Sealing | null {
  const { recipients = [], listRecipient } = plan;
  if (recipients.length === 0) return null;
  const label = { set: home.id, host: home.host, name, belongs: home.directory };
  const all = listRecipient === undefined ? recipients : [...recipients, listRecipient];
  return { recipients: all, label };
}

/** What `set.json` says. */
export interface SetSummary extends Omit<ManifestHeader, 'setId'> {
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly finishedAt: string;
  readonly entries: number;
  /** Of file data. */
  readonly bytes: number;
  readonly warnings: number;
  readonly mediaBytes: number;
  readonly mediaXxh3: string;
  /** Of the media from 1 on; left out where there are none. */
  readonly moreMedia?: readonly FurtherMedium[];
  readonly manifestBytes: number;
  readonly manifestBlake3: string;
  /** Entries of the tree at this point, whichever sets have them. Sets of file trees only. */
  readonly treeEntries?: number;
  readonly indexBytes?: number;
  readonly indexBlake3?: string;
  readonly volumes?: readonly VolumeFacts[];
}

/** Where a set writer works; made by `Library.beginSet`. */
export interface SetPlace {
  readonly header: ManifestHeader;
  /** `tmp/ID.partial` */
  readonly partialDirectory: string;
  /** `sets/ID` */
  readonly directory: string;
  /** Lets go of the lock and removes its file. */
  readonly release: () => void;
  readonly parent?: ParentList;
  /** How media are cut and coded; left out: plain and whole. */
  readonly plan?: MediaPlan;
  /** False for what does not come in the order of a walk, as a database's: it has no list. */
  readonly hasList?: boolean;
  /** What an interrupted backup left in the directory; see adopt.ts. */
  readonly adopted?: Adopted;
  /** Keeps what there is for the next backup, instead of removing it; false: it was not worth it. */
  readonly keep?: () => boolean;
  /** Called right before the set becomes visible. @throws if its parents are not what they were */
  readonly verifyChain?: () => void;
}

/** Lines of a frame are gathered up to this before they are written. */
const GATHER_BYTES = 256 * 1024;
const NEWLINE = Buffer.of(0x0a);

export class SetWriter {
  readonly id: string;
  readonly #place: SetPlace;
  readonly #media: MediaWriter;
  /** The same, for whoever fills it: what fails there fails the set. */
  readonly #sink: MediaSink;
  readonly #blocks: BlocksWriter;
  readonly #manifest: NewFile;
  /** Null for a set without a list. */
  readonly #merge: TreeMerge | null;
  /** Manifest bytes before the line that is being accepted. */
  #lineOffset = 0;
  readonly #gathered = Buffer.allocUnsafeSlow(GATHER_BYTES + LINE_BYTES_MAX);
  #gatheredBytes = 0;
  #lineNumber = 0;
  readonly #tiling = new MediaTiling();
  /** What an interrupted backup left: its media come first. */
  readonly #kept: KeptLines | null = null;
  readonly #keptMedia: readonly KeptMedium[];
  #voids = 0;
  /** Of the set. */
  #entries = 0;
  #bytes = 0;
  /** Of what came through the stream. */
  #received = { entries: 0, bytes: 0 };
  #warnings = 0;
  #state: 'open' | 'committed' | 'aborted' = 'open';

  /** The library has made the directory and holds its lock. */
  constructor(place: SetPlace) {
    this.id = place.header.setId;
    this.#place = place;
    const { header, plan = {}, partialDirectory, adopted } = place;
    const { home } = this;
    this.#keptMedia = adopted?.media ?? [];
    const medium = this.#keptMedia.length;
    this.#media = createMedia({ partialDirectory, home, medium, plan });
    const media = this.#media;
    this.#sink = {
      get bytes() {
        return media.bytes;
      },
      append: (data) => this.#guard(() => media.append(data)),
      appendData: (data) => this.#guard(() => media.appendData(data)),
      endData: (blake3) => media.endData(blake3),
    };
    this.#blocks = new BlocksWriter(blocksPath(partialDirectory, medium, plan));
    this.#manifest = new NewFile(
      join(partialDirectory, manifestName(header)),
      listSealing(plan, home, MANIFEST_FILE),
    );
    this.#merge =
      place.hasList === false
        ? null
        : new TreeMerge({
            path: join(partialDirectory, listName(header)),
            sealing: listSealing(plan, home, INDEX_FILE),
            ordinal: place.header.chain?.length ?? 0,
            parent: place.parent ?? null,
          });
    this.#gather(Buffer.from(encodeHeader(place.header)));
    if (adopted !== undefined) {
      const lines = join(partialDirectory, KEPT_LINES_FILE);
      this.#kept = new KeptLines(lines, (record, line) => this.#takeOver(record, line));
    }
    // Last: without it what is there is nothing to come back to.
    if (place.keep !== undefined) markResumable(partialDirectory, place.header);
  }

  /** Number of the medium that comes through the stream of the lines; others follow. */
  get firstMedium(): number {
    return this.#keptMedia.length;
  }

  /** What its volumes say of themselves. */
  get home(): VolumeHome {
    const { header, directory } = this.#place;
    return { id: header.setId, host: header.host, directory };
  }

  /** Where its files are until it is complete. */
  get partialDirectory(): string {
    return this.#place.partialDirectory;
  }

  /** What came so far, without what was there before. */
  get entries(): number {
    return this.#received.entries;
  }
  get bytes(): number {
    return this.#received.bytes;
  }
  get warnings(): number {
    return this.#warnings;
  }

  /** Appends the payload of the MEDIA or FILE frame that `frames` stands at. */
  media(frames: FrameReader): void {
    assert(this.#state === 'open', 'the set is open');
    const large = receiveMedia(frames, this.#sink);
    if (large !== null) this.#large.push(large);
  }
  /** Large files whose line is to come. */
  readonly #large: LargeData[] = [];

  /** Keeps the block hashes of a file whose line is to come. */
  blocks(frames: FrameReader): void {
    assert(this.#state === 'open', 'the set is open');
    this.#guard(() => this.#blocks.receive(frames));
  }

  /**
   * Checks and appends lines, each with its newline.
   * @param allowed what the frame may carry
   * @throws EPROTO naming line and rule: the lines come from a client
   */
  lines(bytes: Buffer, allowed: 'entry' | 'warning'): void {
    assert(this.#state === 'open', 'the set is open');
    for (let start = 0; start < bytes.length; ) {
      const newline = bytes.indexOf(0x0a, start);
      const line = bytes.toString('utf8', start, newline < 0 ? bytes.length : newline);
      try {
        if (newline < 0) throw new LineError('it has no end');
        if (newline - start >= LINE_BYTES_MAX) throw new LineError('it is too long');
        if (this.#accept(line, allowed, newline - start)) {
          this.#gather(bytes.subarray(start, newline + 1));
        }
      } catch (e) {
        if (!(e instanceof LineError)) throw e;
        this.#isRefused = true;
        const where = `line ${this.#lineNumber + 1} of the manifest`;
        throw stpError('EPROTO', `the client's ${where} is refused: ${e.message}`);
      }
      start = newline + 1;
    }
    // What is not written is lost when the process dies; the sender gathers lines for a frame.
    this.#guard(() => this.#writeGathered());
  }
  /** A client that breaks the rules leaves nothing that is worth keeping. */
  #isRefused = false;

  /** False if the line does not go into the manifest. */
  #accept(line: string, allowed: 'entry' | 'warning', lineBytes: number): boolean {
    const record = decodeLine(line);
    const isOfTree = record.kind === 'entry' || record.kind === 'deleted' || record.kind === 'scan';
    if ((isOfTree ? 'entry' : record.kind) !== allowed) {
      throw new LineError(`it is not of the kind ${allowed}`);
    }
    if (record.kind === 'warning') this.#warnings++;
    else if (record.kind === 'scan') return this.#acceptScan(record.scanNs);
    else if (record.kind === 'deleted') return this.#acceptTombstone(record.path);
    else if (record.kind === 'entry') this.#acceptEntry(record, lineBytes);
    return true;
  }

  /** What is taken over may be as old as its own scan. */
  #acceptScan(scanNs: bigint): boolean {
    const { adopted } = this.#place;
    if (adopted === undefined || scanNs <= adopted.scanNs) {
      this.#merge?.begin(scanNs);
      return true;
    }
    this.#merge?.begin(adopted.scanNs);
    this.#gather(Buffer.from(encodeScan(adopted.scanNs)));
    return false;
  }

  /** The client knows what is taken over as it knows the parent: only the parent's can be deleted. */
  #acceptTombstone(path: Buffer): boolean {
    this.#kept?.passTo(path);
    if (this.#kept?.isAt(path)) {
      this.#kept.replace(path, null);
      return this.#guard(() => this.#merge?.removeIfThere(path)) === true;
    }
    this.#guard(() => this.#merge?.remove(path));
    return true;
  }

  #acceptEntry(record: ManifestEntry, lineBytes: number): void {
    const { medium, path } = record;
    if (medium < this.firstMedium) {
      throw new LineError(`${displayPath(path)} is in medium ${medium}, which is complete`);
    }
    if (this.#kept !== null && !record.again) {
      this.#kept.passTo(path);
      if (record.sameData && this.#kept.isAt(path)) {
        throw new LineError(`${displayPath(path)} has sameData, but its data is not the parent's`);
      }
      this.#kept.replace(path, record.type);
    }
    this.#tiling.add(record);
    // Other media come through other streams: whether all of it is there shows at the end.
    if (medium === this.firstMedium && endOffset(record) > this.#media.bytes) {
      throw new LineError(`${displayPath(path)} ends behind the media received`);
    }
    // Those of other media are compared by check; wrong ones cost their file a full copy.
    const { blocks } = record;
    const isOwn = medium === this.firstMedium;
    if (isOwn && blocks !== null && !this.#blocks.claim(blocks, record.size)) {
      const shown = displayPath(path);
      throw new LineError(`the block hashes of ${shown} are not those that it names`);
    }
    if (isOwn && hasLargeData(record)) this.#claim(record);
    if (!record.again) this.#received.entries++;
    this.#received.bytes += mediaDataBytes(record);
    // Lines that are taken over may have come before it meanwhile.
    this.#count(record, lineBytes);
  }

  /** The medium's digest has the digest that came with the data, which must be that of the line. */
  #claim(record: ManifestEntry): void {
    const large = this.#large.shift();
    const isIt =
      large?.offset === record.dataOffset &&
      large.bytes === mediaDataBytes(record) &&
      large.blake3 === mediaDigest(record);
    if (!isIt) throw new LineError(`${displayPath(record.path)} is not the large file that came`);
  }

  #count(record: ManifestEntry, lineBytes: number): void {
    if (!record.again) this.#entries++;
    this.#bytes += mediaDataBytes(record);
    this.#guard(() => this.#merge?.put(record, this.#lineOffset, lineBytes));
  }

  #takeOver(record: KeptRecord, line: Buffer): void {
    if (record.kind === 'deleted') this.#guard(() => this.#merge?.remove(record.path));
    else {
      this.#tiling.add(record);
      if (record.kind === 'void') this.#voids++;
      else this.#count(record, line.length);
    }
    this.#gather(Buffer.concat([line, NEWLINE]));
  }

  #gather(line: Uint8Array): void {
    this.#gathered.set(line, this.#gatheredBytes);
    this.#gatheredBytes += line.length;
    this.#lineOffset += line.length;
    this.#lineNumber++;
    if (this.#gatheredBytes >= GATHER_BYTES) this.#guard(() => this.#writeGathered());
  }

  #writeGathered(): void {
    this.#manifest.put(this.#gathered.subarray(0, this.#gatheredBytes));
    this.#gatheredBytes = 0;
  }

  /**
   * Ends media and manifest, puts all of it on the disk and makes the set visible.
   * @param more the media from 1 on, which are complete and on the disk: see store-medium.ts
   * @throws EPROTO if media arrived that no entry names; ENOSPC, EIO: the set is aborted then
   */
  commit(more: readonly FurtherMedium[] = []): SetSummary {
    assert(this.#state === 'open', 'the set is open');
    this.#kept?.passAll();
    this.#assertTiled(more);
    const what =
      this.#blocks.unclaimed > 0 ? 'block hashes' : this.#large.length > 0 ? 'a large file' : null;
    if (what !== null) {
      this.abort();
      throw stpError('EPROTO', `the client sent ${what} that no entry names`);
    }
    return this.#guard(() => {
      const { partialDirectory, directory } = this.#place;
      const summary = this.#finishFiles(more);
      unmarkResumable(partialDirectory);
      syncDirectory(partialDirectory);
      this.#place.verifyChain?.();
      renameSync(partialDirectory, directory);
      try {
        syncDirectory(join(directory, '..'));
      } catch (e) {
        // Nobody knows what is on the disk, and a second fsync would not tell: it is given up.
        renameSync(directory, partialDirectory);
        throw e;
      }
      this.#state = 'committed';
      this.#place.release();
      return summary;
    });
  }

  /** Entries must name all that arrived, and nothing else. */
  #assertTiled(more: readonly FurtherMedium[]): void {
    const { ends } = this.#tiling;
    const before = this.#keptMedia.map(({ bytes }) => bytes);
    const further = more.map(({ bytes }) => bytes - TAR_END_BYTES);
    const arrived = [...before, this.#media.bytes, ...further];
    for (let medium = 0; medium < Math.max(ends.length, arrived.length); medium++) {
      const extra = (arrived[medium] ?? 0) - (ends[medium] ?? 0);
      if (extra === 0) continue;
      this.abort();
      const where = medium === 0 ? 'media' : `medium ${medium}`;
      const what =
        extra > 0
          ? `sent ${extra} bytes of ${where} that no entry names`
          : `named ${-extra} bytes of ${where} that it did not send`;
      throw stpError('EPROTO', `the client ${what}`);
    }
  }

  #finishFiles(more: readonly FurtherMedium[]): SetSummary {
    const { setId, ...header } = this.#place.header;
    const directory = this.#place.partialDirectory;
    const manifest = join(directory, MANIFEST_FILE);
    // Before bytes of the media become voids, it is on the disk which ones.
    this.#writeGathered();
    const kept = endKeptMedia(directory, manifest, this.#keptMedia, this.#voids > 0);
    this.#media.append(new Uint8Array(TAR_END_BYTES));
    const { volumes, mediaBytes, mediaXxh3 } = this.#media.finish();
    const further = more.map(({ bytes, xxh3 }) => ({ bytes, xxh3 }));
    const all = [...kept, { bytes: mediaBytes, xxh3: mediaXxh3 }, ...further];
    const [first, ...moreMedia] = all as [FurtherMedium, ...FurtherMedium[]];
    const allVolumes = [...(volumes ?? []), ...more.flatMap((m) => m.volumes ?? [])];
    const totals = {
      entries: this.#entries,
      bytes: this.#bytes,
      mediaBytes: first.bytes,
      mediaXxh3: first.xxh3,
      ...(moreMedia.length > 0 && { moreMedia }),
      warnings: this.#warnings,
      ...(volumes !== undefined && { volumes: allVolumes }),
    };
    this.#gather(Buffer.from(encodeTrailer(totals)));
    this.#writeGathered();
    const manifestBlake3 = this.#manifest.finish();
    const list = this.#merge?.finish();
    const summary: SetSummary = {
      id: setId,
      ...header,
      finishedAt: new Date().toISOString(),
      ...totals,
      manifestBytes: this.#manifest.bytes,
      manifestBlake3,
      ...(list !== undefined && {
        treeEntries: list.entries,
        indexBytes: list.bytes,
        indexBlake3: list.blake3,
      }),
    };
    writeNewFile(join(this.#place.partialDirectory, SUMMARY_FILE), encodeSummary(summary));
    this.#blocks.finish();
    this.#closeFiles();
    return summary;
  }

  /** Removes everything of an open set; does nothing to one that is committed or aborted. */
  abort(): void {
    this.#end(false);
  }

  /** The same, but what came so far is kept for the next backup, if that can be. */
  interrupt(): void {
    this.#end(!this.#isRefused);
  }

  #end(isKept: boolean): void {
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    const { partialDirectory, keep, release } = this.#place;
    let isGone = false;
    try {
      if (isKept && keep !== undefined) {
        this.#writeGathered();
        this.#closeFiles();
        isGone = keep();
      }
    } catch (e) {
      // A disk that is full now: there is nothing to keep it on.
      if (!isCoded(e)) throw e;
    } finally {
      this.#closeFiles();
      if (!isGone) removePartial(partialDirectory);
      release();
    }
  }

  #filesOpen = true;
  #closeFiles(): void {
    if (!this.#filesOpen) return;
    this.#filesOpen = false;
    this.#media.close();
    this.#blocks.close();
    this.#manifest.close();
    this.#merge?.close();
  }

  /** What fails on the library's disk ends the set, with a message that says what to do. */
  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (e) {
      if (this.#state === 'committed' || e instanceof LineError) throw e;
      this.abort();
      throw explainDiskError(e, this.#place.partialDirectory, this.id);
    }
  }
}

/** What a thread of another medium makes there meanwhile goes when the library is opened next. */
function removePartial(directory: string): void {
  try {
    rmSync(directory, { recursive: true, force: true });
  } catch (e) {
    if (!isCoded(e)) throw e;
  }
}

const advice: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk of the library is full: free space there, or name another library',
  EDQUOT: "the quota on the library's disk is used up: raise it, or name another library",
  EFBIG: "the library's file system does not take files this large: name another library",
  EROFS: "the library's disk is read-only: mount it for writing, or name another library",
  EIO: "the library's disk failed: look at the kernel's log before you trust earlier sets",
};

/** Calls that a set writer makes on its disk; a stream's errors come from others. */
const diskCalls: readonly unknown[] = ['open', 'mkdir', 'write', 'fsync', 'rename'];

/** Stream errors pass; errors of the disk say which set is lost and that no other is. */
export function explainDiskError(e: unknown, place: string, id: string): unknown {
  if (!isCoded(e) || !diskCalls.includes(e.syscall)) return e;
  if (e.message.includes(`set ${id} was given up`)) return e;
  const reason = advice[e.code] ?? e.message;
  const text = `set ${id} was given up and removed from ${place}; earlier sets are untouched: ${reason}`;
  return stpError(e.code, text, e.syscall);
}
