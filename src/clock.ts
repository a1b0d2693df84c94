/** The only clock for waits and time-outs: monotonic, so that setting the date hangs nobody. */
export const monotonicMs = (): number => performance.now();
