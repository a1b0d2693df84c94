/**
 * A medium: the tar archive of a set as whoever is above sees it, a run of logical bytes.
 *
 * The one writer and the one reader of these bytes. Members and manifests know logical offsets only;
 * on how many files a medium lies, and how it is coded there, is known in here. Plain media are one
 * file, byte for byte: what is appended goes to it by write(2) from where it is, and is read by
 * read(2) to where it is wanted.
 *
 * Its digest is XXH3 over these bytes, with the BLAKE3 of the data of each large file (isLargeData) in
 * the place of that data: the client has computed it, and the data is not read twice. It follows from
 * the archive alone.
 *
 * Synchronous; any thread, one at a time.
 */
import { closeSync, constants, fsyncSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { type ByteFile, PlainFile } from './bytes.js';
import {
  checkPlan,
  codingOf,
  type MediaAccess,
  type MediaCoding,
  type MediaPlan,
  type VolumeFacts,
  type VolumeHome,
} from './media-plan.js';
import { VolumesReader, VolumesWriter } from './media-volumes.js';
import { writeAll } from './write-all.js';
import { Xxh3Hasher } from './xxh3.js';

/** Medium 0 of a set where it is plain and one file. */
export const MEDIA_FILE = 'media.tar';

/** The file of a plain medium. */
export const mediumFile = (medium: number): string =>
  medium === 0 ? MEDIA_FILE : `media-${medium}.tar`;

/** What is said of a medium when it is complete. */
export interface MediumFacts {
  /** Logical. */
  readonly mediaBytes: number;
  /** Of the logical bytes; see above. */
  readonly mediaXxh3: string;
  /** Where it is not one plain file. */
  readonly volumes?: readonly VolumeFacts[];
}

export interface MediaWriter {
  /** Logical bytes appended so far: the place of the next one. */
  readonly bytes: number;
  /**
   * Appends logical bytes. They may lie in shared memory: they are used during the call only.
   * @throws ENOSPC, EIO, ...: the medium is lost then, close it
   */
  append(data: Uint8Array): void;
  /** The same of the data of a large file, which counts by the digest that `endData` gets. */
  appendData(data: Uint8Array): void;
  /** @param blake3 of all bytes since the last one, 32 bytes */
  endData(blake3: Uint8Array): void;
  /** Puts all of it on the disk and closes it. */
  finish(): MediumFacts;
  /** Closes files, complete or not; harmless when done twice. Who made the directory removes it. */
  close(): void;
}

/** Logical bytes of a medium. */
export type MediaReader = ByteFile;

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

class PlainWriter implements MediaWriter {
  readonly #fd: number;
  readonly #digest = new Xxh3Hasher();
  #open = true;
  bytes = 0;

  constructor(path: string) {
    this.#fd = openSync(path, CREATE, 0o600);
  }

  append(data: Uint8Array): void {
    this.#digest.update(data);
    this.appendData(data);
  }

  appendData(data: Uint8Array): void {
    writeAll(this.#fd, data);
    this.bytes += data.length;
  }

  endData(blake3: Uint8Array): void {
    this.#digest.update(blake3);
  }

  finish(): MediumFacts {
    fsyncSync(this.#fd);
    this.close();
    return { mediaBytes: this.bytes, mediaXxh3: this.#digest.text() };
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

/** Where a new medium goes, and what it is made with. */
export interface NewMedium {
  /** Of the set while it is made. */
  readonly partialDirectory: string;
  readonly home: VolumeHome;
  readonly medium: number;
  readonly plan: MediaPlan;
}

/** @throws EEXIST, ENOSPC, EACCES, ...; EINVAL for a plan that cannot be */
export function createMedia(at: NewMedium): MediaWriter {
  const coding = codingOf(at.plan);
  if (coding !== undefined) {
    checkPlan(at.plan);
    return new VolumesWriter({ ...at, coding });
  }
  return createPlainMedia(at.partialDirectory, at.medium);
}

export const createPlainMedia = (directory: string, medium = 0): MediaWriter =>
  new PlainWriter(join(directory, mediumFile(medium)));

/** What a reader needs to know of a set. */
export interface MediaOf {
  readonly id: string;
  readonly host: string;
  readonly coding?: MediaCoding;
  readonly volumes?: readonly VolumeFacts[];
}

/** The medium of a set, as long as it is. @throws ENOENT, EACCES, EIO */
export function openMedia(
  directory: string,
  set: MediaOf,
  access: MediaAccess,
  medium = 0,
): MediaReader {
  const { coding, volumes = [] } = set;
  if (coding === undefined) return new PlainFile(join(directory, mediumFile(medium)));
  return new VolumesReader({ ...set, directory, coding, volumes }, medium, access);
}
