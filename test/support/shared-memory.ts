/** Names in /dev/shm. stpd makes none there; tests put directories there that have none of its names. */
import { readdirSync } from 'node:fs';

/** Of stpd's kind: those of others come and go meanwhile. */
export const namesInSharedMemory = (): string[] =>
  readdirSync('/dev/shm')
    .filter((name) => /stp/i.test(name))
    .sort();
