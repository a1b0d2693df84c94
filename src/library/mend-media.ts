/**
 * Media made anew where the manifest says what they were: headers, padding, voids and the end of the
 * archive. Data stays as it is, and must have its digest.
 *
 *   plain medium   a new file; the digest of the set decides
 *   volume, coded  a new file for each that does not have its digest, byte for byte the old one, or
 *                  none: label and header are made anew; what is sealed by age is sealed again with
 *                  the same key (a changed bit of it is one changed bit inside); of zstd the table,
 *                  and frames whose content is known, by the level that gives the others' bytes
 *
 * Writes into `stage` only, where sound files are hard links. Who calls checks all of it before any of
 * it counts. Blocks; any thread.
 */
import { closeSync, constants, fsyncSync, linkSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded } from '../errors.js';
import { AgeWriter, type Reopened } from './age-file.js';
import { type ByteFile, PlainFile, readAll } from './bytes.js';
import { digestOfFile } from './digest.js';
import { onFile } from './disk.js';
import type { StoredSet } from './library.js';
import {
  type FurtherMedium,
  type ManifestEntry,
  mediaDataBytes,
  mediaDigest,
  memberOf,
} from './manifest.js';
import { createPlainMedia, mediumFile } from './media.js';
import { digestOfMedia } from './media-digest.js';
import {
  LABEL_BYTES,
  labelAsTar,
  labelLines,
  labelOf,
  type MediaAccess,
  type VolumeFacts,
  ZSTD_LEVEL_MAX,
} from './media-plan.js';
import { openBrokenVolume, type VolumePlace, type VolumesOf } from './media-volumes.js';
import { type BrokenZstd, Compressor, type Frame, FrameTable, skippable } from './media-zstd.js';
import { paddedBytes, TAR_END_BYTES, TarHeaderWriter, writeVoid } from './pax.js';
import { MemberError, memberDifference, readMember } from './tar-member.js';
import { writeAll } from './write-all.js';

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const SLICE_BYTES = 1 << 20;
const SKIPPABLE_HEAD_BYTES = 8;
/** Frames that tell the level of the others; two may be damaged. */
const SAMPLE_FRAMES = 4;

type Put = (bytes: Uint8Array) => void;

/** A run of logical bytes of a medium. */
interface Piece {
  readonly at: number;
  readonly bytes: number;
  /** What it must be; null for data, which stays as it is. */
  readonly make: (() => Uint8Array) | null;
  /** Of data. */
  readonly blake3?: string;
}

/**
 * The header blocks of an entry. What only the media say, the names that a directory has in an
 * incremental set, stays as it is there; all else is made from the manifest.
 */
function headerOf(writer: TarHeaderWriter, entry: ManifestEntry, old: () => Buffer): Uint8Array {
  const length = entry.dataOffset - entry.headerOffset;
  const there = entry.type === 'directory' ? soundHeader(entry, old) : null;
  if (there !== null) return there;
  const bytes = writer.write(memberOf(entry));
  if (bytes !== length) throw new MemberError('its header has another length');
  return writer.buffer.subarray(0, bytes);
}

/** The header that is there if it says what the manifest says. */
function soundHeader(entry: ManifestEntry, read: () => Buffer): Buffer | null {
  let at = 0;
  try {
    const old = read();
    const found = readMember((bytes) => {
      if (at + bytes > old.length) throw new MemberError('it is too long');
      at += bytes;
      return old.subarray(at - bytes, at);
    });
    const isWhole = found !== null && at === old.length;
    return isWhole && memberDifference(found, memberOf(entry)) === null ? old : null;
  } catch (e) {
    if (!(e instanceof MemberError) && !isCoded(e)) throw e;
    return null;
  }
}

const zeros = (bytes: number) => (): Uint8Array => new Uint8Array(bytes);

/** All of a medium in its order, by the manifest. `media` is what there is of it. */
function* piecesOf(set: StoredSet, medium: number, media: ByteFile): Generator<Piece> {
  const writer = new TarHeaderWriter();
  let end = 0;
  for (const record of set.manifest()) {
    if (record.kind === 'deleted' || record.kind === 'warning' || record.medium !== medium)
      continue;
    const { headerOffset: at } = record;
    if (record.kind === 'void') {
      yield* voidPieces(at, record.bytes);
      end = at + record.bytes;
      continue;
    }
    const { dataOffset } = record;
    const old = (): Buffer => {
      const bytes = Buffer.alloc(dataOffset - at);
      readAll(media, bytes, at);
      return bytes;
    };
    yield { at, bytes: dataOffset - at, make: () => headerOf(writer, record, old) };
    const stored = mediaDataBytes(record);
    const padding = paddedBytes(stored) - stored;
    const blake3 = mediaDigest(record);
    if (stored > 0) {
      yield { at: dataOffset, bytes: stored, make: null, ...(blake3 !== null && { blake3 }) };
    }
    if (padding > 0) yield { at: dataOffset + stored, bytes: padding, make: zeros(padding) };
    end = dataOffset + stored + padding;
  }
  yield { at: end, bytes: TAR_END_BYTES, make: zeros(TAR_END_BYTES) };
}

/** Its comments are known; what they hide is of no interest, and stays. */
function* voidPieces(start: number, bytes: number): Generator<Piece> {
  const known: Piece[] = [];
  writeVoid(bytes, (data, at) => {
    const copy = Buffer.from(data);
    known.push({ at: start + at, bytes: copy.length, make: () => copy });
  });
  let at = start;
  for (const piece of known) {
    if (piece.at > at) yield { at, bytes: piece.at - at, make: null };
    yield piece;
    at = piece.at + piece.bytes;
  }
  if (at < start + bytes) yield { at, bytes: start + bytes - at, make: null };
}

/**
 * The logical bytes from `from` to `end` as they must have been.
 * @throws MemberError: data is damaged, too
 */
function* mended(
  set: StoredSet,
  medium: number,
  media: ByteFile,
  from: number,
  end: number,
): Generator<Uint8Array> {
  const slice = Buffer.allocUnsafeSlow(SLICE_BYTES);
  for (const piece of piecesOf(set, medium, media)) {
    const [start, stop] = [Math.max(piece.at, from), Math.min(piece.at + piece.bytes, end)];
    if (piece.at >= end) return;
    if (start >= stop) continue;
    if (piece.make !== null) {
      yield piece.make().subarray(start - piece.at, stop - piece.at);
      continue;
    }
    const isWhole = stop - start === piece.bytes;
    const digest = isWhole && piece.blake3 !== undefined ? new Blake3Hasher() : null;
    for (let at = start; at < stop; ) {
      const moved = media.read(slice, 0, Math.min(slice.length, stop - at), at);
      if (moved === 0) throw new MemberError('the media end in its data');
      digest?.update(slice.subarray(0, moved));
      yield slice.subarray(0, moved);
      at += moved;
    }
    if (digest !== null && digest.digest('hex') !== piece.blake3) {
      throw new MemberError('its data is damaged');
    }
  }
}

/** All media of a set in `stage`. @throws MemberError, EACCES, ... if that is not to be done */
export function mendMedia(set: StoredSet, stage: string, access: MediaAccess): void {
  const { coding, volumes = [] } = set.summary;
  if (coding === undefined) {
    for (const [medium, facts] of set.media.entries()) mendPlain(set, stage, medium, facts);
    return;
  }
  const of = { ...set.summary, directory: set.directory, coding, volumes };
  for (const place of set.volumes()) {
    const { path, problem, facts, name } = place;
    if (problem !== null) throw new MemberError(problem);
    if (path === null) continue;
    if (digestOfFile(path).blake3 !== facts.blake3) mendVolume({ set, of, access, stage }, place);
    else if (path === join(set.directory, name)) linkSync(path, join(stage, name));
  }
}

function mendPlain(set: StoredSet, stage: string, medium: number, facts: FurtherMedium): void {
  const path = join(set.directory, mediumFile(medium));
  const media = new PlainFile(path);
  try {
    if (digestOfMedia(media) === facts.xxh3) {
      linkSync(path, join(stage, mediumFile(medium)));
      return;
    }
    const file = createPlainMedia(stage, medium);
    try {
      for (const bytes of mended(set, medium, media, 0, facts.bytes)) file.append(bytes);
      file.finish();
    } finally {
      file.close();
    }
  } finally {
    media.close();
  }
}

interface Mending {
  readonly set: StoredSet;
  readonly of: VolumesOf;
  readonly access: MediaAccess;
  readonly stage: string;
}

type Broken = ReturnType<typeof openBrokenVolume>;

/** A damaged volume within its medium: a header may begin or end in another one. */
class BrokenMedium implements ByteFile {
  readonly name: string;
  readonly bytes: number;

  constructor(
    private readonly broken: Broken,
    private readonly facts: VolumeFacts,
    private readonly others: ByteFile,
  ) {
    this.name = broken.payload.name;
    this.bytes = others.bytes;
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    const { facts, broken, others } = this;
    const [start, end] = [facts.offset, facts.offset + facts.length];
    if (offset < start) return others.read(into, at, Math.min(bytes, start - offset), offset);
    if (offset >= end) return others.read(into, at, bytes, offset);
    const count = Math.min(bytes, end - offset);
    return broken.payload.read(into, at, count, broken.head + offset - start);
  }

  close(): void {
    this.others.close();
    this.broken.payload.close();
  }
}

/** What may have stood in front of the payload: with a label as it would be today, and as it is. */
function headsOf({ of }: Mending, { facts, path }: VolumePlace, broken: Broken): Head[] {
  const label = labelOf(of, of.coding, facts);
  if (broken.age !== null) return broken.age.reopened(label);
  const old = Buffer.alloc(LABEL_BYTES);
  const file = new PlainFile(path as string);
  try {
    readAll(file, old, 0);
  } finally {
    file.close();
  }
  const lines = LABEL_BYTES - SKIPPABLE_HEAD_BYTES;
  return [of.coding.compress ? skippable(labelLines(label, lines)) : labelAsTar(label), old];
}
type Head = Reopened | Buffer;

/** Byte for byte as it was, or MemberError. */
function mendVolume(m: Mending, place: VolumePlace): void {
  const { facts, path, name } = place;
  const target = join(m.stage, name);
  const broken = openBrokenVolume(m.of, facts, path as string, m.access);
  const media = new BrokenMedium(broken, facts, m.set.openMediaAsIs(facts.medium));
  try {
    const { zstd } = broken;
    const content = () =>
      mended(m.set, facts.medium, media, facts.offset, facts.offset + facts.length);
    const levels = zstd === null ? [0] : levelsOf(zstd);
    for (const head of headsOf(m, place, broken)) {
      for (const level of levels) {
        const digest = writeVolume(target, head, (put) => {
          if (zstd === null) for (const bytes of content()) put(bytes);
          else writeFrames(zstd, content(), { level, hasLabel: Buffer.isBuffer(head) }, put);
        });
        if (digest === facts.blake3) return;
        rmSync(target);
      }
    }
  } finally {
    media.close();
  }
  throw new MemberError(`${path} is not what comes of it`);
}

function writeVolume(path: string, head: Head, payload: (put: Put) => void): string {
  return onFile(path, () => {
    const fd = openSync(path, CREATE, 0o600);
    const digest = new Blake3Hasher();
    const toFile: Put = (bytes) => {
      digest.update(bytes);
      writeAll(fd, bytes);
    };
    try {
      if (Buffer.isBuffer(head)) {
        toFile(head);
        payload(toFile);
      } else {
        const age = new AgeWriter(head, toFile);
        payload((bytes) => age.write(bytes));
        age.finish();
      }
      fsyncSync(fd);
      return digest.digest('hex');
    } finally {
      closeSync(fd);
    }
  });
}

/** Frames that are what they should be stay as they are. */
function writeFrames(
  there: BrokenZstd,
  content: Iterable<Uint8Array>,
  { level, hasLabel }: { readonly level: number; readonly hasLabel: boolean },
  put: Put,
): void {
  const table = new FrameTable();
  const compressor = new Compressor(level);
  if (hasLabel) table.add(LABEL_BYTES, 0);
  let number = 0;
  let filled = 0;
  let wanted = Buffer.alloc(there.frames[0]?.bytes ?? 0);
  for (const bytes of content) {
    for (let at = 0; at < bytes.length; ) {
      const frame = there.frames[number] as Frame;
      const count = Math.min(frame.bytes - filled, bytes.length - at);
      wanted.set(bytes.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled < frame.bytes) continue;
      const isSound = there.content(frame)?.equals(wanted) === true;
      const raw = isSound ? there.raw(frame) : compressor.frame(wanted);
      put(raw);
      table.add(raw.length, frame.bytes);
      filled = 0;
      wanted = Buffer.alloc(there.frames[++number]?.bytes ?? 0);
    }
  }
  put(table.encode());
}

/** The levels that give the very bytes of frames that are there; all where none does. */
function levelsOf(there: BrokenZstd): number[] {
  let levels = Array.from({ length: ZSTD_LEVEL_MAX }, (_, i) => i + 1);
  for (const frame of there.frames.slice(0, SAMPLE_FRAMES)) {
    const content = there.content(frame);
    if (content === null) continue;
    const raw = there.raw(frame);
    const fitting = levels.filter((level) => new Compressor(level).frame(content).equals(raw));
    // None: it is damaged, or another zstd made it.
    if (fitting.length > 0) levels = fitting;
    if (levels.length === 1) break;
  }
  return levels;
}
