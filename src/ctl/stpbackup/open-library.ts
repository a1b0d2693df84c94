/**
 * Verbs that work on the library itself, with or without a running server: several processes may
 * use one library at once (docs/decisions/0024). Main thread.
 */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { loadLibraryPath, loadMediaSettings } from '../../backup/config.js';
import { ConfigurationError } from '../../backup/config-error.js';
import { type AccessData, accessFrom, bothAccesses, PLAIN_MEDIA } from '../../backup/media-data.js';
import { messageOf } from '../../errors.js';
import { readIdentityFile } from '../../library/age-keys.js';
import { Library } from '../../library/library.js';
import type { MediaAccess } from '../../library/media-plan.js';
import { native } from '../../native.js';
import { collect, withIdentity } from './session-options.js';

export interface LibraryPlace {
  readonly config?: string;
  readonly library?: string;
  readonly media?: readonly string[];
  readonly identity?: readonly string[];
}

/** Adds where volumes are that were moved off, and keys of encrypted sets. */
export const withMedia = (command: Command): Command =>
  withIdentity(
    command.option(
      '--media <directory>',
      'where volumes are that were moved off; repeatable',
      collect,
      [],
    ),
  );

/** What these options give. @throws ConfigurationError for a file that holds no identity */
export function accessOptions({
  media = [],
  identity = [],
}: Pick<LibraryPlace, 'media' | 'identity'>): AccessData {
  const identities = identity.flatMap((file) => {
    try {
      return readIdentityFile(file).map(({ text }) => text);
    } catch (e) {
      throw new ConfigurationError(`--identity ${file}: ${messageOf(e)}`);
    }
  });
  return { search: media.map((directory) => resolve(directory)), identities };
}

function accessOf(options: LibraryPlace): MediaAccess {
  const { access } = options.config === undefined ? PLAIN_MEDIA : loadMediaSettings(options.config);
  return accessFrom(bothAccesses(access, accessOptions(options)));
}

/** Adds the two ways to name the library. */
export const withLibrary = (command: Command): Command =>
  command
    .option('--config <file>', "the server's configuration, for the path of its library")
    .option('--library <directory>', 'the library itself');

export function libraryPath(options: LibraryPlace): string {
  if (options.library !== undefined) return options.library;
  if (options.config !== undefined) return loadLibraryPath(options.config);
  throw new ConfigurationError(
    "name the library: --library DIRECTORY, or --config FILE (the server's)",
  );
}

export const lockFile = (fd: number): boolean => native().lockFile(fd);

/** For reading: makes and removes nothing in it. */
export const readLibrary = (options: LibraryPlace): Library =>
  Library.read(libraryPath(options), { lockFile, access: accessOf(options) });

/** For changing: removes what dead processes have left, and still makes no library. */
export const changeLibrary = (options: LibraryPlace): Library =>
  Library.open(readLibrary(options).directory, { lockFile, access: accessOf(options) });
