/**
 * Check: does a set hold what it promises?
 *
 *   structure  set.json, manifest and list have their digests and agree; every line keeps its rules; the
 *              media have their length, and at each place a member as its line says, no data read
 *   share      structure, and the data of a share of the files, drawn by a seed
 *   data       structure, the data of every file, and the digest of the whole media: headers,
 *              padding and the end of the archive included
 *
 * Of an incremental set this is about what is in it: the sets that it needs are checked by
 * themselves (check-library.ts). Reads only. What is wrong is told by `onProblem`; the check of a set goes on as far as what is
 * left makes sense. Blocks; any thread.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded, messageOf } from '../errors.js';
import { displayPath } from '../source/names.js';
import type { StoredSet } from './library.js';
import {
  endOffset,
  type ManifestEntry,
  type ManifestReader,
  mediaDataBytes,
  mediaDigest,
  memberOf,
} from './manifest.js';
import { digestOfMedia, type MediaReader, openMediaIn } from './media.js';
import { MediaCursor } from './media-cursor.js';
import { paddedBytes, TAR_END_BYTES } from './pax.js';
import { MemberError, memberDifference, readMember } from './tar-member.js';

export type CheckDepth =
  | { readonly kind: 'structure' }
  | { readonly kind: 'data' }
  /** `draw` gives numbers from 0 to 1: a file is read when its number is below `share`. */
  | { readonly kind: 'share'; readonly share: number; readonly draw: () => number };

export interface SetProblem {
  readonly set: string;
  /** The part that is damaged. */
  readonly part: 'summary' | 'manifest' | 'media' | 'list' | 'parent';
  /** As stored, escaped for display; null where it is not one entry. */
  readonly path: string | null;
  readonly message: string;
}

export interface CheckHooks {
  onProblem(problem: SetProblem): void;
  /** Bytes of this set dealt with so far, of `mediaBytes`. Called often. */
  onProgress?(bytes: number): void;
}

export interface SetCheck {
  readonly entries: number;
  /** Files whose data was read and compared. */
  readonly filesRead: number;
  readonly problems: number;
}

export function checkSet(set: StoredSet, depth: CheckDepth, hooks: CheckHooks): SetCheck {
  return new SetChecker(set, depth, hooks).run();
}

class SetChecker {
  #entries = 0;
  #filesRead = 0;
  #problems = 0;

  constructor(
    private readonly set: StoredSet,
    private readonly depth: CheckDepth,
    private readonly hooks: CheckHooks,
  ) {}

  run(): SetCheck {
    this.#guard('list', () => this.set.verifyList());
    const sound = this.#guard('manifest', () => this.set.verifyManifest());
    if (sound) this.#walk();
    // Without a manifest to go by the media still have a digest of their own.
    else if (this.depth.kind === 'data') this.#wholeMedia();
    return { entries: this.#entries, filesRead: this.#filesRead, problems: this.#problems };
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
      const media = openMediaIn(this.set.directory);
      try {
        if (digestOfMedia(media) === this.set.summary.mediaBlake3) return;
        this.#problem('media', null, `${media.name} does not have its digest`);
      } finally {
        media.close();
      }
    });
  }

  #walk(): void {
    let opened: MediaReader | null = null;
    if (!this.#guard('media', () => (opened = this.set.openMedia()))) return;
    const media = opened as unknown as MediaReader;
    const whole = this.depth.kind === 'data' ? new Blake3Hasher() : null;
    const cursor = new MediaCursor(media, whole);
    let manifest: ManifestReader | null = null;
    try {
      this.#guard('manifest', () => {
        manifest = this.set.manifest();
        this.#compareHeader(manifest);
        for (const record of manifest) if (record.kind === 'entry') this.#entry(cursor, record);
        this.#compareTrailer(manifest);
        this.#end(cursor, whole);
      });
    } finally {
      (manifest as ManifestReader | null)?.close();
      media.close();
    }
  }

  #entry(cursor: MediaCursor, entry: ManifestEntry): void {
    this.#entries++;
    this.#member(cursor, entry);
    // A header that was not understood may have taken less than is its own.
    cursor.skip(entry.dataOffset - cursor.offset);
    if (mediaDataBytes(entry) > 0) this.#data(cursor, entry);
    this.hooks.onProgress?.(endOffset(entry));
  }

  #member(cursor: MediaCursor, entry: ManifestEntry): void {
    const say = (what: string) => {
      const name = displayPath(entry.path);
      const where = `${this.set.mediaPath} at ${entry.headerOffset}`;
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

  #data(cursor: MediaCursor, entry: ManifestEntry): void {
    const stored = mediaDataBytes(entry);
    const padding = paddedBytes(stored) - stored;
    const { depth } = this;
    const reads = depth.kind === 'data' || (depth.kind === 'share' && depth.draw() < depth.share);
    if (!reads) {
      cursor.skip(stored + padding);
      return;
    }
    this.#filesRead++;
    const digest = new Blake3Hasher();
    cursor.pass(stored, {
      update: (bytes) => {
        digest.update(bytes);
        this.hooks.onProgress?.(cursor.offset);
      },
    });
    const name = displayPath(entry.path);
    if (digest.digest('hex') !== mediaDigest(entry)) {
      this.#problem('media', name, `/${name} is damaged: its data is not what was backed up`);
    }
    if (cursor.take(padding).some((byte) => byte !== 0)) {
      this.#problem('media', name, `the padding behind /${name} is not zero`);
    }
  }

  #end(cursor: MediaCursor, whole: Blake3Hasher | null): void {
    if (cursor.take(TAR_END_BYTES).some((byte) => byte !== 0)) {
      this.#problem('media', null, `${this.set.mediaPath} does not end in two blocks of zeros`);
    }
    if (whole === null) return;
    if (whole.digest('hex') === this.set.summary.mediaBlake3) return;
    this.#problem('media', null, `${this.set.mediaPath} does not have its digest`);
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
    const keys = ['entries', 'bytes', 'mediaBytes', 'mediaBlake3', 'warnings'] as const;
    if (trailer !== null && keys.every((key) => trailer[key] === summary[key])) return;
    this.#problem('summary', null, 'set.json and the last line of the manifest differ');
  }
}
