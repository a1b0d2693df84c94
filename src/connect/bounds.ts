/**
 * The bounds of this room, with their reasons.
 */

/**
 * STP descriptors start here; a value below is a network socket. The kernel never gives out a
 * descriptor this high (fs.nr_open is 2^20 unless raised, and 2^30 is beyond what it lets a table
 * grow to in practice), so the two ranges cannot meet, and the value alone tells the mechanism.
 */
export const STP_DESCRIPTOR_MIN = 0x4000_0000;
/** Network descriptors start behind stdin, stdout and stderr, so that none is taken for a socket. */
export const INET_DESCRIPTOR_MIN = 3;
/** Listeners on both mechanisms: between the two, and as far out of the kernel's reach. */
export const EITHER_DESCRIPTOR_MIN = 0x2000_0000;
/** Numbers of one kind. Each is given once: a stale number is EBADF, not somebody else's socket. */
export const DESCRIPTORS_PER_KIND_MAX = 0x1fff_0000;
/** Open at a time, both mechanisms together: above the 10,000 connections the array is planned for. */
export const DESCRIPTORS_OPEN_MAX = 65536;

/** A send is handed on in slices, so that TLS never holds the ciphertext of more than one. */
export const SEND_SLICE_BYTES = 256 * 1024;
/** receiveExactly() allocates what is asked for: a length from the network must be checked before. */
export const RECEIVE_EXACTLY_BYTES_MAX = 1 << 30;

/** A TLS connection that has not proved its key within this is cut. [CVE-2024-7409] */
export const HANDSHAKE_MS_MAX = 10_000;
/** Unproved connections of one listener at a time; one more is reset. [CVE-2024-7409] */
export const HANDSHAKES_MAX = 64;
/** Keys have the size of the hash of their suites, SHA-256. */
export const PSK_BYTES = 32;
/** RFC 4279 asks for support of identities up to this. */
export const PSK_IDENTITY_BYTES_MAX = 128;

/**
 * What send() had accepted is in the kernel or the array when close() starts, so an orderly end
 * takes no time; only a TLS end can wait for room. After this the connection is cut.
 */
export const CLOSE_LINGER_MS = 2000;

/**
 * Array first: what the array does not answer within this goes over the network. A connect through
 * the array takes well under a millisecond; one that waits this long is in a full backlog, or stpd
 * has stopped.
 */
export const ARRAY_FIRST_MS = 1000;

/** What a timer takes: 24 days. */
export const MS_MAX = 0x7fff_ffff;
