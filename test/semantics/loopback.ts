/** Loopback for net; a host knows it as itself. */
export const LOOPBACK = '127.0.0.1';
