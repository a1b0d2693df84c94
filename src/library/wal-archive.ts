/**
 * Archived WAL of the library: one plain file a segment, beside the sets.
 *
 *   wal/HOST/NAME/GROUP/SEGMENT.BLAKE3    GROUP: the segment's name without its last 8 digits
 *
 * Invariant: a name appears by one link(2) of a file that is on the disk, and is never replaced: a
 * segment of the same content is there already, one of another content is an error. The digest in
 * the name is checked by whoever reads it back. Event loop; any process.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isCoded, stpError } from '../errors.js';
import { namingPath } from './disk.js';

const GROUP_DIGITS = 16;

export interface ArchivedSegment {
  readonly path: string;
  /** Lower-case hex. */
  readonly blake3: string;
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (e) {
    throw namingPath(e, path);
  } finally {
    await handle.close();
  }
}

export class WalArchive {
  readonly #library: string;
  readonly #directory: string;

  /** @param host and name are file names: their callers have checked their patterns */
  constructor(library: string, host: string, name: string) {
    this.#library = library;
    this.#directory = join(library, 'wal', host, name);
  }

  #group(segment: string): string {
    const group = /^[0-9A-F]{24}/.test(segment) ? segment.slice(0, GROUP_DIGITS) : 'history';
    return join(this.#directory, group);
  }

  /** The segment, or null if it was never stored. */
  async find(segment: string): Promise<ArchivedSegment | null> {
    const group = this.#group(segment);
    let names: string[];
    try {
      names = await readdir(group);
    } catch (e) {
      if (isCoded(e) && e.code === 'ENOENT') return null;
      throw e;
    }
    const prefix = `${segment}.`;
    const name = names.find((n) => n.startsWith(prefix) && n.length === prefix.length + 64);
    if (name === undefined) return null;
    return { path: join(group, name), blake3: name.slice(prefix.length) };
  }

  /** A new file in the archive, to be filled and then kept or dropped. */
  async begin(segment: string): Promise<IncomingSegment> {
    const group = this.#group(segment);
    const temporary = join(group, `.${segment}.${randomBytes(6).toString('hex')}`);
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const make = (): Promise<FileHandle> =>
      open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    await this.#makeDirectory(group);
    const handle = await make().catch(async (e: unknown) => {
      if (!isCoded(e) || e.code !== 'ENOENT') throw e;
      // Pruning took the directory, which was empty, between the two.
      await this.#makeDirectory(group);
      return make();
    });
    return new IncomingSegment(handle, temporary, join(group, segment), () => this.find(segment));
  }

  /** Makes a directory and puts each new name on its way on the disk. */
  async #makeDirectory(path: string): Promise<void> {
    if (path === this.#library) return;
    try {
      await mkdir(path, { mode: 0o700 });
    } catch (e) {
      if (isCoded(e) && e.code === 'EEXIST') return;
      if (!isCoded(e) || e.code !== 'ENOENT') throw e;
      await this.#makeDirectory(dirname(path));
      await mkdir(path, { mode: 0o700 });
    }
    await syncDirectory(dirname(path));
  }
}

export class IncomingSegment {
  #open = true;

  constructor(
    private readonly handle: FileHandle,
    private readonly temporary: string,
    private readonly stem: string,
    private readonly find: () => Promise<ArchivedSegment | null>,
  ) {}

  async write(piece: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < piece.length; ) {
        at += (await this.handle.write(piece, at, piece.length - at)).bytesWritten;
      }
    } catch (e) {
      throw namingPath(e, this.temporary);
    }
  }

  /**
   * On the disk, under its name, when it resolves; and gone from its temporary one.
   * @returns true if the same segment was there already
   * @throws EEXIST if the archive has another content under this name
   */
  async keep(blake3: string): Promise<boolean> {
    try {
      await this.handle.sync().catch((e: unknown) => {
        throw namingPath(e, this.temporary);
      });
      const already = await this.find();
      if (already && already.blake3 !== blake3) {
        throw stpError('EEXIST', `${already.path} is another content of this segment`);
      }
      const path = `${this.stem}.${blake3}`;
      if (!already) await link(this.temporary, path);
      try {
        // What is there already may be of a run that died before this.
        await syncDirectory(dirname(this.stem));
      } catch (e) {
        // A second fsync may say yes to a name that is not on the disk: let the caller begin anew.
        if (!already) await unlink(path);
        throw e;
      }
      return already !== null;
    } finally {
      await this.drop();
    }
  }

  /** Removes it, if it was not kept. */
  async drop(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    try {
      await this.handle.close();
    } finally {
      await unlink(this.temporary);
    }
  }
}
