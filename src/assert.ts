/**
 * Broken invariants. Stays on in production: a director that finds one is taken down by its
 * supervisor. Foreign bytes (peer's memory, network, configuration, media) are never checked
 * with this; they get an error.
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${message}`);
}
