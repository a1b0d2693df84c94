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
export const STG_CONNECTIONS_MAX = 65536;
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
/** Event loops look at armed connections at least this often while any is open. */
export const SAFETY_PERIOD_MS = 1000;
/** Pages of an idle producer go back to the pool after this. */
export const IDLE_PAGES_MS = 250;

/** A control call that stpd does not answer is given up after this. */
export const CONTROL_TIMEOUT_MS = 1000;
/** Longest message on the attach socket. */
export const ATTACH_MESSAGE_BYTES_MAX = 16384;
