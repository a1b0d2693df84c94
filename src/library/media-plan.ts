/**
 * How the media of a set are cut and coded, what their files are called, and what each says of
 * itself. Pure; any thread.
 *
 *   media.tar                   plain, whole: what a set has unless something else is asked for
 *   media.tar.zst, .age, .zst.age   coded, whole
 *   ID.v0001.tar                volumes: their names say what they are part of, wherever they lie
 *   ID.m1.v0001.tar.zst.age     of another medium than 0
 */
import { stpError } from '../errors.js';
import type { Identity, Recipient } from './age-keys.js';

/** What the first line of a manifest and set.json say; left out where media are plain and whole. */
export interface MediaCoding {
  /** Most bytes of a volume; left out: one file a medium. */
  readonly volumeBytes?: number;
  readonly compress?: 'zstd';
  /** Media, manifest and list are files of age. */
  readonly encrypt?: 'age';
}

/** One file of a medium, when it is complete. */
export interface VolumeFacts {
  readonly medium: number;
  /** From 1 on in each medium. */
  readonly number: number;
  /** The logical bytes that it has. */
  readonly offset: number;
  readonly length: number;
  /** Of the file, label and padding included. */
  readonly bytes: number;
  readonly blake3: string;
}

/** What a set is made with. */
export interface MediaPlan {
  readonly volumeBytes?: number | undefined;
  /** zstd's; left out: not compressed. */
  readonly level?: number | undefined;
  /** Who can read the data; left out: anybody. */
  readonly recipients?: readonly Recipient[] | undefined;
  /** Reads manifest and list, too, and nothing else: the server's, for incremental backups. */
  readonly listRecipient?: Recipient | undefined;
}

/** With what a set is read. */
export interface MediaAccess {
  /** Directories where volumes may lie that are not in their set. */
  readonly search: readonly string[];
  readonly identities: readonly Identity[];
}
export const NO_ACCESS: MediaAccess = { search: [], identities: [] };

export const ZSTD_LEVEL_DEFAULT = 3;
/** Higher ones take more memory than a library should. */
export const ZSTD_LEVEL_MAX = 19;
/** A file with a label has room for something else. */
export const VOLUME_BYTES_MIN = 64 * 1024;
/** Bounds set.json, which names each. */
export const VOLUMES_MAX = 100_000;

/** Undefined for what needs no word: plain and whole. */
export function codingOf(plan: MediaPlan): MediaCoding | undefined {
  const { volumeBytes, level, recipients = [] } = plan;
  if (volumeBytes === undefined && level === undefined && recipients.length === 0) return undefined;
  return {
    ...(volumeBytes !== undefined && { volumeBytes }),
    ...(level !== undefined && { compress: 'zstd' }),
    ...(recipients.length > 0 && { encrypt: 'age' }),
  };
}

/** @throws EINVAL if it cannot be done */
export function checkPlan({ volumeBytes, level }: MediaPlan): void {
  const tooSmall = volumeBytes !== undefined && volumeBytes < VOLUME_BYTES_MIN;
  if (tooSmall || (volumeBytes !== undefined && !Number.isSafeInteger(volumeBytes))) {
    throw stpError('EINVAL', `a volume has at least ${VOLUME_BYTES_MIN} bytes, not ${volumeBytes}`);
  }
  const levelFits = level === undefined || (Number.isInteger(level) && level >= 1);
  if (!levelFits || (level ?? 1) > ZSTD_LEVEL_MAX) {
    throw stpError('EINVAL', `the level of zstd is 1 to ${ZSTD_LEVEL_MAX}, not ${level}`);
  }
}

export const suffixOf = (coding: MediaCoding): string =>
  `.tar${coding.compress ? '.zst' : ''}${coding.encrypt ? '.age' : ''}`;

export function volumeName(
  id: string,
  coding: MediaCoding,
  { medium, number }: Pick<VolumeFacts, 'medium' | 'number'>,
): string {
  const which = medium === 0 ? '' : `m${medium}`;
  if (coding.volumeBytes === undefined) {
    return `media${which === '' ? '' : `-${medium}`}${suffixOf(coding)}`;
  }
  const volume = `v${String(number).padStart(4, '0')}`;
  return `${[id, which, volume].filter((part) => part !== '').join('.')}${suffixOf(coding)}`;
}

/** Where a volume belongs. */
export interface VolumeHome {
  readonly id: string;
  readonly host: string;
  /** Directory of the set when it is complete. */
  readonly directory: string;
}

/** The label of a volume: what a person needs who finds it alone. */
export function labelOf(
  home: VolumeHome,
  coding: MediaCoding,
  at: Pick<VolumeFacts, 'medium' | 'number' | 'offset'>,
): Record<string, string> {
  return {
    set: home.id,
    host: home.host,
    medium: String(at.medium),
    volume: String(at.number),
    offset: String(at.offset),
    name: volumeName(home.id, coding, at),
    belongs: home.directory,
  };
}

/** Bytes of a label that is not in the head of an age file: block 0 and a record, see below. */
export const LABEL_BYTES = 4096;
const BLOCK_BYTES = 512;

function labelText(label: Readonly<Record<string, string>>, bytes: number): Buffer {
  const lines = Object.entries(label).map(([key, value]) => `${key.padEnd(8)} ${value}`);
  const text = Buffer.from(['stpd volume 1', ...lines].join('\n').replace(/\0/g, ''));
  // Newlines to its end: `strings` and `head` show the lines and nothing else.
  const all = Buffer.alloc(bytes, 0x0a);
  text.copy(all, 0, 0, bytes - 1);
  return all;
}

/** For a place that passes over it: text, and newlines up to its end. */
export const labelLines = (label: Readonly<Record<string, string>>, bytes: number): Buffer =>
  labelText(label, bytes);

/**
 * The same as a global header of tar with one comment: the first volume is a tar archive as it is,
 * and any other is one from its first whole member on.
 */
export function labelAsTar(label: Readonly<Record<string, string>>): Buffer {
  const all = Buffer.alloc(LABEL_BYTES);
  const recordBytes = LABEL_BYTES - BLOCK_BYTES;
  all.write('stpd-volume-label', 0);
  all.write('0000644\0', 100);
  all.write('0000000\0', 108);
  all.write('0000000\0', 116);
  all.write(`${recordBytes.toString(8).padStart(11, '0')}\0`, 124);
  all.write('00000000000\0', 136);
  all.write('        g', 148);
  all.write('ustar\x0000', 257, 'latin1');
  const sum = all.subarray(0, BLOCK_BYTES).reduce((total, byte) => total + byte, 0);
  all.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const head = `${recordBytes} comment=`;
  all.write(head, BLOCK_BYTES);
  labelText(label, recordBytes - head.length).copy(all, BLOCK_BYTES + head.length);
  return all;
}

/** For messages: what to look for on a shelf. */
export const volumeText = (home: Pick<VolumeHome, 'id' | 'host'>, v: VolumeFacts): string =>
  `volume ${v.number}${v.medium === 0 ? '' : ` of medium ${v.medium}`} of set ${home.id} (host ${home.host})`;

type Fields = Readonly<Record<string, unknown>>;

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** @throws a sentence: the rule that is broken */
export function decodeCoding(value: unknown): MediaCoding {
  const o = (typeof value === 'object' && value !== null ? value : {}) as Fields;
  const { volumeBytes, compress, encrypt } = o;
  const known =
    (volumeBytes === undefined || isCount(volumeBytes)) &&
    (compress === undefined || compress === 'zstd') &&
    (encrypt === undefined || encrypt === 'age');
  if (!known) throw new Error('coding is not one that is known');
  return o as MediaCoding;
}

const HEX = /^[0-9a-f]{64}$/;

/** @throws a sentence: the rule that is broken */
export function decodeVolumes(value: unknown): VolumeFacts[] {
  if (!Array.isArray(value) || value.length > VOLUMES_MAX) {
    throw new Error(`volumes is not a list of at most ${VOLUMES_MAX}`);
  }
  const ends: [number, number][] = [];
  return value.map((item: unknown) => {
    const v = (typeof item === 'object' && item !== null ? item : {}) as VolumeFacts;
    const numbers = [v.medium, v.number, v.offset, v.length, v.bytes];
    if (!numbers.every(isCount) || v.medium > 0xffff) throw new Error('a volume has no numbers');
    if (!HEX.test(v.blake3)) throw new Error('a digest of a volume is not 64 hex digits');
    const [number, end] = ends[v.medium] ?? [0, 0];
    if (v.number !== number + 1 || v.offset !== end) throw new Error('volumes do not follow');
    ends[v.medium] = [v.number, v.offset + v.length];
    const { medium, offset, length, bytes, blake3 } = v;
    return { medium, number: v.number, offset, length, bytes, blake3 };
  });
}
