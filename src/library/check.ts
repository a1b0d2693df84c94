/**
 * Check: does a set hold what it promises?
 *
 *   structure  set.json, manifest, list and block hashes have their digests and agree; every line keeps its rules; the
 *              media have their length, and at each place a member as its line says, no data read
 *   share      structure, and the data of a share of the files, drawn by a seed
 *   data       structure, the data of every file, and the digest of the whole media: headers,
 *              padding and the end of the archive included; of media in volumes that of each file
 *
 * A volume that is not there was moved off, and is no damage: it is told by `onAbsent`, and what is in
 * it is left out. Without an identity the files of an encrypted set are compared with their digests.
 *
 * Of an incremental set this is about what is in it: the sets that it needs are checked by
 * themselves (check-library.ts). Reads only. What is wrong is told by `onProblem`; the check of a set goes on as far as what is
 * left makes sense. Blocks; any thread.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded, messageOf, stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import { type BlockList, blocksFile, listBytesOf, readBlockList } from './blocks.js';
import { digestOfFile } from './digest.js';
import type { StoredSet } from './library.js';
import {
  endOffset,
  hasLargeData,
  type ManifestEntry,
  type ManifestReader,
  type ManifestVoid,
  mediaDataBytes,
  mediaDigest,
  memberOf,
} from './manifest.js';
import type { MediaReader } from './media.js';
import { type ByteSink, MediaCursor } from './media-cursor.js';
import { DigestingCursor, digestOfMedia, digestOfNext } from './media-digest.js';
import type { VolumeFacts } from './media-plan.js';
import type { VolumePlace } from './media-volumes.js';
import { paddedBytes, TAR_BLOCK_BYTES, TAR_END_BYTES } from './pax.js';
import { MemberError, memberDifference, readMember, voidBytes } from './tar-member.js';

export type CheckDepth =
  | { readonly kind: 'structure' }
  | { readonly kind: 'data' }
  /** `draw` gives numbers from 0 to 1: a file is read when its number is below `share`. */
  | { readonly kind: 'share'; readonly share: number; readonly draw: () => number };

export interface SetProblem {
  readonly set: string;
  /** The part that is damaged. */
  readonly part: 'summary' | 'manifest' | 'media' | 'list' | 'blocks' | 'parent';
  /** As stored, escaped for display; null where it is not one entry. */
  readonly path: string | null;
  readonly message: string;
}

export interface CheckHooks {
  onProblem(problem: SetProblem): void;
  /** A volume that is neither with its set nor where it was looked for. */
  onAbsent?(set: string, volume: VolumePlace): void;
  /** Bytes of this set dealt with so far, of `bytesToCheck`. Called often. */
  onProgress?(bytes: number): void;
}

export interface SetCheck {
  readonly entries: number;
  /** Files whose data was read and compared. */
  readonly filesRead: number;
  readonly problems: number;
  /** Files of media in volumes, and how many of them are not there. */
  readonly volumes: number;
  readonly absent: number;
  /** Encrypted, and no identity opens it: only its files as they are were looked at. */
  readonly sealed: boolean;
}

export function checkSet(set: StoredSet, depth: CheckDepth, hooks: CheckHooks): SetCheck {
  return new SetChecker(set, depth, hooks).run();
}

/** Bytes that `CheckHooks.onProgress` counts up to: volumes are read as files, and then as media. */
export const bytesToCheck = (set: StoredSet, depth: CheckDepth): number =>
  (depth.kind === 'data' ? fileBytes(set) : 0) + logicalBytes(set);

/** Of volumes; nothing of media that are one plain file. */
const fileBytes = ({ summary: { volumes = [] } }: StoredSet): number =>
  volumes.reduce((sum, { bytes }) => sum + bytes, 0);

export const logicalBytes = (set: StoredSet): number =>
  set.media.reduce((sum, { bytes }) => sum + bytes, 0);

interface OpenMedium {
  readonly medium: number;
  readonly media: MediaReader;
  readonly cursor: MediaCursor;
  /** The same, where the digest of the medium is wanted. */
  readonly whole: DigestingCursor | null;
  readonly xxh3: string;
}

class SetChecker {
  readonly #missingByMedium = new Map<number, readonly VolumeFacts[]>();
  readonly #media: OpenMedium[] = [];
  /** How far the block hashes of each medium go, by the lines so far. */
  readonly #listEnds: number[] = [];
  #entries = 0;
  #filesRead = 0;
  #problems = 0;
  #absent = 0;
  /** Of volumes as files, for the progress. */
  #fileBytes = 0;
  /** Volumes that cannot be read. */
  readonly #missing: VolumeFacts[] = [];

  constructor(
    private readonly set: StoredSet,
    private readonly depth: CheckDepth,
    private readonly hooks: CheckHooks,
  ) {}

  run(): SetCheck {
    this.#guard('list', () => this.set.verifyList());
    const sound = this.#guard('manifest', () => this.set.verifyManifest());
    this.#volumes();
    const sealed = sound && this.#isClosed();
    if (sound && !sealed) this.#walk();
    // Without a manifest to go by the media still have a digest of their own.
    else if (!sealed && this.depth.kind === 'data' && this.#missing.length === 0) {
      this.#wholeMedia();
    }
    return {
      entries: this.#entries,
      filesRead: this.#filesRead,
      problems: this.#problems,
      volumes: this.set.summary.volumes?.length ?? 0,
      absent: this.#absent,
      sealed,
    };
  }

  /** Which volumes are there, and with all data whether they are what was written. */
  #volumes(): void {
    for (const volume of this.set.volumes()) {
      const { facts, text, name, path, problem } = volume;
      if (path === null) {
        this.#missing.push(facts);
        const isMoved = problem === null && this.set.summary.coding?.volumeBytes !== undefined;
        if (isMoved) {
          this.#absent++;
          this.hooks.onAbsent?.(this.set.id, volume);
        } else this.#problem('media', null, `${text}: ${problem ?? `${name} is not there`}`);
      } else if (this.depth.kind === 'data') {
        this.#guard('media', () => {
          const tell = (bytes: number) => this.hooks.onProgress?.(this.#fileBytes + bytes);
          if (digestOfFile(path, tell).blake3 === facts.blake3) return;
          this.#problem('media', null, `${text}: ${path} does not have its digest`);
        });
      }
      if (this.depth.kind === 'data') this.#fileBytes += facts.bytes;
    }
  }

  /** True if it is encrypted and there is no key for it. */
  #isClosed(): boolean {
    if (!this.set.isSealed) return false;
    const refuses = (work: () => void): boolean => {
      try {
        work();
        return false;
      } catch (e) {
        return isCoded(e) && e.code === 'EACCES';
      }
    };
    return (
      refuses(() => this.set.openManifest().close()) ||
      // The server's own key opens lists and manifests, and no media.
      this.set
        .volumes()
        .some(({ facts, path }) => path !== null && refuses(() => this.#peek(facts)))
    );
  }

  /** @throws EACCES without a key for the media */
  #peek({ medium, offset }: VolumeFacts): void {
    const media = this.set.openMediaAsIs(medium);
    try {
      media.read(Buffer.alloc(1), 0, 1, offset);
    } finally {
      media.close();
    }
  }

  #isThere(medium: number, from: number, end: number): boolean {
    const missing = this.#missingOf(medium);
    if (missing.length === 0) return true;
    // They lie in order, one beside the other: only the last that begins before the end counts.
    let [low, high] = [0, missing.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((missing[middle] as VolumeFacts).offset < end) low = middle + 1;
      else high = middle;
    }
    const last = missing[low - 1];
    return last === undefined || last.offset + last.length <= from;
  }

  /** Entries may be as many as volumes: they are parted once. */
  #missingOf(medium: number): readonly VolumeFacts[] {
    const known = this.#missingByMedium.get(medium);
    if (known !== undefined) return known;
    const found = this.#missing.filter((v) => v.medium === medium);
    found.sort((a, b) => a.offset - b.offset);
    this.#missingByMedium.set(medium, found);
    return found;
  }

  #problem(part: SetProblem['part'], path: string | null, message: string): void {
    this.#problems++;
    this.hooks.onProblem({ set: this.set.id, part, path, message });
  }

  /** False, and a problem, if `work` throws what a disk or a broken rule throws. */
  #guard(part: SetProblem['part'], work: () => void): boolean {
    try {
      work();
      return true;
    } catch (e) {
      if (!isCoded(e) && !(e instanceof MemberError)) throw e;
      this.#problem(part, null, messageOf(e));
      return false;
    }
  }

  #wholeMedia(): void {
    this.#guard('media', () => {
      for (const [medium, { xxh3 }] of this.set.media.entries()) {
        const media = this.set.openMediaAsIs(medium);
        try {
          if (digestOfMedia(media) === xxh3) continue;
          this.#problem('media', null, `${media.name} does not have its digest`);
        } finally {
          media.close();
        }
      }
    });
  }

  #walk(): void {
    let manifest: ManifestReader | null = null;
    try {
      if (!this.#guard('media', () => this.#openMedia())) return;
      this.#guard('manifest', () => {
        manifest = this.set.manifest();
        this.#compareHeader(manifest);
        for (const record of manifest) {
          if (record.kind === 'entry') this.#entryOrDamage(this.#at(record), record);
          if (record.kind === 'void') this.#void(this.#at(record), record);
        }
        this.#compareTrailer(manifest);
        this.#compareListEnds();
        for (const medium of this.#media) this.#end(medium);
      });
    } finally {
      (manifest as ManifestReader | null)?.close();
      for (const { media } of this.#media) media.close();
    }
  }

  /** One piece of coded media that cannot be decoded is not the end of the others. */
  #entryOrDamage(open: OpenMedium, entry: ManifestEntry): void {
    const { cursor } = open;
    try {
      if (this.#isThere(entry.medium, entry.headerOffset, endOffset(entry))) {
        this.#entry(open, entry);
        return;
      }
      if (!entry.again) this.#entries++;
    } catch (e) {
      if (!isCoded(e) || e.code !== 'EBADMSG') throw e;
      this.#problem('media', displayPath(entry.path), messageOf(e));
    }
    cursor.skip(endOffset(entry) - cursor.offset);
  }

  #openMedia(): void {
    // Volumes have digests of their own, which were compared.
    const isWhole = this.depth.kind === 'data' && this.set.summary.coding === undefined;
    for (const [medium, { xxh3 }] of this.set.media.entries()) {
      const media = this.set.openMedia(medium);
      const whole = isWhole ? new DigestingCursor(media) : null;
      const cursor = whole ?? new MediaCursor(media, null);
      this.#media.push({ medium, media, xxh3, whole, cursor });
    }
  }

  /** The medium of a record, and its part in the progress. */
  #at({ medium }: { readonly medium: number }): OpenMedium {
    const open = this.#media[medium];
    // The manifest's last line is compared with set.json, but only behind all others.
    if (open === undefined) throw stpError('EINVAL', `there is no medium ${medium}`);
    return open;
  }

  /** Of all media together, when one of them has been read up to `offset`. */
  #progress({ cursor }: OpenMedium, offset: number): void {
    if (this.hooks.onProgress === undefined) return;
    let bytes = this.#fileBytes + offset - cursor.offset;
    for (const each of this.#media) bytes += each.cursor.offset;
    this.hooks.onProgress(bytes);
  }

  #void({ medium, cursor, media }: OpenMedium, { headerOffset, bytes }: ManifestVoid): void {
    const end = headerOffset + bytes;
    if (!this.#isThere(medium, headerOffset, end)) return cursor.skip(bytes);
    for (let at = headerOffset; at < end; ) {
      const part = voidBytes(cursor.take(TAR_BLOCK_BYTES));
      if (part === null || at + part > end) {
        this.#problem('media', null, `${media.name} at ${at}: there is no comment in its place`);
        cursor.skip(end - at - TAR_BLOCK_BYTES);
        return;
      }
      cursor.skip(part - TAR_BLOCK_BYTES);
      at += part;
    }
  }

  #entry(open: OpenMedium, entry: ManifestEntry): void {
    const { cursor } = open;
    if (!entry.again) this.#entries++;
    this.#member(open, entry);
    if (entry.blocks !== null) this.#list(entry, entry.blocks);
    // A header that was not understood may have taken less than is its own.
    cursor.skip(entry.dataOffset - cursor.offset);
    if (mediaDataBytes(entry) > 0) this.#data(open, entry);
    this.#progress(open, endOffset(entry));
  }

  #member({ cursor, media }: OpenMedium, entry: ManifestEntry): void {
    const say = (what: string) => {
      const name = displayPath(entry.path);
      const where = `${media.name} at ${entry.headerOffset}`;
      this.#problem('media', name, `${where}, the header of ${name}: ${what}`);
    };
    try {
      const found = readMember((bytes) => {
        if (cursor.offset + bytes > entry.dataOffset) throw new MemberError('it is too long');
        return cursor.take(bytes);
      });
      if (found === null) return say('there are zeros in its place');
      if (cursor.offset !== entry.dataOffset) return say('it is too short');
      const different = memberDifference(found, memberOf(entry));
      if (different !== null) say(`${different} is not as the manifest says`);
    } catch (e) {
      if (!(e instanceof MemberError)) throw e;
      say(e.message);
    }
  }

  /** Block hashes are few beside what they stand for: all are read. */
  #list({ path, size, medium }: ManifestEntry, list: BlockList): void {
    const file = join(this.set.directory, blocksFile(medium));
    const bytes = listBytesOf(size, list.blockBytes);
    this.#listEnds[medium] = Math.max(this.#listEnds[medium] ?? 0, list.offset + bytes);
    if (readBlockList(file, list.offset, bytes, list.blake3) !== null) return;
    const name = displayPath(path);
    this.#problem('blocks', name, `${file} is damaged: it does not have the hashes of /${name}`);
  }

  #compareListEnds(): void {
    for (const medium of this.set.media.keys()) {
      const file = join(this.set.directory, blocksFile(medium));
      const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      const end = this.#listEnds[medium] ?? 0;
      if (size > end) this.#problem('blocks', null, `${file} has ${size} bytes instead of ${end}`);
    }
  }

  #data(open: OpenMedium, entry: ManifestEntry): void {
    const { cursor } = open;
    const stored = mediaDataBytes(entry);
    const padding = paddedBytes(stored) - stored;
    const { depth } = this;
    const reads = depth.kind === 'data' || (depth.kind === 'share' && depth.draw() < depth.share);
    if (!reads) {
      cursor.skip(stored + padding);
      return;
    }
    this.#filesRead++;
    const progress: ByteSink = { update: () => this.#progress(open, cursor.offset) };
    const blake3 =
      open.whole?.passData(stored, hasLargeData(entry), progress) ??
      digestOfNext(cursor, stored, progress);
    const name = displayPath(entry.path);
    if (blake3 !== mediaDigest(entry)) {
      this.#problem('media', name, `/${name} is damaged: its data is not what was backed up`);
    }
    if (cursor.take(padding).some((byte) => byte !== 0)) {
      this.#problem('media', name, `the padding behind /${name} is not zero`);
    }
  }

  #end({ medium, cursor, whole, media, xxh3 }: OpenMedium): void {
    if (!this.#isThere(medium, cursor.offset, cursor.offset + TAR_END_BYTES)) return;
    if (cursor.take(TAR_END_BYTES).some((byte) => byte !== 0)) {
      this.#problem('media', null, `${media.name} does not end in two blocks of zeros`);
    }
    if (whole === null || whole.text === xxh3) return;
    this.#problem('media', null, `${media.name} does not have its digest`);
  }

  #compareHeader(manifest: ManifestReader): void {
    const { summary } = this.set;
    const { header } = manifest;
    const same =
      header.setId === summary.id &&
      header.host === summary.host &&
      header.startedAt === summary.startedAt &&
      header.stpd === summary.stpd &&
      JSON.stringify(header.roots) === JSON.stringify(summary.roots) &&
      JSON.stringify(header.chain) === JSON.stringify(summary.chain);
    if (!same) this.#problem('summary', null, 'set.json and the first line of the manifest differ');
  }

  #compareTrailer(manifest: ManifestReader): void {
    const { summary } = this.set;
    const { trailer } = manifest;
    const keys = ['entries', 'bytes', 'mediaBytes', 'mediaXxh3', 'warnings'] as const;
    const same =
      trailer !== null &&
      keys.every((key) => trailer[key] === summary[key]) &&
      JSON.stringify(trailer.moreMedia) === JSON.stringify(summary.moreMedia);
    if (same) return;
    this.#problem('summary', null, 'set.json and the last line of the manifest differ');
  }
}
