/**
 * The file trees of the suite `backup`, made anew from a seed. Which files, how large, and every
 * byte follow from it. Bytes are drawn from a pool at random places: no two files are alike, and
 * nobody compresses or finds again what another has.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export interface TreeFacts {
  readonly path: string;
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
}

export interface TreePlan {
  readonly files: number;
  /** Mean size of a file. */
  readonly meanBytes: number;
  /** All of one size; else most are small and some are large, as in a tree of sources. */
  readonly even?: true;
}

const FILES_PER_DIRECTORY = 24;
const DIRECTORIES_PER_LEVEL = 40;
const POOL_BYTES = 1 << 22;
/** Standard deviation of the logarithm of sizes: half of the files are below a fifth of the mean. */
const SPREAD = 1.8;

/** mulberry32: 32 bits of state, good enough to draw sizes and places from. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function poolFrom(random: () => number): Buffer {
  const words = new Uint32Array(POOL_BYTES / 4);
  for (let i = 0; i < words.length; i++) words[i] = random() * 2 ** 32;
  return Buffer.from(words.buffer);
}

/** Log-normal with that mean (Box-Muller). */
function sizeFrom(random: () => number, mean: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.round(mean * Math.exp(SPREAD * normal - SPREAD ** 2 / 2));
}

function writeFrom(pool: Buffer, path: string, size: number, random: () => number): void {
  const fd = openSync(path, 'wx');
  for (let left = size; left > 0; ) {
    const start = Math.floor(random() * (POOL_BYTES / 2));
    left -= writeSync(fd, pool, start, Math.min(left, POOL_BYTES - start));
  }
  closeSync(fd);
}

/** @param path of a directory that is not there yet */
export function makeTree(path: string, plan: TreePlan, seed: number): TreeFacts {
  const random = randomFrom(seed);
  const pool = poolFrom(random);
  mkdirSync(path);
  let directories = 1;
  let bytes = 0;
  let directory = path;
  for (let i = 0; i < plan.files; i++) {
    const number = Math.floor(i / FILES_PER_DIRECTORY);
    if (i % FILES_PER_DIRECTORY === 0) {
      const upper = join(path, `part-${Math.floor(number / DIRECTORIES_PER_LEVEL)}`);
      if (number % DIRECTORIES_PER_LEVEL === 0) {
        mkdirSync(upper);
        directories++;
      }
      directory = join(upper, `directory-${number % DIRECTORIES_PER_LEVEL}`);
      mkdirSync(directory);
      directories++;
    }
    const size = plan.even ? plan.meanBytes : sizeFrom(random, plan.meanBytes);
    writeFrom(pool, join(directory, `file-${i}.data`), size, random);
    bytes += size;
  }
  return { path, files: plan.files, directories, bytes };
}
