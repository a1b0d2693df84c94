/**
 * Every bound, with its reason.
 */

/** A number of 16 bits names a port, as in TCP. */
export const PORT_MAX = 65535;
/** Dynamic ports are taken from here up to PORT_MAX: the upper half, as Linux does. */
export const PORT_DYNAMIC_MIN = 32768;

/** An STG of fewer boards spends a third of its speed waiting for board locks. */
export const STG_BOARDS_MIN = 4;
/** Default connection slots of an STG: 1408 bytes each, 22 MiB. */
export const STG_CONNECTIONS_DEFAULT = 16384;
/** 16 bits of an owner word name a connection. An STG can grow to it: ready bits have room for all. */
export const STG_CONNECTIONS_MAX = 65536;
/** `stg grow` waits so long for the hosts to map what is new; then it tells which have not. */
export const GROW_ANSWER_MS = 2000;
/** A host whose channel was full when the STG grew is told again after this. */
export const GROW_RETRY_MS = 100;
/** At most one slot in eight lists a TCP connection of a host; more go unlisted, and work the same. */
export const NETWORK_SLOTS_SHARE = 8;
/** Hosts in one STG: each has a 4 KiB ready bitmap with the default connection count. */
export const STG_MEMBERS_DEFAULT = 256;
/** Listeners and explicit binds of one STG. */
export const STG_PORTS_MAX = 32767;
/** STG names appear in file names, messages and 64-byte fields. */
export const STG_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export const BOARD_BYTES_MIN = 1 << 20;
export const BOARD_BYTES_MAX = 2 ** 30;
export const BOARDS_MIN = STG_BOARDS_MIN;
export { BOARDS_MAX } from './layout/tables.js';
/** 16 boards of 16 MiB: an array of 256 MiB, populated in under a second. */
export const BOARDS_DEFAULT = 16;
export const BOARD_BYTES_DEFAULT = 16 << 20;

export { DIRECTORS_MAX } from './layout/tables.js';

/** Bytes of the reserved range. A debugger that shows a larger buffer aborts Node 20. */
export const SEGMENT_BYTES_DEFAULT = 2 ** 32;

/** Connections that may wait for accept, as `node:net` has it. */
export const BACKLOG_DEFAULT = 511;
export const BACKLOG_MAX = 4096;

/** A native wait returns to JavaScript after this, so that exit and terminate() work. */
export const WAIT_SLICE_MS = 50;
/** Pages that one call of a blocking stream reserves or shows: half a window, so that the other half
 * is the peer's meanwhile. */
export const PAGES_AT_ONCE_MAX = 32;
/** Pages of one readv or writev of a socket on an event loop: a thread of libuv's pool is asked for
 * each, and the peer works on the pages before meanwhile. */
export const FILE_PAGES = 8;
/** Views of pages that a blocking stream keeps: a few times its window. */
export const PAGE_VIEWS_MAX = 256;
/** A length of 32 bits stands in front of each record. */
export const RECORD_HEADER_BYTES = 4;
/** Longest record unless told otherwise: nobody should need more for small messages. */
export const RECORD_BYTES_DEFAULT_MAX = 1 << 20;
/** Longest record that can be asked for: a reader has it whole in its own memory. */
export const RECORD_BYTES_MAX = 2 ** 30;
/** Records are gathered up to this before they are sent: one page. */
export const RECORD_BATCH_BYTES = 65536;

/** Event loops look at armed connections twice in this while any is open: nobody hangs longer. */
export const SAFETY_PERIOD_MS = 1000;
/**
 * ACCEPT and CLOSE do not wake a director that sleeps for longer than this: a wake-up costs more
 * than all the rest of a connection, and nobody waits for them.
 */
export const LAZY_BELL_MS = 2;
/** A second, far beyond any wake-up: who looks longer wants to look for ever. */
export const POLL_US_MAX = 1_000_000;
/**
 * Connecting, accepting and ending are questions whose answer comes soon: who asked looks for it so
 * long, microseconds, before it sleeps. Three wake-ups of idle cores, as many as a connection takes.
 */
export const EXPECT_US = 300;
/** Pages of an idle producer go back to the pool after this. */
export const IDLE_PAGES_MS = 250;
/** The same while other streams of the STG find no page: some of their tries. */
export const WANTED_PAGES_MS = 25;
/** A full pool is looked at again after this, on average. */
export const PAGE_RETRY_MS = 2;
/**
 * A stream that has found no page for so long fails with ENOBUFS: others hold them all, with bytes
 * that their peers do not read. Long enough for a peer that only pauses.
 */
export const PAGE_TIMEOUT_MS = 30_000;
/**
 * A process that has stood still (stopped, or busy with something else) has not waited meanwhile: a
 * pause between two looks that was longer than this does not count.
 */
export const PAGE_PAUSE_MS_MAX = 1000;
/** Longest that can be asked for: a day. */
export const PAGE_TIMEOUT_MS_MAX = 86_400_000;

/** A control call that stpd does not answer is given up after this. */
export const CONTROL_TIMEOUT_MS = 1000;
/** Longest message on the attach socket. */
export const ATTACH_MESSAGE_BYTES_MAX = 16384;

/** `sun_path` has 108 bytes, one for the zero: see unix(7). */
export const UNIX_PATH_BYTES_MAX = 107;

/** Connections of one `stpctl forward` at a time, unless it is told: two descriptors each. */
export const FORWARD_CONNECTIONS_DEFAULT = 1024;
/** As many as an STG may have. */
export const FORWARD_CONNECTIONS_MAX = STG_CONNECTIONS_MAX;
/**
 * Bytes of one direction of one forwarded connection that may wait in the process: some reads, so
 * that one side is read while the other is written.
 */
export const FORWARD_BUFFER_BYTES = 262144;
/** A read of a forwarded connection: what Node reads at once, and, when it keeps coming, more. */
export const FORWARD_READ_BYTES_MIN = 65536;
export const FORWARD_READ_BYTES_MAX = 262144;
/** Seconds that a stopped forward leaves its streams: half of what containers get to stop. */
export const FORWARD_GRACE_S_DEFAULT = 5;
export const FORWARD_GRACE_S_MAX = 86400;
/** A forward looks this often whether stpd is back. */
export const FORWARD_ATTACH_PERIOD_MS = 500;
