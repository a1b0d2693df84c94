/**
 * Media that are cut into volumes, compressed or encrypted: files around the same logical bytes.
 *
 *   plain   label (a global header of tar, 4096 bytes), then the bytes
 *   zstd    label (a skippable frame, 4096 bytes), frames, table of the frames
 *   age     header with the label as a stanza, then, sealed, the bytes
 *   both    header with the label, then, sealed, frames and their table
 *
 * Each volume is complete by itself: nothing of it is in another one, and its BLAKE3 is that of the
 * whole file. Together, in their order and decoded, they are the medium. Volumes that are not in the
 * directory of their set are looked for in others. Synchronous; any thread, one at a time.
 */
import { closeSync, constants, fsyncSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { stpError } from '../errors.js';
import { AgeFile, AgeWriter } from './age-file.js';
import { type ByteFile, PlainFile } from './bytes.js';
import type { MediaReader, MediaWriter, MediumFacts } from './media.js';
import {
  LABEL_BYTES,
  labelAsTar,
  labelLines,
  labelOf,
  type MediaAccess,
  type MediaCoding,
  type MediaPlan,
  VOLUMES_MAX,
  type VolumeFacts,
  type VolumeHome,
  volumeName,
  volumeText,
} from './media-plan.js';
import {
  BrokenZstd,
  Compressor,
  FrameTable,
  lastAtMost,
  skippable,
  tableBytes,
  ZSTD_FRAME_BYTES,
  ZstdFile,
} from './media-zstd.js';
import { TAR_BLOCK_BYTES } from './pax.js';
import { writeAll } from './write-all.js';
import { Xxh3Hasher } from './xxh3.js';

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const SKIPPABLE_HEAD_BYTES = 8;

/** What a volume writer works with, the same for all volumes of a medium. */
export interface VolumesPlace {
  /** Where the files are made. */
  readonly partialDirectory: string;
  readonly home: VolumeHome;
  readonly medium: number;
  readonly plan: MediaPlan;
  readonly coding: MediaCoding;
}

/** One volume while it is written: payload in, a file with a digest out. */
class VolumeFile {
  readonly #fd: number;
  readonly #digest = new Blake3Hasher();
  readonly #age: AgeWriter | null;
  readonly #table: FrameTable | null;
  #bytes = 0;
  #open = true;
  /** Of payload: how much there is, and how much there may be. */
  #payload = 0;
  readonly #capacity: number;

  constructor(
    place: VolumesPlace,
    readonly number: number,
    readonly offset: number,
  ) {
    const { plan, coding, medium, home } = place;
    const at = { medium, number, offset };
    const label = labelOf(home, coding, at);
    this.#table = coding.compress ? new FrameTable() : null;
    this.#fd = openSync(
      join(place.partialDirectory, volumeName(home.id, coding, at)),
      CREATE,
      0o600,
    );
    const limit = plan.volumeBytes ?? Number.POSITIVE_INFINITY;
    try {
      if (coding.encrypt) {
        const sealing = { recipients: plan.recipients ?? [], label };
        this.#age = new AgeWriter(sealing, (bytes) => this.#put(bytes));
        this.#capacity = limit === Number.POSITIVE_INFINITY ? limit : this.#age.capacity(limit);
        return;
      }
      this.#age = null;
      this.#capacity = limit;
      const lines = LABEL_BYTES - SKIPPABLE_HEAD_BYTES;
      this.#write(this.#table ? skippable(labelLines(label, lines)) : labelAsTar(label));
      this.#table?.add(LABEL_BYTES, 0);
    } catch (e) {
      this.close();
      throw e;
    }
  }

  /** Bytes as they are that still fit, in whole blocks. */
  get room(): number {
    const left = this.#capacity - this.#payload;
    return left === Number.POSITIVE_INFINITY ? left : left - (left % TAR_BLOCK_BYTES);
  }

  write(data: Uint8Array): void {
    this.#write(data);
  }

  /** False, and nothing done, if the frame and the table do not fit any more. */
  writeFrame(frame: Buffer, decompressed: number): boolean {
    const table = this.#table as FrameTable;
    const whole = this.#payload + frame.length + tableBytes(table.frames + 1);
    if (whole > this.#capacity) return false;
    this.#write(frame);
    table.add(frame.length, decompressed);
    return true;
  }

  #write(payload: Uint8Array): void {
    this.#payload += payload.length;
    if (this.#age !== null) this.#age.write(payload);
    else this.#put(payload);
  }

  #put(bytes: Uint8Array): void {
    this.#digest.update(bytes);
    writeAll(this.#fd, bytes);
    this.#bytes += bytes.length;
  }

  /** On the disk when it returns. */
  finish(): { bytes: number; blake3: string } {
    if (this.#table !== null) this.#write(this.#table.encode());
    this.#age?.finish();
    fsyncSync(this.#fd);
    this.close();
    return { bytes: this.#bytes, blake3: this.#digest.digest('hex') };
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

export class VolumesWriter implements MediaWriter {
  readonly #place: VolumesPlace;
  readonly #digest = new Xxh3Hasher();
  readonly #volumes: VolumeFacts[] = [];
  readonly #compressor: Compressor | null;
  readonly #frame: Buffer;
  #frameBytes = 0;
  #volume: VolumeFile;
  /** Logical bytes that are in volumes. */
  #written = 0;
  bytes = 0;

  constructor(place: VolumesPlace) {
    this.#place = place;
    const { volumeBytes, level } = place.plan;
    this.#compressor = level === undefined ? null : new Compressor(level);
    // Several frames a volume, so that little is lost at its end.
    const frameBytes = Math.min(ZSTD_FRAME_BYTES, (volumeBytes ?? Number.POSITIVE_INFINITY) / 4);
    this.#frame = Buffer.allocUnsafeSlow(level === undefined ? 0 : Math.floor(frameBytes));
    this.#volume = new VolumeFile(place, 1, 0);
    if (this.#volume.room === 0) {
      this.close();
      throw stpError('EINVAL', 'the labels alone fill a volume: give a larger --volume-size');
    }
  }

  append(data: Uint8Array): void {
    this.#digest.update(data);
    this.appendData(data);
  }

  endData(blake3: Uint8Array): void {
    this.#digest.update(blake3);
  }

  appendData(data: Uint8Array): void {
    this.bytes += data.length;
    if (this.#compressor !== null) this.#gather(data);
    else this.#cut(data);
  }

  #cut(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      if (this.#volume.room === 0) this.#next();
      const count = Math.min(this.#volume.room, data.length - at);
      this.#volume.write(count === data.length ? data : data.subarray(at, at + count));
      this.#written += count;
      at += count;
    }
  }

  #gather(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      const count = Math.min(this.#frame.length - this.#frameBytes, data.length - at);
      this.#frame.set(data.subarray(at, at + count), this.#frameBytes);
      this.#frameBytes += count;
      at += count;
      if (this.#frameBytes === this.#frame.length) this.#flushFrame();
    }
  }

  #flushFrame(): void {
    if (this.#frameBytes === 0) return;
    const frame = (this.#compressor as Compressor).frame(this.#frame.subarray(0, this.#frameBytes));
    if (!this.#volume.writeFrame(frame, this.#frameBytes)) {
      this.#next();
      const fits = this.#volume.writeFrame(frame, this.#frameBytes);
      assert(fits, 'a frame fits an empty volume');
    }
    this.#written += this.#frameBytes;
    this.#frameBytes = 0;
  }

  #end(): void {
    const { number, offset } = this.#volume;
    const { medium } = this.#place;
    const length = this.#written - offset;
    this.#volumes.push({ medium, number, offset, length, ...this.#volume.finish() });
  }

  #next(): void {
    this.#end();
    const number = this.#volumes.length + 1;
    if (number > VOLUMES_MAX) {
      throw stpError('EFBIG', `more than ${VOLUMES_MAX} volumes: give a larger --volume-size`);
    }
    this.#volume = new VolumeFile(this.#place, number, this.#written);
  }

  finish(): MediumFacts {
    this.#flushFrame();
    this.#end();
    return {
      mediaBytes: this.bytes,
      mediaXxh3: this.#digest.text(),
      volumes: this.#volumes,
    };
  }

  close(): void {
    this.#volume.close();
  }
}

/** Where a volume is found, or why it is not. */
export interface VolumePlace {
  readonly facts: VolumeFacts;
  /** What its label says. */
  readonly text: string;
  readonly name: string;
  /** Null if it is nowhere. */
  readonly path: string | null;
  readonly problem: string | null;
}

/** The set as far as its media need it. */
export interface VolumesOf {
  readonly id: string;
  readonly host: string;
  readonly directory: string;
  readonly coding: MediaCoding;
  readonly volumes: readonly VolumeFacts[];
}

/** Looks for a volume with its set first, then elsewhere. */
export function findVolume(set: VolumesOf, facts: VolumeFacts, access: MediaAccess): VolumePlace {
  const name = volumeName(set.id, set.coding, facts);
  const text = volumeText(set, facts);
  // Only what is named after its set can be found outside of it.
  const elsewhere = set.coding.volumeBytes === undefined ? [] : access.search;
  let problem: string | null = null;
  for (const directory of [set.directory, ...elsewhere]) {
    const path = join(directory, name);
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === facts.bytes) return { facts, text, name, path, problem: null };
    if (size !== undefined) problem ??= `${path} has ${size} bytes instead of ${facts.bytes}`;
  }
  return { facts, text, name, path: null, problem };
}

export function volumeMissing(
  directory: string,
  { text, name, problem }: VolumePlace,
  access: MediaAccess,
): Error {
  if (problem !== null) {
    return stpError('EINVAL', `${text} is damaged: ${problem}; bring a good copy back, or repair`);
  }
  const places = [directory, ...access.search].join(', ');
  const what = `${text}, the file ${name}, is not in ${places}`;
  return stpError('ENOENT', `${what}; bring it back, or name its directory with --media`);
}

/** The inside of a volume. @throws EACCES without its key; EBADMSG, EINVAL if it is damaged */
function openVolume(set: VolumesOf, facts: VolumeFacts, path: string, access: MediaAccess) {
  const { compress, encrypt } = set.coding;
  let file: ByteFile = new PlainFile(path);
  if (encrypt) file = new AgeFile(file, access.identities);
  if (compress) file = new ZstdFile(file);
  const head = compress || encrypt ? 0 : LABEL_BYTES;
  if (file.bytes - head === facts.length) return { file, head };
  file.close();
  throw stpError(
    'EBADMSG',
    `${path} is damaged: ${file.bytes - head} bytes in it, not ${facts.length}`,
  );
}

/** The same of a damaged volume, for repair alone. */
export function openBrokenVolume(
  set: VolumesOf,
  facts: VolumeFacts,
  path: string,
  access: MediaAccess,
): { payload: ByteFile; age: AgeFile | null; zstd: BrokenZstd | null; head: number } {
  const { compress, encrypt } = set.coding;
  const age = encrypt ? new AgeFile(new PlainFile(path), access.identities, true) : null;
  const inner = age ?? new PlainFile(path);
  const zstd = compress ? new BrokenZstd(inner, encrypt ? 0 : LABEL_BYTES, facts.length) : null;
  return { payload: zstd ?? inner, age, zstd, head: compress || encrypt ? 0 : LABEL_BYTES };
}

export class VolumesReader implements MediaReader {
  readonly name: string;
  readonly bytes: number;
  readonly #set: VolumesOf;
  readonly #access: MediaAccess;
  readonly #volumes: readonly VolumeFacts[];
  readonly #offsets: readonly number[];
  #at = -1;
  #file: ByteFile | null = null;
  #head = 0;

  constructor(set: VolumesOf, medium: number, access: MediaAccess) {
    this.#set = set;
    this.#access = access;
    this.#volumes = set.volumes.filter((volume) => volume.medium === medium);
    this.#offsets = this.#volumes.map(({ offset }) => offset);
    const last = this.#volumes.at(-1);
    this.bytes = last === undefined ? 0 : last.offset + last.length;
    const first = { medium, number: 1 };
    this.name = join(set.directory, volumeName(set.id, set.coding, first));
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    if (offset >= this.bytes) return 0;
    const number = lastAtMost(this.#offsets, offset);
    const { offset: start, length } = this.#volumes[number] as VolumeFacts;
    const file = number === this.#at && this.#file !== null ? this.#file : this.#openAt(number);
    const count = Math.min(bytes, start + length - offset);
    return file.read(into, at, count, this.#head + offset - start);
  }

  #openAt(number: number): ByteFile {
    this.close();
    const facts = this.#volumes[number] as VolumeFacts;
    const place = findVolume(this.#set, facts, this.#access);
    if (place.path === null) throw volumeMissing(this.#set.directory, place, this.#access);
    const { file, head } = openVolume(this.#set, facts, place.path, this.#access);
    this.#file = file;
    this.#head = head;
    this.#at = number;
    return file;
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
    this.#at = -1;
  }
}
