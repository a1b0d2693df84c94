/**
 * The identity of the layout: two programs may share memory if and only if their hashes are equal.
 * Attach compares it with the superblock's, the loader with the addon's. In bundles a constant stands
 * for this file (scripts/bundle.mjs). Any thread.
 */
import { createHash } from 'node:crypto';
import { LINE_BYTES, type Struct } from './define.js';
import * as tables from './tables.js';

/** The numbers of the layout, by the names that C knows with `STP_` in front. */
export const constants: Readonly<Record<string, number>> = {
  LAYOUT_VERSION: tables.LAYOUT_VERSION,
  PAGE_BYTES: tables.PAGE_BYTES,
  PAGE_LIST_ENTRIES: tables.PAGE_LIST_ENTRIES,
  WINDOW_BYTES: tables.WINDOW_BYTES,
  COMMAND_RING_ENTRIES: tables.COMMAND_RING_ENTRIES,
  EVENT_RING_ENTRIES: tables.EVENT_RING_ENTRIES,
  STG_NAME_BYTES: tables.STG_NAME_BYTES,
  STG_DIRECTORY_ENTRIES: tables.STG_DIRECTORY_ENTRIES,
  STG_EXTENTS_MAX: tables.STG_EXTENTS_MAX,
  CONTROL_EVENT_ENTRIES: tables.CONTROL_EVENT_ENTRIES,
  LINE_BYTES,
  ...tables.NUMBERS,
};

let hash: string | undefined;

/** SHA-256 over names, types, offsets and constants; texts do not count. Lower-case hex. */
export function layoutHash(): string {
  hash ??= computeHash();
  return hash;
}

function computeHash(): string {
  const shape = tables.STRUCTS.map((s: Struct) => [
    s.name,
    s.bytes,
    s.fields.map((f) => [f.name, f.type, f.count ?? 1, f.offset]),
  ]);
  return createHash('sha256')
    .update(JSON.stringify([tables.SUPERBLOCK_MAGIC.toString(16), constants, shape]))
    .digest('hex');
}
