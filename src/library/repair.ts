/**
 * Repair: a library whose listed sets are all sound, and nothing lost on the way.
 *
 *   damaged                     what proves the rest         what is done
 *   set.json                    manifest and media agree     a new one from the manifest
 *   manifest of a full set      the media have their digest  a new one from the media
 *   list                        manifest, the parent's list  a new one from these
 *   block hashes                every file has its digest    new ones from the data
 *   headers, padding of media   every file has its digest    new ones from the manifest
 *   anything else               -                            the set moves to damaged/
 *   a set that it builds on is  -                            the set moves to damaged/
 *   not there, or made anew
 *
 * Invariants: nothing is deleted; the old file of a repaired set goes to damaged/ID/ first. A new
 * file is made in tmp/ID.partial, and takes the old one's place, by one rename each, only after the
 * set as it would be has passed a check of all its data. Sets move with their children before them.
 * So at every moment a set that was sound is sound and listed, and a damaged one no worse. A set in
 * damaged/ that turns out whole, because its parent or a good copy came back, is listed again.
 *
 * Blocks; any thread.
 */
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded, messageOf } from '../errors.js';
import { SparseMapParser } from '../source/sparse.js';
import { BlockLister, blocksFile, isBlocksFile, listBytesOf, readBlockList } from './blocks.js';
import { bytesToCheck, checkSet, type SetProblem } from './check.js';
import { digestOfFile } from './digest.js';
import { makeDirectory, onFile, syncDirectory, writeNewFile } from './disk.js';
import { moveSet } from './forget.js';
import { ID_PATTERN, type Library, StoredSet } from './library.js';
import {
  type ChainLink,
  encodeEntry,
  encodeHeader,
  encodeTrailer,
  encodeWarning,
  LineError,
  type ManifestEntry,
  ManifestReader,
  type ManifestTrailer,
} from './manifest.js';
import { MEDIA_FILE, openMedia } from './media.js';
import { MediaCursor } from './media-cursor.js';
import { mendMedia } from './mend-media.js';

import { NewFile } from './new-file.js';
import { type EntryData, OpenMedia } from './open-media.js';
import { paddedBytes, TAR_BLOCK_BYTES, type TarMember } from './pax.js';
import { indexPathOf, openChain, treeOf } from './set-tree.js';
import {
  INDEX_FILE,
  listName,
  MANIFEST_FILE,
  manifestName,
  type SetSummary,
} from './set-writer.js';
import { encodeSummary, parentOf, readSummary, SUMMARY_FILE } from './summary.js';
import { MemberError, readMember } from './tar-member.js';
import { TreeMerge } from './tree-merge.js';

export interface Repair {
  readonly set: string;
  readonly action: 'repaired' | 'moved' | 'returned' | 'busy';
  /** What was made anew; null where nothing was. */
  readonly part: SetProblem['part'] | null;
  /** Why. */
  readonly message: string;
}

/** What a set would be with new files in place of damaged ones. */
interface Remedy {
  readonly part: SetProblem['part'];
  /** Makes the new files in `stage`, beside hard links of the others; the summary that goes with it. */
  readonly make: (stage: string) => SetSummary;
}

/** In the order in which they take their places, after media and block hashes. */
const REPLACED = [MANIFEST_FILE, INDEX_FILE, SUMMARY_FILE];
const BLOCKS_FILE = blocksFile(0);
/** media.tar, media.tar.zst, ID.v0001.tar.age: see media-plan.ts. */
const MEDIA_NAME = /\.tar(\.zst)?(\.age)?$/;
const LOST = 'the manifest was damaged and made anew from the media; its warnings are lost';

const isIn = (directory: string, name: string): boolean => existsSync(join(directory, name));

/** These tell of this process and of the room that it has, and nothing of the set. */
const noDamageCodes: ReadonlySet<string> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EROFS',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
]);
/** Nor does a failure of what only makes something. */
const makingCalls: ReadonlySet<unknown> = new Set(['write', 'fsync', 'link', 'mkdir', 'rename']);

function isDamage(e: unknown): boolean {
  if (!isCoded(e)) return false;
  const isNew = e.syscall === 'open' && `${(e as { path?: unknown }).path}`.includes('.partial/');
  return !noDamageCodes.has(e.code) && !makingCalls.has(e.syscall) && !isNew;
}

/** Null for what broken bytes throw: a set must not be given up because this disk is full. */
function attempt<T>(work: () => T): T | null {
  try {
    return work();
  } catch (e) {
    if (isDamage(e) || e instanceof MemberError || e instanceof LineError) return null;
    throw e;
  }
}

/** What is looked at before and after. */
const ALL = { kind: 'data' } as const;

function problemOf(set: StoredSet, onProgress: (bytes: number) => void): string | null {
  let first: string | null = null;
  checkSet(set, ALL, { onProblem: (p) => (first ??= p.message), onProgress });
  return first;
}

/** What is being done, and bytes of media dealt with, of how many. Called often. */
export type RepairProgress = (what: 'checking' | 'mending', bytes: number, total: number) => void;

/** How far all of it is; what is damaged is more work than was known when it began. */
class Meter {
  #done = 0;
  #total = 0;

  constructor(private readonly onProgress: RepairProgress | undefined) {}

  expect(bytes: number): void {
    this.#total += bytes;
  }

  /** Runs one of the parts that were expected. */
  part<T>(what: 'checking' | 'mending', bytes: number, work: (tell: (b: number) => void) => T): T {
    const tell = (done: number): void => this.onProgress?.(what, this.#done + done, this.#total);
    tell(0);
    try {
      return work(tell);
    } finally {
      tell(bytes);
      this.#done += bytes;
    }
  }
}

/** Hard links of what is there; `media` and `blocks` stand for those of all media. */
function link(from: string, stage: string, names: readonly string[]): void {
  const isMedia = (name: string): boolean => MEDIA_NAME.test(name);
  for (const name of readdirSync(from)) {
    const wanted =
      names.includes(name) ||
      (names.includes(MEDIA_FILE) && isMedia(name)) ||
      (names.includes(BLOCKS_FILE) && isBlocksFile(name));
    if (wanted) linkSync(join(from, name), join(stage, name));
  }
}

type ListFacts = Pick<SetSummary, 'treeEntries' | 'indexBytes' | 'indexBlake3'>;

/** A list in `stage` from the manifest there and the parent's list. */
function makeList(library: Library, stage: string): ListFacts {
  const manifest = new ManifestReader(join(stage, MANIFEST_FILE));
  const parentId = manifest.header.chain?.at(-1)?.id;
  const parent = parentId === undefined ? null : library.openSet(parentId);
  const merge = new TreeMerge({
    path: join(stage, INDEX_FILE),
    ordinal: manifest.header.chain?.length ?? 0,
    parent: parent && { path: indexPathOf(parent), blake3: parent.summary.indexBlake3 ?? '' },
  });
  try {
    let isBegun = false;
    for (const record of manifest) {
      if (!isBegun && manifest.scanNs !== null) {
        merge.begin(manifest.scanNs);
        isBegun = true;
      }
      if (record.kind === 'deleted') merge.remove(record.path);
      if (record.kind === 'entry') merge.put(record, manifest.lineOffset, manifest.line.length);
    }
    if (!isBegun && manifest.scanNs !== null) merge.begin(manifest.scanNs);
    const { entries, bytes, blake3 } = merge.finish();
    return { treeEntries: entries, indexBytes: bytes, indexBlake3: blake3 };
  } finally {
    merge.close();
    manifest.close();
  }
}

function writeSummary(stage: string, summary: SetSummary): SetSummary {
  const text = encodeSummary(summary);
  writeNewFile(join(stage, SUMMARY_FILE), text);
  return summary;
}

/** From a manifest that keeps all rules; the media must agree with it. */
function newSummary(library: Library, directory: string, id: string, stage: string): SetSummary {
  const path = join(directory, MANIFEST_FILE);
  const manifest = new ManifestReader(path);
  const { setId: _id, ...header } = manifest.header;
  for (const _record of manifest);
  const { kind: _kind, ...totals } = manifest.trailer as ManifestTrailer;
  const { bytes, blake3 } = digestOfFile(path);
  link(directory, stage, [MEDIA_FILE, MANIFEST_FILE, BLOCKS_FILE]);
  // Sets of databases have none.
  const hasList = header.chain !== undefined || isIn(directory, INDEX_FILE);
  return writeSummary(stage, {
    id,
    ...header,
    finishedAt: statSync(path).mtime.toISOString(),
    ...totals,
    manifestBytes: bytes,
    manifestBlake3: blake3,
    ...(hasList && makeList(library, stage)),
  });
}

/** True if each list of block hashes is as its line says, and nothing stands behind the last. */
function hasSoundBlocks(set: StoredSet): boolean {
  const ends = new Map<string, number>();
  for (const entry of set.manifest()) {
    if (entry.kind !== 'entry' || entry.blocks === null) continue;
    const { blockBytes, offset, blake3 } = entry.blocks;
    const path = join(set.directory, blocksFile(entry.medium));
    const bytes = listBytesOf(entry.size, blockBytes);
    if (readBlockList(path, offset, bytes, blake3) === null) return false;
    ends.set(path, offset + bytes);
  }
  return readdirSync(set.directory)
    .filter(isBlocksFile)
    .map((name) => join(set.directory, name))
    .every((path) => statSync(path).size === (ends.get(path) ?? 0));
}

/** Hashes of blocks alone, from the data: they must be those that the lines name. */
function newBlocks(library: Library, set: StoredSet, stage: string): SetSummary {
  const { directory, summary } = set;
  if (hasSoundBlocks(set)) throw new MemberError('its block hashes are not what is damaged');
  link(directory, stage, [MEDIA_FILE, MANIFEST_FILE, INDEX_FILE, SUMMARY_FILE]);
  const chain = openChain(library, set);
  const media = new OpenMedia(chain);
  const files = new Map<number, NewFile>();
  try {
    for (const item of treeOf(chain)) {
      const { blocks, medium } = item.entry;
      if (item.lineSet.id !== set.id || blocks === null) continue;
      const list = listOf(item.entry, blocks.blockBytes, media.dataOf(item));
      const file = files.get(medium) ?? new NewFile(join(stage, blocksFile(medium)));
      files.set(medium, file);
      if (file.bytes !== blocks.offset) throw new MemberError('its lines do not tile the hashes');
      file.put(list);
    }
    for (const file of files.values()) file.finish();
  } finally {
    media.close();
    for (const file of files.values()) file.close();
  }
  return summary;
}

/** The hashes of a file's blocks, from its data as it is stored. */
function listOf(entry: ManifestEntry, blockBytes: number, { media, offset }: EntryData): Buffer {
  const cursor = new MediaCursor(media, null);
  cursor.skip(offset);
  const lister = new BlockLister();
  lister.begin(entry.size, blockBytes);
  const map = new SparseMapParser();
  while (entry.sparse && !map.isComplete) {
    const problem = map.add(cursor.take(TAR_BLOCK_BYTES), entry.size);
    if (problem !== null) throw new MemberError(problem);
  }
  const segments = entry.sparse ? map.segments : [{ offset: 0, bytes: entry.size }];
  for (const segment of segments) {
    lister.skipTo(segment.offset);
    cursor.pass(segment.bytes, lister);
  }
  lister.skipTo(entry.size);
  return Buffer.from(lister.finish());
}

/** The list alone: it is the one that set.json vouches for, or the set is not repaired. */
function newList(library: Library, { directory, summary }: StoredSet, stage: string): SetSummary {
  if (summary.coding?.encrypt) throw new MemberError('what is encrypted is not made anew');
  link(directory, stage, [MEDIA_FILE, MANIFEST_FILE, SUMMARY_FILE, BLOCKS_FILE]);
  makeList(library, stage);
  return summary;
}

/**
 * From media that have their digest. Those of an incremental set do not say what was deleted, nor
 * what data an entry without data has.
 */
function newManifest(
  library: Library,
  directory: string,
  summary: SetSummary,
  stage: string,
): SetSummary {
  if (parentOf(summary) !== null) throw new MemberError('the media do not say all of the manifest');
  if (summary.coding?.encrypt) throw new MemberError('what is encrypted is not made anew');
  const media = openMedia(directory, summary, library.access);
  const file = new NewFile(join(stage, MANIFEST_FILE));
  try {
    const { id, entries: _e, bytes: _b, warnings: _w, ...rest } = summary;
    const {
      finishedAt,
      mediaBytes,
      mediaXxh3,
      volumes,
      manifestBytes: _m,
      manifestBlake3: _d,
      treeEntries: _t,
      indexBytes,
      indexBlake3: _l,
      ...h
    } = rest;
    file.put(Buffer.from(encodeHeader({ setId: id, ...h })));
    file.put(Buffer.from(encodeWarning(Buffer.from('.'), 'EBADMSG', LOST)));
    const counted = copyMembers(new MediaCursor(media, null), file);
    const medium = { mediaBytes, mediaXxh3, ...(volumes !== undefined && { volumes }) };
    const totals = { ...counted, ...medium, warnings: 1 };
    file.put(Buffer.from(encodeTrailer(totals)));
    const manifestBlake3 = file.finish();
    link(directory, stage, [MEDIA_FILE]);
    const digest = { manifestBytes: file.bytes, manifestBlake3 };
    const list = indexBytes === undefined ? {} : makeList(library, stage);
    return writeSummary(stage, { id, ...h, finishedAt, ...totals, ...digest, ...list });
  } finally {
    file.close();
    media.close();
  }
}

/** Change time and inode are not in the media: zeros, which match no file of a source. */
const UNKNOWN = { ctimeNs: 0n, ino: 0n, dev: 0n };

interface CopiedMember {
  readonly member: TarMember;
  readonly headerOffset: number;
  readonly dataOffset: number;
  readonly blake3: string | null;
}

function lineOf({ member, headerOffset, dataOffset, blake3 }: CopiedMember, superseded: boolean) {
  const { sparseBytes, size: stored, xattrs = null } = member;
  const isSparse = sparseBytes !== undefined;
  const facts = { ...member, ...UNKNOWN, size: sparseBytes ?? stored };
  const rare = {
    ...(isSparse && { sparse: true, stored }),
    superseded,
    ...(xattrs !== null && xattrs.length > 0 && { xattrs }),
  };
  return encodeEntry(facts, headerOffset, dataOffset, blake3, false, rare);
}

function copyMembers(cursor: MediaCursor, file: NewFile): { entries: number; bytes: number } {
  let [entries, bytes] = [0, 0];
  let last: CopiedMember | null = null;
  for (;;) {
    const headerOffset = cursor.offset;
    const member = readMember((count) => cursor.take(count));
    if (last !== null) {
      // A file that was read again comes again: the last one counts.
      const again = member?.path.equals(last.member.path) ?? false;
      file.put(Buffer.from(lineOf(last, again)));
    }
    if (member === null) return { entries, bytes };
    const dataOffset = cursor.offset;
    const digest = member.type === 'file' ? new Blake3Hasher() : null;
    if (digest !== null) cursor.pass(member.size, digest);
    cursor.skip(paddedBytes(member.size) - member.size);
    const blake3 = digest === null ? null : digest.digest('hex');
    last = { member, headerOffset, dataOffset, blake3 };
    entries++;
    bytes += member.size;
  }
}

/** Headers and padding from the manifest, data as it is. @throws MemberError: data is damaged, too */
function newMedia(library: Library, set: StoredSet, stage: string): SetSummary {
  const { summary } = set;
  link(set.directory, stage, [manifestName(summary), listName(summary), SUMMARY_FILE, BLOCKS_FILE]);
  mendMedia(set, stage, library.access);
  return set.summary;
}

/** What could be tried, the cheapest first. */
function remediesOf(library: Library, directory: string, id: string): Remedy[] {
  const summary = attempt(() => readSummary(directory, id));
  if (summary === null) {
    return [{ part: 'summary', make: (stage) => newSummary(library, directory, id, stage) }];
  }
  const set = new StoredSet(directory, summary, library.access);
  const isSound = (verify: () => void): boolean =>
    attempt(() => {
      verify();
      return true;
    }) !== null;
  if (!isSound(() => set.verifyManifest())) {
    return [{ part: 'manifest', make: (stage) => newManifest(library, directory, summary, stage) }];
  }
  if (!isSound(() => set.verifyList())) {
    return [{ part: 'list', make: (stage) => newList(library, set, stage) }];
  }
  return [
    { part: 'blocks', make: (stage) => newBlocks(library, set, stage) },
    { part: 'media', make: (stage) => newMedia(library, set, stage) },
  ];
}

class Repairer {
  readonly done: Repair[] = [];
  /** Sets whose manifest is not the one that their children were made from. */
  readonly #remade = new Set<string>();
  /** Sets that are whole again, their manifest being what it was; in a dry run: would be. */
  readonly #mended = new Set<string>();
  readonly #moving: { id: string; message: string }[] = [];

  readonly #meter: Meter;

  constructor(
    private readonly library: Library,
    private readonly dryRun: boolean,
    onProgress?: RepairProgress,
  ) {
    this.#meter = new Meter(onProgress);
  }

  run(): Repair[] {
    const sets = join(this.library.directory, 'sets');
    const listed = this.#idsIn(sets);
    const damaged = join(this.library.directory, 'damaged');
    const moved = this.#idsIn(damaged).filter((id) => isIn(join(damaged, id), SUMMARY_FILE));
    for (const id of listed) this.#meter.expect(this.#bytesAt(sets, id));
    for (const id of moved) this.#meter.expect(this.#bytesAt(damaged, id));
    for (const id of listed) this.#examine(sets, id);
    for (const id of moved) if (!isIn(sets, id)) this.#examineMoved(damaged, id);
    this.#moveAll();
    return this.done;
  }

  /** Of media; 0 where the summary does not say. */
  #bytesAt(room: string, id: string): number {
    return attempt(() => bytesToCheck(this.#setAt(room, id), ALL)) ?? 0;
  }

  #idsIn(room: string): string[] {
    if (!existsSync(room)) return [];
    return readdirSync(room)
      .filter((name) => ID_PATTERN.test(name))
      .sort();
  }

  #say(set: string, action: Repair['action'], part: Repair['part'], message: string): void {
    this.done.push({ set, action, part, message });
  }

  /** @throws what its summary is damaged with */
  #setAt(room: string, id: string): StoredSet {
    return new StoredSet(join(room, id), readSummary(join(room, id), id), this.library.access);
  }

  #problemAt(room: string, id: string): string | null {
    try {
      const set = this.#setAt(room, id);
      return this.#meter.part('checking', bytesToCheck(set, ALL), (tell) => problemOf(set, tell));
    } catch (e) {
      if (!isCoded(e) || !isDamage(e)) throw e;
      return messageOf(e);
    }
  }

  #examine(room: string, id: string): void {
    const problem = this.#problemAt(room, id);
    if (problem === null) return;
    if (!existsSync(join(room, id))) return;
    this.#withStage(id, (stage) => {
      if (!this.#tryRemedies(join(room, id), id, stage, problem)) {
        this.#moving.push({ id, message: problem });
      }
    });
  }

  /** Volumes that are elsewhere are no damage, and no reason to come back either. */
  #lacksMedia(room: string, id: string): boolean {
    return this.#setAt(room, id)
      .volumes()
      .some(({ path }) => path === null);
  }

  /** A set that was moved comes back when it is whole; its parent is looked at with the others. */
  #examineMoved(room: string, id: string): void {
    if (this.#problemAt(room, id) !== null || this.#lacksMedia(room, id)) return;
    const sets = join(this.library.directory, 'sets');
    if (this.#brokenLink(readSummary(join(room, id), id), this.library.list().sets)) return;
    this.#say(id, 'returned', null, 'it is whole, and so is what it was made against');
    if (this.dryRun) return;
    this.library.exclusively(() => {
      renameSync(join(room, id), join(sets, id));
      syncDirectory(sets);
      syncDirectory(room);
    });
  }

  /** The first set of its chain that is not there, or not what it was; null if all are. */
  #brokenLink({ chain = [] }: SetSummary, sets: readonly SetSummary[]): string | null {
    const isThere = ({ id, manifestBlake3 }: ChainLink): boolean =>
      sets.some((s) => s.id === id && s.manifestBlake3 === manifestBlake3);
    const isBroken = (link: ChainLink): boolean =>
      this.#remade.has(link.id) || (!this.#mended.has(link.id) && !isThere(link));
    return chain.find(isBroken)?.id ?? null;
  }

  #withStage(id: string, work: (stage: string) => void): void {
    const release = this.library.takeLock(id);
    if (release === null) {
      this.#say(id, 'busy', null, 'another process works on it; run repair again');
      return;
    }
    const stage = join(this.library.directory, 'tmp', `${id}.partial`);
    try {
      work(stage);
    } finally {
      try {
        rmSync(stage, { recursive: true, force: true });
      } finally {
        release();
      }
    }
  }

  #tryRemedies(directory: string, id: string, stage: string, problem: string): boolean {
    for (const { part, make } of remediesOf(this.library, directory, id)) {
      rmSync(stage, { recursive: true, force: true });
      mkdirSync(stage, { mode: 0o700 });
      const summary = attempt(() => onFile(stage, () => make(stage)));
      if (summary === null || this.#problemOfStage(stage, summary) !== null) continue;
      this.#say(id, 'repaired', part, problem);
      (part === 'manifest' ? this.#remade : this.#mended).add(id);
      if (!this.dryRun) this.#replace(directory, id, stage);
      return true;
    }
    return false;
  }

  #problemOfStage(stage: string, summary: SetSummary): string | null {
    const set = new StoredSet(stage, summary, this.library.access);
    const bytes = bytesToCheck(set, ALL);
    this.#meter.expect(bytes);
    return this.#meter.part('mending', bytes, (tell) => problemOf(set, tell));
  }

  /** The summary last: until then the set is as damaged as it was. */
  #replace(directory: string, id: string, stage: string): void {
    syncDirectory(stage);
    const lists = readdirSync(directory).filter(isBlocksFile);
    // Those that no line names any more would only be in the way.
    const gone = lists.filter((name) => !isIn(stage, name));
    const made = readdirSync(stage).filter((name) => isBlocksFile(name) || MEDIA_NAME.test(name));
    const changed = [...made, ...REPLACED].filter(
      (name) => isIn(stage, name) && !isSame(join(directory, name), join(stage, name)),
    );
    const home = join(this.library.directory, 'damaged', id);
    makeDirectory(join(home, '..'));
    makeDirectory(home);
    for (const name of [...changed, ...gone]) keep(join(directory, name), home, name);
    syncDirectory(home);
    for (const name of changed) {
      renameSync(join(stage, name), join(directory, name));
      syncDirectory(directory);
    }
    for (const name of gone) rmSync(join(directory, name));
  }

  /** Damaged sets and all that stands on them, children first. */
  #moveAll(): void {
    this.library.exclusively(() => {
      const { sets } = this.library.list();
      const present = new Set(this.#idsIn(join(this.library.directory, 'sets')));
      const moved = new Set<string>();
      const running = new Set(this.library.runningParents());
      const move = (id: string, message: string): void => {
        if (moved.has(id) || !present.has(id)) return;
        moved.add(id);
        if (running.has(id)) {
          this.#say(id, 'busy', null, `a backup that runs is made against it; ${message}`);
          return;
        }
        for (const child of sets) {
          if (parentOf(child) === id) move(child.id, `its parent ${id} is damaged or not there`);
        }
        this.#say(id, 'moved', null, message);
        if (!this.dryRun) moveSet(this.library, 'damaged', id);
      };
      for (const { id, message } of this.#moving) move(id, message);
      for (const set of sets) {
        const broken = this.#brokenLink(set, sets);
        if (broken !== null) {
          move(set.id, `set ${broken}, which it builds on, is not in the library as it was`);
        }
      }
    });
  }
}

function isSame(a: string, b: string): boolean {
  const [x, y] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false }));
  return x !== undefined && x.ino === y?.ino && x.dev === y.dev;
}

/** A second name for a file that is about to be replaced; what was kept earlier stays. */
function keep(path: string, home: string, name: string): void {
  if (!existsSync(path)) return;
  const taken = new Set(readdirSync(home));
  let free = name;
  for (let i = 2; taken.has(free); i++) free = `${name}.${i}`;
  linkSync(path, join(home, free));
}

/**
 * @param dryRun only says what would be done; it still needs room in `tmp` for what it tries
 * @throws ENOSPC, EIO, EBUSY: what was not reached is as it was
 */
export const repairLibrary = (
  library: Library,
  dryRun: boolean,
  onProgress?: RepairProgress,
): Repair[] => new Repairer(library, dryRun, onProgress).run();
