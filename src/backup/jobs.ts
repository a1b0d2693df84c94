/**
 * What the movers are told to do and what they bring back: plain data, posted to workers.
 */
import type { MessagePort } from 'node:worker_threads';
import type { Interrupted } from '../library/interrupted.js';
import type { Adopted } from '../library/kept-lines.js';
import type { SetMeta } from '../library/library.js';
import type { FurtherMedium } from '../library/manifest.js';
import type { SetSummary } from '../library/set-writer.js';
import type { MediumPlace } from '../library/store-medium.js';
import type { ParentList } from '../library/tree-merge.js';
import type { BaseBackupOptions } from '../source/base-backup.js';
import type { AccessData, MediaSettings, PlanData } from './media-data.js';
import type { Selection } from './protocol.js';
import type { RestoreOptions, RestoreOutcome } from './restore-order.js';

/** How the thread of the walk and those of its further streams reach each other; see lanes.ts. */
export interface LaneEnd {
  readonly words: Int32Array;
  readonly port: MessagePort;
  /** From 1 on. */
  readonly lane: number;
  readonly medium: number;
}

export interface SendTreeJob {
  /** Real paths, checked against the client's roots. */
  readonly roots: readonly Uint8Array[];
  readonly selection: Selection;
  /** Bytes of the parent's list; 0 for a full backup. */
  readonly listBytes: number;
  readonly dryRun: boolean;
  readonly incremental: boolean;
  readonly firstMedium: number;
  /** Bytes: of larger files only blocks that changed are sent; 0: never. */
  readonly deltaFrom: number;
  /** One for each further stream, in the order of their media. */
  readonly lanes: readonly LaneEnd[];
}

/** A further stream of a backup: what its thread reads is told by that of the walk. */
export type ReadLaneJob = LaneEnd & Pick<SendTreeJob, 'deltaFrom'>;

export interface StoreSetJob {
  readonly library: string;
  readonly meta: SetMeta;
  /** Set that an incremental backup builds on; null for a full one. */
  readonly parent: string | null;
  readonly dryRun: boolean;
  /** What is taken over from an interrupted backup. */
  readonly adopted: Adopted | null;
  /** False for what does not come in the order of a walk. */
  readonly hasList: boolean;
  /** How its media are written, and sets before it read. */
  readonly media: MediaSettings;
}
/** Looks at an interrupted backup, whose lock the event loop holds. */
export interface AdoptJob {
  readonly found: Interrupted;
  readonly parent: ParentList | null;
}

/** Worker to event loop. */
export type AdoptMessage =
  | { readonly type: 'adopted'; readonly adopted: Adopted }
  | { readonly type: 'refused'; readonly reason: string };

/** A medium that comes through a stream of its own. */
export type StoreMediumJob = Omit<MediumPlace, 'plan'> & { readonly plan: PlanData };
export type StoreMediumResult = FurtherMedium;

/** Null after a dry run. */
export type StoreSetResult = SetSummary | null;

export interface SendSetJob {
  readonly library: string;
  readonly set: string;
  /** Stored paths; empty for all of the set. */
  readonly selected: readonly Uint8Array[];
  readonly access: AccessData;
  /** Entries only. */
  readonly dryRun: boolean;
}

export interface RestoreSetJob {
  /** Checked against the client's restore roots; without a symlink on its way. */
  readonly target: string;
  readonly options: RestoreOptions;
  /** Stored paths: only what is at or below one of them is restored. Null: all. */
  readonly below: readonly Uint8Array[] | null;
}
export type RestoreSetResult = RestoreOutcome;

/** A stream of unknown length: a program's output. */
export interface SendStreamJob {
  /** Read until its end. The event loop closes it. */
  readonly fd: number;
  /** Stored path of the only member. */
  readonly path: string;
}

export interface ReceiveStreamJob {
  /** Written to. The event loop closes it. */
  readonly fd: number;
}

export interface SendSqliteJob {
  /** The database. */
  readonly file: string;
  /** Where a copy of it is made. The event loop removes it. */
  readonly copy: string;
  /** Stored path of the only member. */
  readonly path: string;
  /** Bytes of the parent's list; 0 for a full backup. */
  readonly listBytes: number;
}

export type SendBaseBackupJob = BaseBackupOptions;
