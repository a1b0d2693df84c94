/** The ways in which media can lie on the disk, and a tree that fills several volumes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Identity } from '../../../src/library/age-keys.js';
import { bech32Encode } from '../../../src/library/bech32.js';
import type { MediaAccess, MediaPlan } from '../../../src/library/media-plan.js';
import { makeSmallTree } from './flips.js';
import { randomFrom } from './stand-ins.js';

export const newIdentityText = (byte: number): string =>
  bech32Encode('age-secret-key-', Buffer.alloc(32, byte)).toUpperCase();
export const newIdentity = (byte: number): Identity => Identity.parse(newIdentityText(byte));

export const owner = newIdentity(1);
export const server = newIdentity(2);
export const VOLUME_BYTES = 64 * 1024;

export interface Kind {
  readonly name: string;
  readonly plan: MediaPlan;
  readonly access: MediaAccess;
}

const cut = { volumeBytes: VOLUME_BYTES };
const packed = { level: 3 };
const sealed = { recipients: [owner.recipient] };
const kind = (name: string, plan: MediaPlan): Kind => ({
  name,
  plan,
  access: { search: [], identities: plan.recipients === undefined ? [] : [owner] },
});

export const kinds: readonly Kind[] = [
  kind('volumes', cut),
  kind('zstd', packed),
  kind('zstd in volumes', { ...cut, ...packed }),
  kind('age', sealed),
  kind('age in volumes', { ...cut, ...sealed }),
  kind('zstd and age', { ...packed, ...sealed }),
  kind('zstd and age in volumes', { ...cut, ...packed, ...sealed }),
];

/** Small files, one that does not compress, and one that does. */
export function makeTree(source: string, seed: number): void {
  makeSmallTree(source);
  mkdirSync(join(source, 'large'));
  const random = randomFrom(seed);
  const noise = Buffer.alloc(300_000);
  for (let i = 0; i < noise.length; i++) noise[i] = Math.floor(random() * 256);
  writeFileSync(join(source, 'large', 'a-noise'), noise);
  writeFileSync(join(source, 'large', 'b-text'), 'the same again\n'.repeat(100_000));
  writeFileSync(join(source, 'large', 'c-noise'), noise.subarray(0, 100_001));
}
