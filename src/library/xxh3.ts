/**
 * XXH3-64 (github.com/Cyan4973/xxHash), seed 0: finds errors as well as any digest of its length, at
 * the speed of memory, and nobody who wants to deceive. What must not be deceived has BLAKE3. Any
 * thread; a hasher belongs to one.
 */
import { xxh3 } from '@node-rs/xxhash';

export const XXH3_BYTES = 8;
/** As `xxhsum -H3` prints it. */
export const XXH3_TEXT = /^[0-9a-f]{16}$/;

export class Xxh3Hasher {
  readonly #state = xxh3.Xxh3.withSeed(0n);

  update(bytes: Uint8Array): this {
    this.#state.update(bytes);
    return this;
  }

  reset(): void {
    this.#state.reset();
  }

  value(): bigint {
    return this.#state.digest();
  }

  /** Lower-case hex, 16 digits. */
  text(): string {
    return this.value().toString(16).padStart(16, '0');
  }
}
