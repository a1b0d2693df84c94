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
import {
  decodeLine,
  encodeHeader,
  encodeTrailer,
  endOffset,
  type FurtherMedium,
  LineError,
  type ManifestEntry,
  type ManifestHeader,
  MediaTiling,
  mediaDataBytes,
} from './manifest.js';
import { createMedia, type MediaWriter } from './media.js';
import type { MediaCoding, MediaPlan, VolumeFacts, VolumeHome } from './media-plan.js';
import { NewFile } from './new-file.js';
import { TAR_END_BYTES } from './pax.js';
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
  readonly mediaBlake3: string;
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
  /** Called right before the set becomes visible. @throws if its parents are not what they were */
  readonly verifyChain?: () => void;
}

/** Manifest lines are gathered up to this before they are written. */
const GATHER_BYTES = 256 * 1024;

export class SetWriter {
  readonly id: string;
  readonly #place: SetPlace;
  readonly #media: MediaWriter;
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
  #entries = 0;
  #bytes = 0;
  #warnings = 0;
  #state: 'open' | 'committed' | 'aborted' = 'open';

  /** The library has made the directory and holds its lock. */
  constructor(place: SetPlace) {
    this.id = place.header.setId;
    this.#place = place;
    const { header, plan = {}, partialDirectory } = place;
    const { home } = this;
    this.#media = createMedia({ partialDirectory, home, medium: 0, plan });
    this.#blocks = new BlocksWriter(blocksPath(partialDirectory, 0, plan));
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

  /** So far: for progress. */
  get entries(): number {
    return this.#entries;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get warnings(): number {
    return this.#warnings;
  }

  /** Appends the payload of the MEDIA frame that `frames` stands at. */
  media(frames: FrameReader): void {
    assert(this.#state === 'open', 'the set is open');
    this.#guard(() => frames.pass(frames.owed, (page) => this.#media.append(page)));
  }

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
        this.#accept(line, allowed, newline - start);
      } catch (e) {
        if (!(e instanceof LineError)) throw e;
        const where = `line ${this.#lineNumber + 1} of the manifest`;
        throw stpError('EPROTO', `the client's ${where} is refused: ${e.message}`);
      }
      this.#gather(bytes.subarray(start, newline + 1));
      start = newline + 1;
    }
  }

  #accept(line: string, allowed: 'entry' | 'warning', lineBytes: number): void {
    const record = decodeLine(line);
    const isOfTree = record.kind === 'entry' || record.kind === 'deleted' || record.kind === 'scan';
    if ((isOfTree ? 'entry' : record.kind) !== allowed) {
      throw new LineError(`it is not of the kind ${allowed}`);
    }
    if (record.kind === 'warning') this.#warnings++;
    else if (record.kind === 'scan') this.#merge?.begin(record.scanNs);
    else if (record.kind === 'deleted') this.#guard(() => this.#merge?.remove(record.path));
    else if (record.kind === 'entry') this.#acceptEntry(record, lineBytes);
  }

  #acceptEntry(record: ManifestEntry, lineBytes: number): void {
    this.#tiling.add(record);
    // Other media come through other streams: whether all of it is there shows at the end.
    if (record.medium === 0 && endOffset(record) > this.#media.bytes) {
      throw new LineError(`${displayPath(record.path)} ends behind the media received`);
    }
    // Those of other media are compared by check; wrong ones cost their file a full copy.
    const { blocks } = record;
    if (record.medium === 0 && blocks !== null && !this.#blocks.claim(blocks, record.size)) {
      const shown = displayPath(record.path);
      throw new LineError(`the block hashes of ${shown} are not those that it names`);
    }
    if (!record.again) this.#entries++;
    this.#bytes += mediaDataBytes(record);
    this.#guard(() => this.#merge?.put(record, this.#lineOffset, lineBytes));
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
    this.#assertTiled(more);
    if (this.#blocks.unclaimed > 0) {
      this.abort();
      throw stpError('EPROTO', 'the client sent block hashes that no entry names');
    }
    return this.#guard(() => {
      const { partialDirectory, directory } = this.#place;
      const summary = this.#finishFiles(more);
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
    const arrived = [this.#media.bytes, ...more.map(({ bytes }) => bytes - TAR_END_BYTES)];
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
    this.#media.append(new Uint8Array(TAR_END_BYTES));
    const { volumes, ...medium } = this.#media.finish();
    const moreMedia = more.map(({ bytes, blake3 }) => ({ bytes, blake3 }));
    const allVolumes = [...(volumes ?? []), ...more.flatMap((m) => m.volumes ?? [])];
    const totals = {
      entries: this.#entries,
      bytes: this.#bytes,
      ...medium,
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
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    this.#closeFiles();
    rmSync(this.#place.partialDirectory, { recursive: true, force: true });
    this.#place.release();
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
