/**
 * What the daemon's main thread and a channel director say to each other, over a MessagePort.
 * Rare and small: everything frequent goes through member rings.
 */

import type { StgExtent, StgGeometry } from '../layout/geometry.js';
import type { SegmentHandle } from '../memory/segment.js';

export interface DirectorStart {
  readonly director: number;
  readonly segment: SegmentHandle;
  readonly pollBudgetUs: number;
}

export interface StgOpen {
  readonly op: 'stg-open';
  /** The STG's directory entry: its number while it lives. */
  readonly stg: number;
  readonly name: string;
  readonly generation: number;
  readonly offset: number;
  readonly geometry: StgGeometry;
  readonly portsMax: number;
  /** Segment offset of the STG's register: zero memory, the director's to write. */
  readonly register: number;
}

export interface StgGrow {
  readonly op: 'stg-grow';
  readonly stg: number;
  /** Mapped in the segment already. */
  readonly extent: StgExtent;
  /** Its file, which stays open as long as the STG lives: hosts get it over their channels. */
  readonly fd: number;
}

export interface MemberAdd {
  readonly op: 'member-add';
  readonly stg: number;
  readonly host: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** What the host calls itself; may be empty. */
  readonly name: string;
  /** Segment offset of the member's ring. */
  readonly ring: number;
  /** The director's end of the member's channel; it takes the descriptor over. */
  readonly channel: number;
}

export type DirectorRequest =
  | StgOpen
  | StgGrow
  | MemberAdd
  | { readonly op: 'stg-close'; readonly stg: number; readonly force: boolean }
  | {
      readonly op: 'member-remove';
      readonly stg: number;
      readonly member: number;
      readonly host: number;
    }
  | { readonly op: 'report' };

export interface StgRow {
  readonly stg: number;
  readonly members: number;
  readonly connections: number;
  readonly ports: number;
  readonly pagesUsed: number[];
  /** Hosts that have not mapped all files of the STG. */
  readonly behind: number[];
}

export interface DirectorReport {
  readonly stgs: StgRow[];
  /** Listeners, binds, and ends of connections. */
  readonly sockets: number;
  readonly hostSockets: { host: number; stg: number; sockets: number }[];
  readonly commands: number;
  /** Share of one core since the last report, 0 to 1. */
  readonly load: number;
}

export interface DirectorReply {
  readonly id: number;
  readonly error?: { code: string; message: string };
  readonly result?: unknown;
}

/** Sent without being asked: the member's host has closed its channel, all it had is freed. */
export interface MemberGone {
  readonly notice: 'member-gone';
  readonly stg: number;
  readonly host: number;
}

export interface MemberAdded {
  readonly member: number;
  readonly generation: number;
  /** Files of the STG that the grant must bring: of later ones the member hears over its channel. */
  readonly extents: number;
}
