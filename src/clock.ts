/** The only clock for waits and time-outs: monotonic, so that setting the date hangs nobody. */
export const monotonicMs = (): number => performance.now();

/** Nanoseconds since 1970, exact to the millisecond: for what outlives the process, never to wait. */
export const realtimeNs = (): bigint => BigInt(Date.now()) * 1_000_000n;
