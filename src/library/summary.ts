/**
 * set.json: the summary of a set, for listings and for whatever checks the rest of it.
 *
 * Valid if and only if it is JSON with the fields below and its last field, `summaryBlake3`, is the
 * BLAKE3 of the file as it would be without that field: from the first brace to the last, no newline
 * behind it. So a changed bit anywhere in it is found by reading it. With the digests of media and
 * manifest that it holds it vouches for every byte of the set.
 *
 * Foreign bytes: they come from a disk. Any thread.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { isCoded, stpError } from '../errors.js';
import { chainOf, moreMediaOf } from './manifest.js';
import { decodeCoding, decodeVolumes } from './media-plan.js';
import type { SetSummary } from './set-writer.js';

export const SUMMARY_FILE = 'set.json';
export const SET_FORMAT = 'stpd-set';
export const SET_VERSION = 1;

const TAIL = /^,\n {2}"summaryBlake3": "([0-9a-f]{64})"\n}\n$/;
const TAIL_BYTES = ',\n  "summaryBlake3": ""\n}\n'.length + 64;
/** A summary is some hundred bytes and the names of its roots; more is not one. */
const SUMMARY_BYTES_MAX = 64 << 20;

/** The file, digest and newline included. */
export function encodeSummary(summary: SetSummary): string {
  const body = JSON.stringify({ format: SET_FORMAT, version: SET_VERSION, ...summary }, null, 2);
  const digest = blake3(body).toString('hex');
  return `${body.slice(0, -2)},\n  "summaryBlake3": "${digest}"\n}\n`;
}

const numbers = ['entries', 'bytes', 'warnings', 'mediaBytes', 'manifestBytes'] as const;
const texts = ['host', 'startedAt', 'finishedAt', 'stpd', 'mediaXxh3', 'manifestBlake3'] as const;
/** Sets of file trees only. */
const listNumbers = ['treeEntries', 'indexBytes'] as const;

/** @throws a sentence: the rule that is broken */
function decode(bytes: Buffer, id: string): SetSummary {
  const tail = TAIL.exec(bytes.toString('latin1', Math.max(0, bytes.length - TAIL_BYTES)));
  if (tail === null) throw new Error('its end, with its digest, is not as it should be');
  const body = Buffer.concat([bytes.subarray(0, bytes.length - TAIL_BYTES), Buffer.from('\n}')]);
  if (blake3(body).toString('hex') !== tail[1]) throw new Error('it does not have its digest');
  const value = JSON.parse(body.toString()) as Record<string, unknown>;
  if (value?.format !== SET_FORMAT) throw new Error(`format is not ${SET_FORMAT}`);
  if (value.version !== SET_VERSION) throw new Error(`version is not ${SET_VERSION}`);
  if (value.id !== id) throw new Error("id is not the directory's name");
  for (const name of numbers) {
    if (!Number.isSafeInteger(value[name]) || (value[name] as number) < 0) {
      throw new Error(`${name} is not a whole number`);
    }
  }
  for (const name of texts) {
    if (typeof value[name] !== 'string') throw new Error(`${name} is no string`);
  }
  const { roots } = value;
  if (!Array.isArray(roots) || !roots.every((r) => typeof r === 'string')) {
    throw new Error('roots is not a list of strings');
  }
  if (value.chain !== undefined) chainOf(value.chain);
  if (value.coding !== undefined) decodeCoding(value.coding);
  if (value.volumes !== undefined) decodeVolumes(value.volumes);
  if (value.moreMedia !== undefined) moreMediaOf(value.moreMedia);
  for (const name of listNumbers) {
    if (value[name] !== undefined && !Number.isSafeInteger(value[name])) {
      throw new Error(`${name} is not a whole number`);
    }
  }
  const { indexBlake3 } = value;
  if (indexBlake3 !== undefined && typeof indexBlake3 !== 'string') {
    throw new Error('indexBlake3 is no string');
  }
  const { format: _format, version: _version, ...summary } = value;
  return summary as unknown as SetSummary;
}

/** @throws EINVAL naming the file and the rule; ENOENT, EACCES, EIO */
export function readSummary(directory: string, id: string): SetSummary {
  const path = join(directory, SUMMARY_FILE);
  const bytes = readFileSync(path);
  try {
    if (bytes.length > SUMMARY_BYTES_MAX) throw new Error('it is far too long');
    return decode(bytes, id);
  } catch (e) {
    if (isCoded(e)) throw e;
    throw stpError('EINVAL', `${path} is damaged: ${(e as Error).message}`);
  }
}

/** The set that this one was made against; null if it stands for itself. */
export const parentOf = ({ chain }: Pick<SetSummary, 'chain'>): string | null =>
  chain?.at(-1)?.id ?? null;
