/**
 * The only loader of the addon, and the addon's face: what `native/` offers, typed.
 *
 * Everything here is synchronous and short, except the waits, which return after the given slice.
 * Errors of system calls are thrown as `Error` with `code`, `errno` and `syscall`.
 */
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
  /** Replaces a part by private zero memory; writable, so that a late store of ours hurts nobody. */
  unmapToZero(segment: number, offset: number, bytes: number): void;

  // --- descriptors.cc ----------------------------------------------------------------------
  /** SOCK_SEQPACKET Unix socket, close-on-exec, non-blocking, bound to `path` with `mode`. */
  unixListen(path: string, backlog: number, mode: number): number;
  /** SOCK_SEQPACKET; connects at once or throws (ENOENT, ECONNREFUSED, EACCES, EAGAIN). */
  unixConnect(path: string): number;
  /** A descriptor, or -1 when none waits. */
  unixAccept(fd: number): number;
  /** Two non-blocking, close-on-exec descriptors. `stream`: SOCK_STREAM, else SOCK_SEQPACKET. */
  socketPair(stream: boolean): [number, number];
  /** True if sent, false if the socket is full (EAGAIN). MSG_DONTWAIT|MSG_NOSIGNAL. At most 16 descriptors. */
  sendMessage(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /**
   * undefined when nothing waits (EAGAIN); `data.length === 0` with no descriptors is end-of-file.
   * Received descriptors are close-on-exec. A truncated message (data or control) closes what
   * came with it and throws EMSGSIZE. ECONNRESET is thrown.
   */
  receiveMessage(fd: number, bytesMax: number): { data: Buffer; fds: number[] } | undefined;
  peerCredentials(fd: number): { pid: number; uid: number; gid: number; groups: number[] };
  closeDescriptor(fd: number): void;
  /** Path-free exclusive lock on an open file (flock LOCK_EX|LOCK_NB): false if another holds it. */
  lockFile(fd: number): boolean;
  /**
   * Watches a descriptor on the calling thread's event loop (uv_poll). `events`: 1 readable,
   * 2 writable, 4 disconnect. Not referenced: it does not keep the process alive unless `watchRef`.
   * The callback gets the events, or a negative errno.
   */
  watchStart(fd: number, events: number, callback: (events: number) => void): number;
  watchStop(watch: number): void;
  watchRef(watch: number, referenced: boolean): void;

  // --- file_io.cc --------------------------------------------------------------------------
  // Page rings, the event loop and waiting: see src/memory/page-ring.ts and event-loop.ts.
}
