/** Where a host's STG lies in its segment, as the superblock says. */
import type { Host } from '../../src/index.js';
import { STG_DIRECTORY_ENTRIES, STG_ENTRY, SUPERBLOCK } from '../../src/layout/tables.js';

export function stgOffset(host: Host): number {
  const bytes = Buffer.from(host.segment.u8.subarray(0, SUPERBLOCK.bytes));
  for (let i = 0; i < STG_DIRECTORY_ENTRIES; i++) {
    const at = SUPERBLOCK.at.directory + i * STG_ENTRY.bytes;
    const name = bytes.toString('utf8', at + STG_ENTRY.at.name, at + STG_ENTRY.at.name + 64);
    if (bytes.readUInt32LE(at + STG_ENTRY.at.state) !== 1) continue;
    if (name.replace(/\0.*$/s, '') === host.stg) {
      return Number(bytes.readBigUInt64LE(at + STG_ENTRY.at.offset));
    }
  }
  throw new Error(`the superblock has no STG '${host.stg}'`);
}
