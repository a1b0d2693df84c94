/** A mistake in what the user wrote: the message says what, where, and what would be right. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly code = 'EINVAL';
}
