/**
 * What an array tells about itself, and what the rest of the daemon may ask of it.
 *
 * These types are the JSON of the control API and of every `--json` listing: their names are
 * stable, new ones may be added. Bytes and counts are numbers (exact up to 2^53), times are ISO
 * 8601 in UTC, and what is not there is `null`, never left out. No behaviour; any thread.
 */
import type { Figures, SocketReport } from '../view/figures.js';
import type { TraceReading } from '../view/trace.js';
import type { Configuration } from './configuration.js';
import type { Log } from './log.js';

export type { SocketReport, SocketState } from '../view/figures.js';

export interface DirectorReport {
  /** From 0. */
  readonly number: number;
  readonly state: 'running';
  /** Share of one core in use lately, 0 to 1. */
  readonly load: number;
  /** Names of the STGs it owns. */
  readonly stgs: readonly string[];
  /** Commands of hosts it has carried out. */
  readonly commands: number;
}

export interface ArrayReport {
  /** Random identity of this array, 32 hexadecimal digits: a new start is a new instance. */
  readonly instance: string;
  readonly state: 'serving' | 'stopping';
  readonly pid: number;
  /** Of the stpd package. */
  readonly version: string;
  readonly layoutVersion: number;
  /** SHA-256 of the field tables, 64 hexadecimal digits: hosts must have the same. */
  readonly layoutHash: string;
  readonly startedAt: string;
  readonly uptimeSeconds: number;
  readonly runDirectory: string;
  readonly boardsTotal: number;
  readonly boardsUsed: number;
  readonly boardBytes: number;
  /** Memory claimed now, boards and control areas together. */
  readonly memoryBytes: number;
  readonly directors: readonly DirectorReport[];
  /** Counts of what the other listings show. */
  readonly hosts: number;
  readonly stgs: number;
  readonly sockets: number;
}

export interface BoardReport {
  /** From 0, unique in the array. */
  readonly number: number;
  /** The STG it was made for; null while it is free. */
  readonly stg: string | null;
  readonly bytes: number;
  readonly pages: number;
  readonly pagesUsed: number;
  /** Copies and exchanges under the board's lock. */
  readonly accesses: number;
  /** Those of `accesses` that found the lock taken. */
  readonly contended: number;
  /** Pages used in place or moved by a file: owned, so not locked. */
  readonly bypassed: number;
  /** Bytes of accesses and bypassed pages together. */
  readonly bytesMoved: number;
  /** Locks taken over from a holder that died or stopped. */
  readonly steals: number;
}

export interface StgReport {
  readonly name: string;
  /** Distinguishes it from an earlier STG of its name. */
  readonly generation: number;
  readonly state: 'live' | 'deleting';
  /** Number of the director that owns it. */
  readonly director: number;
  /** Numbers of its boards. */
  readonly boards: readonly number[];
  /** Its whole file: control area and boards. */
  readonly memoryBytes: number;
  readonly pagesTotal: number;
  readonly pagesFree: number;
  /** Of those in use: in lists of connections, and held by hosts (taken, claimed, to be given). */
  readonly pagesOfConnections: number;
  readonly pagesOfHosts: number;
  /** Who uses them: hosts with pages, those with most first. */
  readonly hostPages: readonly HostPages[];
  /** The same of its connections, 16 at most. */
  readonly connectionPages: readonly ConnectionPages[];
  /** Listeners and explicit binds. */
  readonly portsUsed: number;
  readonly portsMax: number;
  readonly connectionsUsed: number;
  readonly connectionsMax: number;
  /** Ids of the hosts attached to it. */
  readonly members: readonly number[];
  /** Those of them that have not mapped all of it since it grew: they go on with what they have. */
  readonly membersBehind: readonly number[];
  readonly allowUids: readonly number[];
  readonly allowGids: readonly number[];
}

export interface HostPages {
  readonly host: number;
  /** In lists of its sockets, to send. */
  readonly sendPages: number;
  /** Taken out of streams, claimed, to be given. */
  readonly heldPages: number;
}

export interface ConnectionPages {
  /** What `stpctl trace` takes. */
  readonly id: string;
  /** Of both directions. */
  readonly pages: number;
}

export interface HostReport {
  readonly id: number;
  /** As the kernel attested them at attach; the PID is for display, not an identity. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** What the host calls itself: foreign text. Null if it gave no name. */
  readonly name: string | null;
  readonly stgs: readonly string[];
  readonly sockets: number;
  /** As HostPages has them. */
  readonly sendPages: number;
  readonly heldPages: number;
  readonly attachedAt: string;
}

/** A validated request: see stg-request.ts for the rules. */
export interface StgRequest {
  readonly name: string;
  readonly boardCount: number;
  /** Listeners and explicit binds it may have. */
  readonly ports: number;
  /** Connection slots; the configured default where absent. */
  readonly connections?: number;
  /** A host is let in if its uid or one of its groups is here. Both empty lets nobody in. */
  readonly allowUids: readonly number[];
  readonly allowGids: readonly number[];
}

/** What `stg grow` adds; at least one of them is not 0. */
export interface GrowRequest {
  readonly boardCount: number;
  readonly connections: number;
}

/** The documents: what one request, and one `--json`, prints. */
export interface ArrayDocument {
  readonly array: ArrayReport;
}
export interface BoardsDocument {
  readonly boards: readonly BoardReport[];
}
export interface StgsDocument {
  readonly stgs: readonly StgReport[];
}
export interface StgDocument {
  readonly stg: StgReport;
}
export interface DeletedDocument {
  readonly deleted: string;
}
export interface HostsDocument {
  readonly hosts: readonly HostReport[];
}
export interface SocketsDocument {
  readonly sockets: readonly SocketReport[];
}
export interface FiguresDocument {
  readonly figures: Figures;
}
export interface TraceDocument {
  readonly trace: TraceReading;
}
export interface ErrorDocument {
  readonly error: { readonly code: string; readonly message: string };
}

/**
 * The array as the control API and the daemon see it. All calls come from the daemon's main
 * thread. Failures are errors with a POSIX code. Reports are short: they never wait for a host.
 */
export interface ArrayControl {
  start(): Promise<void>;
  /** Ends it and gives everything back; also after a `start` that failed, and more than once. */
  stop(): Promise<void>;
  arrayReport(): Promise<ArrayReport>;
  boardReports(): Promise<BoardReport[]>;
  /** EEXIST, ENOSPC (boards), ENOMEM. At most one call of create, grow and delete is under way. */
  createStg(request: StgRequest): Promise<StgReport>;
  /** ENOENT, ENOSPC (boards, connections, times), ENOMEM. Waits a moment for its hosts. */
  growStg(name: string, request: GrowRequest): Promise<StgReport>;
  stgReports(): Promise<StgReport[]>;
  /** ENOENT. */
  stgReport(name: string): Promise<StgReport>;
  /** ENOENT; EBUSY while hosts are in it, unless forced. */
  deleteStg(name: string, force: boolean): Promise<void>;
  hostReports(): Promise<HostReport[]>;
  /** One sample: rates are null. */
  socketReports(): Promise<readonly SocketReport[]>;
  /** One sample of everything that memory tells; rates are null. */
  figures(): Promise<Figures>;
  /** ENOENT. See readTrace. */
  trace(stg: string, since?: number, slot?: number): Promise<TraceReading>;
}

/** What the composition root hands to an array. */
export interface ArrayOptions {
  readonly configuration: Configuration;
  /** Exists, is ours, is locked; stale sockets are gone. */
  readonly runDirectory: string;
  readonly log: Log;
  /** The array cannot go on: the daemon logs the reason, ends and exits with failure. */
  readonly onFatal: (reason: Error) => void;
}

export type ArrayFactory = (options: ArrayOptions) => ArrayControl | Promise<ArrayControl>;
