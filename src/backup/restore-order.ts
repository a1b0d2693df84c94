/**
 * What a restore may be asked to do besides the plain one, as it travels: absolute paths, numbers.
 * Loaded by movers, so without what checks the rest of the protocol. Any thread; no state.
 */
import type { Action } from '../library/restore.js';
import type { Overwrite, RestoreChoices } from '../library/restore-plan.js';
import { normalisePath } from '../source/confine.js';
import { storedPath } from './selection.js';
import { pathToBytes, type WirePath } from './wire-path.js';

export interface RestoreOptions {
  readonly overwrite: Overwrite;
  readonly strip: number;
  /** As they were, and as they are to be below the target; absolute. */
  readonly maps: readonly { readonly from: WirePath; readonly to: WirePath }[];
  readonly owners: boolean;
  /** Pairs of numbers: in the set, on the host. */
  readonly users: readonly (readonly [number, number])[];
  readonly groups: readonly (readonly [number, number])[];
  readonly dryRun: boolean;
  readonly verify: boolean;
}

/** Into an empty directory, all of it, as it was. */
export const PLAIN_RESTORE: RestoreOptions = {
  overwrite: 'refuse',
  strip: 0,
  maps: [],
  owners: true,
  users: [],
  groups: [],
  dryRun: false,
  verify: false,
};

/** What a restore did, beside its totals. */
export interface RestoreOutcome {
  readonly made: number;
  readonly replaced: number;
  readonly left: number;
  readonly skipped: number;
  /** Entries that belong to somebody else now: only root gives files away. */
  readonly ownersNotSet: number;
  /** Null if nothing was read back. */
  readonly verified: {
    readonly entries: number;
    readonly bytes: number;
    readonly wrong: number;
  } | null;
  /** A dry run: what would be made or replaced, the first of it. */
  readonly planned: readonly { readonly action: Action; readonly path: WirePath }[];
}

/** @throws EINVAL for a path that is not absolute or has `..` */
export const choicesOf = (
  options: RestoreOptions,
  below: readonly Uint8Array[] | null,
): RestoreChoices => ({
  overwrite: options.overwrite,
  strip: options.strip,
  maps: options.maps.map(({ from, to }) => ({
    from: storedPath(normalisePath(pathToBytes(from))),
    to: storedPath(normalisePath(pathToBytes(to))),
  })),
  owners: options.owners,
  users: new Map(options.users),
  groups: new Map(options.groups),
  dryRun: options.dryRun,
  verify: options.verify,
  ...(below !== null && { below: below.map((path) => Buffer.from(path)) }),
});
