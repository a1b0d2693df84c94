/**
 * The only loader of the addon, and the addon's face: what `native/` offers, typed.
 *
 * Everything here is synchronous and short, except the waits, which return after the given slice.
 * Errors of system calls are thrown as `Error` with `code`, `errno` and `syscall`.
 *
 * Each JavaScript thread loads the addon for itself, at its first `native()`; what cannot work on
 * this machine is found then, and said as ERR_STPD_NATIVE with what to do about it.
 */
import { createRequire } from 'node:module';
import { arch, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { isCoded, messageOf, stpError } from './errors.js';
import { layoutHash } from './layout/hash.js';

export interface Native {
  // --- segment.cc: memory ------------------------------------------------------------------
  /** memfd, close-on-exec, sealable, mode 0600. `name` is for display in /proc only. */
  memfdCreate(name: string): number;
  /** Sets the size and claims the space (ftruncate, fallocate). ENOMEM or ENOSPC if it is not there. */
  claim(fd: number, bytes: number): void;
  /** Seals SHRINK, GROW, SEAL; with `future` also FUTURE_WRITE (hosts can then map it read-only only). */
  seal(fd: number, future: boolean): void;
  /** EPERM unless the file is a memfd of exactly `bytes` with SHRINK, GROW and SEAL set. */
  verifySealed(fd: number, bytes: number): void;
  /**
   * Reserves a range of private read-only zero memory. `segment` is process-wide: a worker may use
   * the number. The buffer is posted to workers, never made twice.
   */
  reserve(bytes: number): { segment: number; buffer: SharedArrayBuffer };
  /** Maps `bytes` of a file from its start at `offset` of the range, MAP_FIXED|MAP_SHARED|MAP_POPULATE. */
  map(segment: number, offset: number, fd: number, bytes: number, writable: boolean): void;
  /** As `map`, by a thread of libuv's pool. Takes the descriptor over, also where it throws. */
  mapLater(
    segment: number,
    offset: number,
    fd: number,
    bytes: number,
    writable: boolean,
  ): Promise<void>;
  /** Replaces a part by private zero memory; writable, so that a late store of ours hurts nobody. */
  unmapToZero(segment: number, offset: number, bytes: number): void;

  // --- descriptors.cc ----------------------------------------------------------------------
  /**
   * Unix socket, close-on-exec, non-blocking, bound to `path` with `mode`. `stream`: SOCK_STREAM, else
   * SOCK_SEQPACKET.
   */
  unixListen(path: string, backlog: number, mode: number, stream?: boolean): number;
  /** As `unixListen`; connects at once or throws (ENOENT, ECONNREFUSED, EACCES, EAGAIN). */
  unixConnect(path: string, stream?: boolean): number;
  /** A descriptor, or -1 when none waits. */
  unixAccept(fd: number): number;
  /** Two non-blocking, close-on-exec descriptors. `stream`: SOCK_STREAM, else SOCK_SEQPACKET. */
  socketPair(stream: boolean): [number, number];
  /** True if sent, false if the socket is full (EAGAIN). MSG_DONTWAIT|MSG_NOSIGNAL. At most 32 descriptors. */
  sendMessage(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /**
   * undefined when nothing waits (EAGAIN); `data.length === 0` with no descriptors is end-of-file.
   * Received descriptors are close-on-exec. A truncated message (data or control) closes what
   * came with it and throws EMSGSIZE. ECONNRESET is thrown.
   */
  receiveMessage(fd: number, bytesMax: number): { data: Buffer; fds: number[] } | undefined;
  peerCredentials(fd: number): { pid: number; uid: number; gid: number; groups: number[] };
  /**
   * Process at the other end of a connected stream socket: who connected, listened or made the pair;
   * 0 over a network. @throws ENOTSOCK, EPROTOTYPE for other kinds, ENOTCONN
   */
  streamPeerPid(fd: number): number;
  /** Both ways and for everybody who has this socket: who blocks there wakes, and no close waits. */
  endConnection(fd: number): void;
  /** Another one for the same open file or socket, close-on-exec. @throws EBADF, EMFILE */
  duplicateDescriptor(fd: number): number;
  closeDescriptor(fd: number): void;
  /** Path-free exclusive lock on an open file (flock LOCK_EX|LOCK_NB): false if another holds it. */
  lockFile(fd: number): boolean;
  /**
   * Watches a descriptor on the calling thread's event loop (uv_poll). `events`: 1 readable,
   * 2 writable, 4 disconnect. Not referenced: it does not keep the process alive unless `watchRef`.
   * The callback gets the events, or a negative errno, after which nothing more comes: -ECONNRESET
   * when the peer of a socket is gone with bytes of ours unread. Stop a watch before its descriptor
   * is closed: closeDescriptor refuses with EBUSY. Stopping twice is allowed.
   */
  watchStart(fd: number, events: number, callback: (events: number) => void): number;
  watchStop(watch: number): void;
  watchRef(watch: number, referenced: boolean): void;

  // --- stg.cc: an STG in this process, its pages, cables ------------------------------------
  /** `geometry` is an StgGeometry; checked once. The number is process-wide. */
  stgOpen(segment: number, offset: number, geometry: object): number;
  /**
   * A further file of the STG, mapped already: an StgExtent, checked. Rings of every thread may use
   * its pages from now on. Returns how many files the view has.
   */
  stgGrow(stg: number, extent: object): number;
  /** No new rings; the number is used again once the last ring on it is closed. */
  stgClose(stg: number): void;
  /** Takes the descriptor over; it is closed with the last user. The number is process-wide. */
  cableOpen(fd: number): number;
  /** As if the other end were gone, for every ring of the process that uses it. */
  cableEnd(cable: number): void;
  /** Whether nobody is at the other end any more: asked of the kernel, one system call. */
  cableDead(cable: number): boolean;
  cableClose(cable: number): void;
  /** A page number, or -1 when the STG is full. */
  pageClaim(stg: number, ownerWord: number, hint: number): number;
  pageRelease(stg: number, page: number, ownerWord: number): boolean;
  /** Frees every page of an owner; the number freed. Reads every owner word. */
  pageSweep(stg: number, ownerWord: number): number;
  /** Pages of the STG, those with an owner, and the boards they lie on. Reads every owner word. */
  stgPages(stg: number): { pages: number; used: number; boards: number };
  /** Streams of the STG have looked for a page in vain lately. */
  stgWanted(stg: number): boolean;
  /** Owned pages on each board; corrects the advisory counter. The director's thread only. */
  pagesUsed(stg: number): number[];
  /** Marks a member's ready bit and rings if it sleeps. */
  memberNotify(stg: number, member: number, ready: number, cable: number): boolean;
  /** Clears a sleep word; rings the cable if it was set. */
  wordWake(segment: number, offset: number, cable: number): boolean;
  /** Microseconds since 1970, as native code stamps them: for people, never for waits. */
  wallClockUs(): number;
  /** Cores this process may use, CPU quota included. */
  usableCores(): number;

  // --- page_ring_api.cc: see src/memory/page-ring.ts ----------------------------------------
  // `sliceMs` 0: never waits (event loops); else waits so long at most (worker threads).
  /** The number of a new ring; RingOptions of memory/page-ring.ts one by one, since it is called twice a connection. */
  ringOpen(
    stg: number,
    connection: number,
    generation: number,
    end: number,
    selfMember: number,
    selfGeneration: number,
    peerMember: number,
    cable: number,
    producer: 0 | 1,
    cursor: number,
  ): number;
  ringClose(ring: number): void;
  /** `ringWrite` of the whole, without waiting. */
  ringPut(ring: number, from: Uint8Array): number;
  ringWrite(ring: number, from: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  ringRead(ring: number, into: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  /** Reads and, where that was all, arms: twice the bytes, and 1 more if armed; else a negative state. */
  ringTake(ring: number, into: Uint8Array, offset: number, bytes: number): number;
  /**
   * Where `ringReceive` of this thread reads to until the next call. The caller keeps both alive, and
   * looks that neither was detached before each `ringReceive`.
   */
  receivePlaces(slab: Uint8Array, brief: Uint8Array): void;
  /**
   * `ringTake` of `bytes` at most, into the brief place where what is there is shorter than its room
   * and than 4096 bytes, else into the slab: four times the bytes, 2 more if they lie in the brief
   * place, 1 more if armed; else a negative state.
   */
  ringReceive(ring: number, slabAt: number, briefAt: number, bytes: number): number;
  /** `done` bytes of the view before are committed first, unless negative. */
  ringReserve(ring: number, sliceMs: number, done?: number): number;
  /** Packed views of `count` pages at most; how many. */
  ringReservePages(
    ring: number,
    views: Float64Array,
    count: number,
    sliceMs: number,
    done?: number,
  ): number;
  ringCommit(ring: number, bytes: number): number;
  /** `done` bytes of the view before are consumed first, unless negative. */
  ringPeek(ring: number, sliceMs: number, done?: number): number;
  ringPeekPages(
    ring: number,
    views: Float64Array,
    count: number,
    sliceMs: number,
    done?: number,
  ): number;
  ringConsume(ring: number, bytes: number): number;
  ringExchange(ring: number, page: number): number;
  /** The buffers from index `from` on, without their first `skip` bytes, 1024 at most. */
  ringWriteVector(
    ring: number,
    buffers: readonly Uint8Array[],
    from: number,
    skip: number,
    sliceMs: number,
  ): number;
  ringReadVector(
    ring: number,
    buffers: readonly Uint8Array[],
    from: number,
    skip: number,
    sliceMs: number,
  ): number;
  /** `count` pairs of offset and length within one buffer, without their first `skip` bytes. */
  ringWriteFlat(
    ring: number,
    bytes: Uint8Array,
    spans: Uint32Array,
    count: number,
    skip: number,
    sliceMs: number,
  ): number;
  ringReadFlat(
    ring: number,
    bytes: Uint8Array,
    spans: Uint32Array,
    count: number,
    skip: number,
    sliceMs: number,
  ): number;
  /** As ringWriteVector, each with its length of 4 bytes in front; `skip` counts these too. */
  ringWriteRecords(
    ring: number,
    records: readonly Uint8Array[],
    from: number,
    skip: number,
    sliceMs: number,
  ): number;
  ringWriteFlatRecords(
    ring: number,
    bytes: Uint8Array,
    spans: Uint32Array,
    count: number,
    skip: number,
    sliceMs: number,
  ): number;
  /** Writes all, then reads what comes; RING_NOT_NOW: did neither. */
  ringCall(
    tx: number,
    from: Uint8Array,
    offset: number,
    bytes: number,
    rx: number,
    into: Uint8Array,
    sliceMs: number,
  ): number;
  /** (page * 2 + exchanged) * 2^17 + bytes; 0: not all there yet. */
  ringTakePage(rx: number, sliceMs: number): number;
  /** 1 when `tx` has the page that `rx` held; RING_NOT_NOW: no page starts at its cursor. */
  ringGivePage(tx: number, page: number, rx: number, sliceMs: number): number;
  ringClaimPage(rx: number): number;
  /** 1, or 0 for a page that the ring does not hold. */
  ringReleasePage(rx: number, page: number): number;
  ringPageOffset(ring: number, page: number): number;
  ringCounters(ring: number): RingCounters;
  /** `waits` of its counters alone. */
  ringWaits(ring: number): number;
  ringFillFromFile(ring: number, fd: number, at: number, bytes: number, sliceMs: number): number;
  ringDrainToFile(ring: number, fd: number, at: number, bytes: number, sliceMs: number): number;
  /** 0: armed, a ready bit will come; else the state of the ring, not armed. */
  ringArm(ring: number): number;
  ringState(ring: number): number;
  /** Of a ring that reads. 1: the peer has reset the stream, whatever lies there to be read. */
  ringWasReset(ring: number): number;
  /** 1: there is something for who is armed, and no ready bit has said so. */
  ringUnannounced(ring: number): number;
  /** The caller has found a wake-up that was lost. */
  ringCountSafety(ring: number): void;
  ringFinish(ring: number): void;
  ringAbort(ring: number): void;
  ringCloseReading(ring: number, reset: number): void;
  /**
   * Gives back the pages that carry no unread byte, but for the one it writes to where the stream has
   * moved since the last call; how many it still holds.
   */
  ringReleaseIdle(ring: number): number;
  ringCursor(ring: number): number;
  ringSetLimit(ring: number, bytes: number): void;
  ringSetSpin(ring: number, microseconds: number): void;
  ringMemberOwner(ring: number): number;
  connectionInit(stg: number, connection: number): void;
  /** Frees the pages of both lists; how many. */
  connectionRelease(stg: number, connection: number, generation: number): number;
  /** Resets what an end has left open, and wakes who waits for it: member `peer`, by `cable` or 0. */
  connectionAbort(stg: number, connection: number, end: number, peer: number, cable: number): void;

  // --- touch.cc -----------------------------------------------------------------------------
  /** Bytes `start` to `end` of `from` to `at` of `to`: TypedArray.set is slow from or to a page. */
  copyBytes(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void;
  /** Starts the first probe of the process, on a thread of its own. False: STPD_COPY is no choice. */
  copyProbe(): boolean;
  copyChoice(): CopyChoice;
  fillBytes(segment: number, offset: number, bytes: number, value: number): void;
  /** Sum of the little-endian 64-bit words modulo 2^64; read in place. */
  sumBytes(segment: number, offset: number, bytes: number): bigint;

  // --- file_io.cc ---------------------------------------------------------------------------
  /** utimensat; the access time is left alone. */
  setTimesNs(path: Buffer | string, mtimeNs: bigint, followSymlink: boolean): void;
  /**
   * Extended attributes of an open file, or of a name that is not followed: null without any, else
   * name and value by turns. E2BIG if they are more than `bytesMax` together.
   */
  getXattrs(fdOrPath: number | Buffer, bytesMax: number): Buffer[] | null;
  setXattr(fdOrPath: number | Buffer, name: Buffer, value: Buffer): void;
  /**
   * Looks at an open file, or at a name in an open directory, which is not followed: see
   * src/source/file-stat.ts.
   * @returns 0, or an error number
   */
  statInto(fd: number, name: Buffer | null, record: BigInt64Array): number;
  /**
   * Names in the directory that `fd` stands for (O_PATH will do), in the order of their bytes, each
   * with a zero behind it. Throws ENOENT, EACCES, ...
   */
  listNames(fd: number): Buffer;
  /**
   * `statInto` of names from `at` on, a row of `rows` each (src/source/file-stat.ts); and their paths,
   * `prefix` and name, from `pathsAt` on. Ends early where there is no room for a path, and behind a
   * directory or a file of `large` bytes.
   * @param names as of `listNames`
   * @returns the number of rows
   */
  lookAt(
    fd: number,
    names: Buffer,
    at: number,
    prefix: Buffer,
    paths: Buffer,
    pathsAt: number,
    large: number,
    rows: BigInt64Array,
  ): number;
  /**
   * The member of a small file to `offset` of `view`: header, data, zeros up to whole blocks of 512;
   * false if it is not just what the record at `wordAt` of `words` says, before and after, or has
   * extended attributes, or cannot be read.
   * @param names its name begins at `nameAt`, and ends with a zero
   */
  readWhole(
    dirFd: number,
    names: Uint8Array,
    nameAt: number,
    flags: number,
    words: BigInt64Array,
    wordAt: number,
    header: Uint8Array,
    headerBytes: number,
    view: Uint8Array,
    offset: number,
  ): boolean;
  /** What is no hole below `size`: offset and bytes by turns; null if the file system cannot say. */
  dataSegments(fd: number, size: number, countMax: number): number[] | null;
  /** fsync(2) of many files of one file system at the price of one; an error number for each, or 0. */
  syncFiles(fds: readonly number[]): number[];
  /** syncfs(2) of the file system that an open file is on; waits. */
  syncFileSystem(fd: number): void;
  /** mknod(2); `mode` with the type bits. The device number counts for devices only. */
  makeNode(path: Buffer | string, mode: number, major: number, minor: number): void;

  // --- process.cc: of a service and its threads ---------------------------------------------

  /** ioprio_set(2) of the calling thread: class 2 is best effort with levels 0 to 7, 3 is idle. */
  setIoPriority(ioClass: number, level: number): void;
  /**
   * SCHED_BATCH for the calling thread, unless it has a policy of its own, or may not: see sched(7).
   * True if it has that policy now.
   */
  setBatchScheduling(): boolean;
  /** One datagram to a Unix socket, abstract if its name begins with @; never waits. */
  sendDatagram(path: string, message: string): void;

  // --- tcp.cc: TCP sockets by number --------------------------------------------------------
  // Each belongs to the thread that made or adopted it, and is closed with it at the latest.
  // Numbers that a call gives back are descriptors, bytes or 0, or minus an error number.
  tcpOpen(version: 4 | 6): number;
  /** `address` is an IPv4 or IPv6 address, not a name. */
  tcpBind(fd: number, address: string, port: number): number;
  tcpListen(fd: number, backlog: number): number;
  /** -EINPROGRESS until it is writable; then TCP_ERROR tells. */
  tcpConnect(fd: number, address: string, port: number): number;
  tcpAccept(fd: number): number;
  tcpName(fd: number, ofPeer: boolean): { host: string; port: number } | undefined;
  /** Bytes taken within the slice, 0 for none. */
  tcpSend(fd: number, from: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  /** 0 is the orderly end, -EAGAIN that nothing came within the slice. */
  tcpReceive(fd: number, into: Uint8Array, offset: number, bytes: number, sliceMs: number): number;
  /** 0 reading, 1 writing. */
  tcpShutdown(fd: number, how: number): number;
  /** Of any descriptor: `option` is a TCP_ number of src/connect/tcp-numbers.ts. */
  tcpSetOption(fd: number, option: number, value: number): number;
  tcpGetOption(fd: number, option: number): number;
  /** `reset`: RST instead of an end. */
  tcpClose(fd: number, reset: boolean): void;
  /** Somebody else, libuv, closes it from now on. */
  tcpRelease(fd: number): void;
  /** A second descriptor of any socket, for the thread that adopts its number: once. */
  tcpDispatch(fd: number): number;
  tcpAdopt(number: number): number;
  /** Asks for the address of a host name on a thread of its own. */
  hostLookup(name: string): number;
  /** '' for a name without one, undefined: not yet. After an answer the number is used up. */
  hostAddress(lookup: number, sliceMs: number): string | undefined;
  hostForget(lookup: number): void;

  // --- copy_data.cc: PostgreSQL's CopyData, of a descriptor that nobody else reads meanwhile -----
  /**
   * Data of CopyData messages, up to `bytes`. With none: 0 at the end of the stream or where `state`
   * says that something was put aside, else minus an error, -EAGAIN that nothing came in the slice.
   * `state[0]`: bytes of the message at hand still to come, kept up to date; `state[1]`: bytes put
   * aside, which come after the data and are anything else. `aside` has COPY_ASIDE_BYTES.
   */
  copyDataReceive(
    fd: number,
    into: Uint8Array,
    offset: number,
    bytes: number,
    state: Float64Array,
    aside: Uint8Array,
    sliceMs: number,
  ): number;
  /** As tcpReceive, of any descriptor. */
  socketReceive(
    fd: number,
    into: Uint8Array,
    offset: number,
    bytes: number,
    sliceMs: number,
  ): number;

  // --- receive_slabs.cc: see src/socket/receive-slabs.ts --------------------------------------
  /** 1 MiB that comes back to the thread's pool once collected; undefined when all are in use. */
  slabTake(): ArrayBuffer | undefined;
  /** How many slabs have come back since the last call. */
  slabsBack(): number;
  slabTrim(): void;

  // --- event_loop.cc: see src/memory/event-loop.ts ------------------------------------------
  loopOpen(
    onReady: (count: number) => void,
    onCableEnd: (cable: number) => void,
    pairs: Uint32Array,
  ): void;
  loopSource(options: LoopSourceOptions): number;
  loopSourceEnd(source: number): void;
  /** For streams without a budget of their own; 0 never polls. */
  loopPolling(budgetMaxUs: number): void;
  /**
   * The budget of a stream, by its ready index, and the largest of the source's open streams, in
   * microseconds; less than 0: that of the thread.
   */
  loopSpin(source: number, stream: number, us: number, mostUs: number): void;
  /** For so long an answer is on its way: the loop looks for it before it sleeps. */
  loopExpect(us: number): void;
  /** The loop keeps its counters, and the thread's number, in the `director` record there. */
  loopDirector(segment: number, offset: number): void;
  loopSafety(active: boolean): void;
  loopCable(cable: number): void;
  loopCableEnd(cable: number): void;
  /**
   * One turn of the loop without libuv, for a thread that blocks: waits until its sources have
   * work (their callbacks have run then), an entry is ready, or the time is over.
   * @param entries triples: descriptor, poll(2) events, and what came of it
   * @returns how many entries are ready
   */
  loopWait(timeoutMs: number, entries: Int32Array, spinUs: number): number;
  loopCounters(): { safetyFirings: number; pollHits: number; pollMisses: number };
}

/** How this process copies 16 KiB and more into pages, and what its last probe found. */
export interface CopyChoice {
  readonly mode: 'cached' | 'streaming';
  /** Probes that have come to an end; none with STPD_COPY=cached or streaming, or on one core. */
  readonly probes: number;
  readonly cachedGBs: number;
  readonly streamingGBs: number;
  readonly tookMs: number;
}

/** What one ring has counted since this thread opened it. */
export interface RingCounters {
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly waits: number;
  readonly safetyFirings: number;
}

/** Byte offsets in the segment; see native/event_loop.cc. */
export interface LoopSourceOptions {
  readonly segment: number;
  readonly sleep: number;
  readonly summary?: number;
  readonly summaryBytes?: number;
  readonly bits?: number;
  readonly bitsBytes?: number;
  readonly ringTail?: number;
  readonly ringSeen?: number;
  readonly pollers?: number;
  /** The member whose counters the loop keeps. */
  readonly member?: number;
}

/** What the binary offers, with the layout that it was compiled for. */
export type Addon = Native & { readonly layoutHash: string };

const binary = fileURLToPath(new URL('../../build/Release/stpd_native.node', import.meta.url));

let loaded: Native | undefined;

/** The addon. Loads it at the first call of this thread; throws ERR_STPD_NATIVE if it cannot. */
export function native(): Native {
  /* The exports are too many for V8 to keep but in a dictionary, where each call of one would search
   * its name. As somebody's prototype they are compiled in. */
  loaded ??= Object.create(loadAddon(binary)) as Native;
  return loaded;
}

/** Loads and checks a binary. Apart from tests, only `native()` calls this. */
export function loadAddon(file: string): Native {
  let addon: Addon;
  try {
    addon = createRequire(import.meta.url)(file) as Addon;
  } catch (e) {
    throw loadError(file, e);
  }
  verifyLayout(addon, file);
  verifyKernel(addon);
  return addon;
}

function loadError(file: string, e: unknown): Error {
  const here = `Node ${process.versions.node} on ${process.platform} ${arch()}`;
  const why =
    isCoded(e) && e.code === 'MODULE_NOT_FOUND'
      ? `the addon has not been built, ${file} is missing: run \`npm run build\``
      : `the addon was not made for this machine (${here}): run \`npm run build\`. ${messageOf(e)}`;
  return stpError('ERR_STPD_NATIVE', why);
}

/** The C++ side and the TypeScript side of one installation must see the same bytes. */
export function verifyLayout(addon: { readonly layoutHash: unknown }, file: string): void {
  if (addon.layoutHash === layoutHash()) return;
  throw stpError(
    'ERR_STPD_NATIVE',
    `the addon was built for another layout of the shared memory, ${addon.layoutHash}, ` +
      `than this program has, ${layoutHash()}: run \`npm run build\` (${file})`,
  );
}

/** What a kernel answers when it does not know, or a container forbids, what it is asked for. */
const unsupported = new Set(['ENOSYS', 'EINVAL', 'EPERM', 'ENOPROTOOPT', 'EACCES', 'EOPNOTSUPP']);

function requireKernel(what: string, since: string, attempt: () => void): void {
  try {
    attempt();
  } catch (e) {
    if (!isCoded(e) || !unsupported.has(e.code)) throw e;
    throw stpError(
      'ERR_STPD_NATIVE',
      `stpd needs ${what}, which Linux has from ${since} on; this is ${release()}: use a newer ` +
        `kernel, or allow it where a container or a security policy forbids it (${e.message})`,
    );
  }
}

type KernelProbe = Pick<
  Native,
  'memfdCreate' | 'seal' | 'socketPair' | 'peerCredentials' | 'closeDescriptor'
>;

/** Tries what the isolation of STGs rests on; without it hosts could harm each other unseen. */
export function verifyKernel(addon: KernelProbe): void {
  const open: number[] = [];
  try {
    let file = -1;
    requireKernel('memfd_create', '3.17', () => {
      file = addon.memfdCreate('stpd-probe');
      open.push(file);
    });
    requireKernel('F_SEAL_FUTURE_WRITE', '5.1', () => addon.seal(file, true));
    open.push(...addon.socketPair(true));
    requireKernel('SO_PEERGROUPS', '4.13', () => addon.peerCredentials(open.at(-1) as number));
  } finally {
    for (const fd of open) addon.closeDescriptor(fd);
  }
}
