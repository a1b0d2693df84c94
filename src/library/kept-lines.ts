/**
 * What a set takes over from an interrupted backup, on its way into the new manifest: lines in the
 * order of the walk, beside those of the client, which come in the same order.
 *
 *   the client says nothing of a path   it is as it was: its line stays
 *   it sends the path again             the old member is dead: `superseded` or `again` where a later
 *                                       one of the same kind takes its place, else a void
 *   it says that the path is gone       a void
 *
 * Dead members stay where they are: every medium is still tiled, and its lines keep their order.
 * The thread of its set writer.
 */
import { existsSync } from 'node:fs';
import { compareWalk } from '../source/names.js';
import { PlainFile } from './bytes.js';
import {
  decodeLine,
  encodeDead,
  encodeVoid,
  endOffset,
  LineError,
  linesOf,
  type ManifestEntry,
  type ManifestTombstone,
  type ManifestVoid,
} from './manifest.js';

export type KeptRecord = ManifestEntry | ManifestTombstone | ManifestVoid;

export interface KeptMedium {
  /** Up to behind its last good member; the end of the archive is still to come. */
  readonly bytes: number;
  /** With that end; null if it is to be found again. */
  readonly xxh3: string | null;
}

/** Plain data: it is posted between threads. */
export interface Adopted {
  readonly id: string;
  readonly startedAt: string;
  readonly media: readonly KeptMedium[];
  /** The client's clock when the first scan began. */
  readonly scanNs: bigint;
  /** That count. */
  readonly entries: number;
  readonly bytes: number;
  /** Of `kept.index`. */
  readonly listBytes: number;
}

/** Why nothing is taken over. */
export class NotAdopted extends Error {
  override readonly name = 'NotAdopted';
}

export interface KeptItem {
  readonly record: KeptRecord;
  readonly line: Buffer;
}

/** Lines of a file up to where it was cut; a scan's time to `onScan`. */
export function* keptItems(path: string, onScan: (ns: bigint) => void): Generator<KeptItem> {
  if (!existsSync(path)) return;
  const file = new PlainFile(path);
  try {
    let isFirst = true;
    for (const line of linesOf(file, true)) {
      const text = line.toString();
      if (isFirst && text.startsWith('{"format"')) continue;
      isFirst = false;
      const record = decodeLine(text);
      if (record.kind === 'scan') onScan(record.scanNs);
      else if (record.kind === 'entry' || record.kind === 'deleted' || record.kind === 'void') {
        yield { record, line };
      } else if (record.kind === 'trailer') return;
    }
  } catch (e) {
    if (e instanceof LineError) throw new NotAdopted(`a line of ${path} is damaged: ${e.message}`);
    throw e;
  } finally {
    file.close();
  }
}

/** In place of a member that nobody wants to see any more. */
export const voidOf = (entry: ManifestEntry): ManifestVoid => ({
  kind: 'void',
  medium: entry.medium,
  headerOffset: entry.headerOffset,
  bytes: endOffset(entry) - entry.headerOffset,
});

/** What was said of one path, and what stands behind it and is no matter of a path. */
interface Group {
  readonly path: Buffer | null;
  readonly entries: { readonly entry: ManifestEntry; readonly line: Buffer }[];
  tombstone: { readonly record: ManifestTombstone; readonly line: Buffer } | null;
  readonly behind: KeptItem[];
}

/** @param line without its newline */
export type TakeLine = (record: KeptRecord, line: Buffer) => void;

export class KeptLines {
  readonly #items: Iterator<KeptItem>;
  readonly #take: TakeLine;
  #next: KeptItem | null;
  #group: Group | null = null;
  /** Directories that are gone, or something else now: none of them comes again. */
  readonly #deadDirectories = new Set<string>();

  constructor(path: string, take: TakeLine) {
    this.#items = keptItems(path, () => {});
    this.#take = take;
    this.#next = this.#item();
    this.#group = this.#read();
  }

  /** All before `path` stays as it was. */
  passTo(path: Buffer): void {
    while (this.#group !== null && this.#isBefore(this.#group, path)) this.#pass();
  }

  /** All that is left stays as it was. */
  passAll(): void {
    while (this.#group !== null) this.#pass();
  }

  /** True if something of this path is taken over; call `passTo` before. */
  isAt(path: Buffer): boolean {
    const { path: at = null, entries = [] } = this.#group ?? {};
    return at?.equals(path) === true && entries.length > 0;
  }

  /** The path comes anew, as an entry of this type, or not at all: null. */
  replace(path: Buffer, type: ManifestEntry['type'] | null): void {
    const group = this.#group;
    if (group?.path?.equals(path) !== true) return;
    for (const { entry } of group.entries) {
      const isSame = entry.type === type && !entry.sameData && entry.delta === null;
      if (isSame && (type === 'file' || type === 'directory')) this.#dead(entry);
      else this.#void(entry);
    }
    this.#behind(group);
    this.#group = this.#read();
  }

  #isBefore({ path }: Group, limit: Buffer): boolean {
    return path === null || compareWalk(path, limit) < 0;
  }

  #pass(): void {
    const group = this.#group as Group;
    const last = group.entries.at(-1)?.entry;
    // One that was to be read again, and was not: nothing of the path counts.
    const counts = last !== undefined && !last.superseded && group.tombstone === null;
    for (const { entry, line } of group.entries) {
      if (counts) this.#take(entry, line);
      else this.#void(entry);
    }
    if (group.tombstone !== null) this.#take(group.tombstone.record, group.tombstone.line);
    this.#behind(group);
    this.#group = this.#read();
  }

  #behind({ behind }: Group): void {
    for (const { record, line } of behind) {
      const isDead =
        record.kind === 'entry' && this.#deadDirectories.has(record.path.toString('latin1'));
      if (isDead) this.#void(record);
      else this.#take(record, line);
    }
  }

  #dead(entry: ManifestEntry): void {
    const record = { ...entry, superseded: entry.type === 'file', again: entry.type !== 'file' };
    this.#take(record, Buffer.from(encodeDead(entry).trimEnd()));
  }

  #void(entry: ManifestEntry): void {
    if (entry.type === 'directory') this.#deadDirectories.add(entry.path.toString('latin1'));
    const record = voidOf(entry);
    this.#take(record, Buffer.from(encodeVoid(record).trimEnd()));
  }

  #item(): KeptItem | null {
    const { value, done } = this.#items.next();
    // A view of what is read next.
    return done ? null : { record: value.record, line: Buffer.from(value.line) };
  }

  #read(): Group | null {
    if (this.#next === null) return null;
    const group: Group = {
      path: pathOf(this.#next.record),
      entries: [],
      tombstone: null,
      behind: [],
    };
    for (let item: KeptItem | null = this.#next; item !== null; item = this.#item()) {
      const { record, line } = item;
      const path = pathOf(record);
      if (
        path !== null &&
        (group.path === null || !path.equals(group.path) || group.behind.length > 0)
      ) {
        this.#next = item;
        return group;
      }
      if (path === null) group.behind.push(item);
      else if (record.kind === 'deleted') group.tombstone = { record, line };
      else if (record.kind === 'entry') group.entries.push({ entry: record, line });
    }
    this.#next = null;
    return group;
  }
}

/** Null for what stands where it does whatever becomes of its path. */
const pathOf = (record: KeptRecord): Buffer | null =>
  record.kind === 'void' || (record.kind === 'entry' && record.again) ? null : record.path;
