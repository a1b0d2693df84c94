/** Every bound of the backup application, with its reason. */

/** The client's well-known port: the number of the patent. The storage handshake uses it plus one. */
export const CLIENT_WKP = 7398;
/** The server's well-known port: the rest of that number. */
export const SERVER_WKP = 7286;

/** A step of a handshake that takes longer than this has failed: the peer is silent. */
export const STEP_TIMEOUT_MS = 10_000;

/** 128 bits: not to be guessed, not to be drawn twice. */
export const SESSION_ID_BYTES = 16;
export const TOKEN_BYTES = 16;

/** An STG's name fits a 64-byte field with its terminating zero. */
export const STG_ID_BYTES_MAX = 63;

/** A reason travels in one handshake message; longer ones are cut. */
export const REASON_BYTES_MAX = 512;

/** Connections of a door that have not yet said who they are. More are closed unheard. */
export const UNIDENTIFIED_MAX = 64;

/**
 * Callers of a client's control socket that are served, wait for their turn or have yet to close their
 * end. Each holds a descriptor; more are told to come again.
 */
export const CALLERS_MAX = 256;
/** Base backups at one time that are asked of a client. Each holds a thread, a session and its pages. */
export const ASKED_BACKUPS_MAX = 32;
/** A request on a control socket: a certificate authority bundle of a whole system has 220 KB. */
export const ASKED_BYTES_MAX = 1 << 20;

/** Sessions at one time on one client. Each holds two connections, a listener and workers. */
export const SESSIONS_MAX = 32;

/**
 * Parallel data streams of one session, each with a thread on either side: no more than fill a
 * machine's memory. A role is one byte, and 255 is the control stream.
 */
export const STREAMS_MAX = 8;

/** A line of a control or error connection. A request carries paths: PATH_MAX times PATHS_MAX fit. */
export const LINE_BYTES_MAX = 1 << 20;
export const PATHS_MAX = 128;
export const PATH_BYTES_MAX = 4096;

/** Warnings a summary names; more are counted only. */
export const WARNINGS_LISTED_MAX = 1000;

/** Progress goes to people: ten times a second is as much as they can see. */
export const PROGRESS_PERIOD_MS = 100;

/** After one side failed, the other's own reason may still be under way for this long. */
export const REASON_GRACE_MS = 1000;
/**
 * The server's: longer than the client's own, after which the client tells what it has. A client that
 * is gone ends its control connection, so that only one that hangs is waited for so long.
 */
export const CLIENT_REASON_GRACE_MS = 5000;

/** Bytes of a key of a pair of hosts. */
export const KEY_BYTES = 32;

/** A WAL file: PostgreSQL's segments have 1 MiB to 1 GiB. */
export const SEGMENT_BYTES_MAX = 1 << 30;

/** What one piece of a WAL file on its way takes of memory. */
export const SEGMENT_PIECE_BYTES = 1 << 20;

/** What a mover sends or receives at a time over the network: four pages, for fewer system calls. */
export const NETWORK_PAGE_BYTES = 4 << 16;

/** What a dry run of a restore names; more is counted only. */
export const PLANNED_LISTED_MAX = 1000;
/** The same in bytes of paths: with every byte escaped they fit a line. */
export const PLANNED_BYTES_MAX = 128 * 1024;

/** Pairs of a map of paths, users or groups. */
export const MAPS_MAX = 128;

/** A line for the shell in a configuration: what a person writes. */
export const COMMAND_BYTES_MAX = 16_384;
/** A dump or a snapshot takes minutes; what has not ended after this hangs, and holds the backup. */
export const COMMAND_SECONDS_DEFAULT = 3600;
/** A week: longer is a typing error. */
export const COMMAND_SECONDS_MAX = 604_800;
/** From SIGTERM to SIGKILL of a command that has to go. */
export const COMMAND_GRACE_MS = 5000;
/** What is kept of a command's output, for the reason of its failure. */
export const COMMAND_TAIL_BYTES = 1024;
