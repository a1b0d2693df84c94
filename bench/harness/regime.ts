/**
 * Are the two CPUs near or far? A virtual machine's cores flip between the two within seconds, and
 * the same program is several times slower when they are far. A round counts only if the probe
 * before it and the probe after it agree. Pure.
 */

export type Regime = 'near' | 'far' | 'discarded';

export interface RegimeLimits {
  /** A probe below this many ns a hop is near. */
  readonly nearNs: number;
  /** A probe above this many ns a hop is far. */
  readonly farNs: number;
}

export const REGIME_LIMITS: RegimeLimits = { nearNs: 200, farNs: 300 };

/** Fewer near rounds than this decide nothing. */
export const NEAR_ROUNDS_MIN = 9;

export function regimeOf(beforeNs: number, afterNs: number, limits: RegimeLimits): Regime {
  if (beforeNs < limits.nearNs && afterNs < limits.nearNs) return 'near';
  if (beforeNs > limits.farNs && afterNs > limits.farNs) return 'far';
  return 'discarded';
}
