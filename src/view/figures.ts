/**
 * What memory says of an array at one moment: counters and states, as plain data.
 *
 * These types are the JSON of `stpctl socket list`, `top` and of the control API: names are stable,
 * new ones may be added. Bytes and counts are numbers (exact up to 2^53), times are ISO 8601 in
 * UTC, and what is not there is `null`. What is called a rate is `null` in a single sample. No
 * behaviour; any thread.
 */

/**
 * As TCP names them, seen from the local end. FIN-WAIT: this end sends no more, the peer still may.
 * CLOSE-WAIT: the peer sends no more, this end still may. CLOSING: neither sends. RESET: one of the
 * two has aborted, and this end has not let go yet. BOUND: a port that `bind` holds.
 */
export type SocketState =
  | 'LISTEN'
  | 'BOUND'
  | 'ESTABLISHED'
  | 'FIN-WAIT'
  | 'CLOSE-WAIT'
  | 'CLOSING'
  | 'RESET';

/** One end: a connection is two sockets, one for each of its hosts, until a host lets go. */
export interface SocketReport {
  /** `STG/SLOT.GENERATION` of a connection, `STG:PORT` of a listener: what `stpctl trace` takes. */
  readonly id: string;
  readonly stg: string;
  /** 'tcp': a connection of the host over the network, which would rather go through the array. */
  readonly mechanism: 'stp' | 'tcp';
  /** Why it goes over the network: "peer not attached", ...; null for 'stp'. */
  readonly reason: string | null;
  /** 'tcp': the peer's address, null where it is not known. Null for 'stp'. */
  readonly remoteAddress: string | null;
  readonly state: SocketState;
  /** 0 the end that connected, 1 the end that accepted; null for a port. */
  readonly end: 0 | 1 | null;
  readonly localPort: number;
  readonly localHost: number | null;
  /** What the host calls itself: foreign text. */
  readonly localName: string | null;
  /** As the kernel attested them at attach. */
  readonly localPid: number | null;
  readonly localUid: number | null;
  /** Null unless connected; so is all that is called `peer`. */
  readonly remotePort: number | null;
  readonly peerHost: number | null;
  readonly peerName: string | null;
  readonly peerPid: number | null;
  readonly peerUid: number | null;
  /** Sent, and not yet taken by the peer. */
  readonly sendQueueBytes: number;
  /** Arrived, and not yet taken by this host. */
  readonly receiveQueueBytes: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly sendBytesPerSecond: number | null;
  readonly receiveBytesPerSecond: number | null;
  /** Times this end waited for an empty page to write to. */
  readonly sendWaits: number;
  /** Times this end waited for a full page to read from. */
  readonly receiveWaits: number;
  /** Times it woke its peer, and times there was no need: the peer was awake. */
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
  /** Of a worker thread that blocks: waits that ended while it looked, and those that it slept in. */
  readonly pollHits: number;
  readonly pollMisses: number;
  /** Sleeps that only the end of their slice has ended although there was work; expected: none. */
  readonly safetyFirings: number;
  /** Pages in the list of each direction. */
  readonly sendPages: number;
  readonly receivePages: number;
  /** LISTEN: connections that wait for accept, at most `backlog`; beyond them, connects that wait. */
  readonly waiting: number | null;
  readonly backlog: number | null;
  readonly pending: number | null;
  readonly openedAt: string | null;
}

export interface BoardFigures {
  readonly number: number;
  readonly stg: string | null;
  readonly pages: number;
  readonly pagesUsed: number;
  readonly accesses: number;
  readonly contended: number;
  readonly bypassed: number;
  readonly bytesMoved: number;
  readonly steals: number;
  readonly accessesPerSecond: number | null;
  readonly bytesPerSecond: number | null;
  readonly contendedPerSecond: number | null;
}

export interface StgFigures {
  readonly name: string;
  readonly generation: number;
  readonly state: 'live' | 'deleting';
  readonly director: number;
  readonly boards: number;
  readonly pagesTotal: number;
  readonly pagesUsed: number;
  /** Of those in use: in lists of connections, and held by hosts (taken, claimed, to be given). */
  readonly pagesOfConnections: number;
  readonly pagesOfHosts: number;
  readonly connectionsUsed: number;
  readonly connectionsMax: number;
  readonly portsUsed: number;
  readonly portsMax: number;
  readonly hosts: number;
  /** Of its boards. */
  readonly bytesMoved: number;
  readonly bytesPerSecond: number | null;
}

export interface HostFigures {
  readonly id: number;
  readonly stg: string;
  readonly name: string | null;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly attachedAt: string;
  readonly sockets: number;
  /** Pages that it has put into lists of its open sockets, to send. */
  readonly sendPages: number;
  /** Pages that it holds itself: taken, claimed, to be given. */
  readonly heldPages: number;
  /** Of its open sockets. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly sendBytesPerSecond: number | null;
  readonly receiveBytesPerSecond: number | null;
  /** Peers it rang because they slept, and bells it did not need because they were awake. */
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
  readonly wakesSentPerSecond: number | null;
  readonly wakesSuppressedPerSecond: number | null;
  /** Polls before sleep that found work, and those that ended in sleep. */
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly pollHitsPerSecond: number | null;
  readonly pollMissesPerSecond: number | null;
  /** Wake-ups that only the safety timer found; expected: none. */
  readonly safetyFirings: number;
}

export interface DirectorFigures {
  readonly number: number;
  readonly stgs: readonly string[];
  readonly commands: number;
  readonly loops: number;
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly safetyFirings: number;
  /** Time its thread has run; null where the kernel does not tell. */
  readonly cpuMs: number | null;
  readonly commandsPerSecond: number | null;
  readonly loopsPerSecond: number | null;
  /** Share of one core, 0 to 1. */
  readonly load: number | null;
}

export interface ArrayFigures {
  /** 32 hexadecimal digits: a new start of stpd is a new instance. */
  readonly instance: string;
  readonly state: 'serving' | 'stopping' | 'stopped';
  readonly pid: number;
  readonly startedAt: string;
  readonly boardBytes: number;
  readonly boardsTotal: number;
  readonly boardsUsed: number;
}

/** One sample. Two of the same instance give rates: see rates.ts. */
export interface Figures {
  /** Milliseconds on the monotonic clock of the process that took it: for differences only. */
  readonly takenMs: number;
  readonly takenAt: string;
  /** What the rates are taken over; null in a single sample. */
  readonly intervalMs: number | null;
  readonly array: ArrayFigures;
  readonly boards: readonly BoardFigures[];
  readonly stgs: readonly StgFigures[];
  readonly sockets: readonly SocketReport[];
  readonly hosts: readonly HostFigures[];
  readonly directors: readonly DirectorFigures[];
}
