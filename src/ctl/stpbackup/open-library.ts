/**
 * Verbs that work on the library itself, with or without a running server: several processes may
 * use one library at once (docs/decisions/0024). Main thread.
 */
import type { Command } from 'commander';
import { loadLibraryPath } from '../../backup/config.js';
import { ConfigurationError } from '../../backup/config-error.js';
import { Library } from '../../library/library.js';
import { native } from '../../native.js';

export interface LibraryPlace {
  readonly config?: string;
  readonly library?: string;
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
  Library.read(libraryPath(options), { lockFile });

/** For changing: removes what dead processes have left, and still makes no library. */
export const changeLibrary = (options: LibraryPlace): Library =>
  Library.open(readLibrary(options).directory, { lockFile });
