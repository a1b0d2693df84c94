/**
 * The bytes of one direction of one connection: each follows from seed, connection, direction and
 * its position, so that whoever receives some can say whether they are the ones that belong there.
 *
 * A block of random bytes repeats. Its length is a prime: bytes that are off by pages, by a window
 * or by 2^32 are others.
 */
const PERIOD = 32_749;

/** Where bytes differ from what belongs there. */
export class WrongContent extends Error {
  override readonly name = 'WrongContent';
}

export class Content {
  readonly #block = Buffer.allocUnsafe(PERIOD);
  readonly #name: string;

  constructor(seed: number, connection: number, direction: number) {
    this.#name = `connection ${connection}, direction ${direction}`;
    let state =
      (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(connection, 0xc2b2ae35)) >>> 0;
    state = (state ^ Math.imul(direction + 1, 0x27d4eb2f)) >>> 0 || 1;
    for (let i = 0; i < PERIOD; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#block[i] = state >>> 11;
    }
  }

  /** Calls `part` for each stretch of the block that `bytes` from `position` on cover. */
  #stretches(
    bytes: number,
    position: number,
    part: (at: number, from: number, to: number) => void,
  ): void {
    for (let at = 0; at < bytes; ) {
      const from = (position + at) % PERIOD;
      const to = Math.min(PERIOD, from + bytes - at);
      part(at, from, to);
      at += to - from;
    }
  }

  fill(into: Uint8Array, position: number): void {
    this.#stretches(into.length, position, (at, from, to) => {
      into.set(this.#block.subarray(from, to), at);
    });
  }

  bytes(length: number, position: number): Buffer {
    const into = Buffer.allocUnsafe(length);
    this.fill(into, position);
    return into;
  }

  /** @throws WrongContent */
  check(bytes: Uint8Array, position: number): void {
    this.#stretches(bytes.length, position, (at, from, to) => {
      const got = bytes.subarray(at, at + to - from);
      if (this.#block.compare(got, 0, got.length, from, to) !== 0) this.#fail(bytes, position);
    });
  }

  #fail(bytes: Uint8Array, position: number): never {
    let first = 0;
    while (bytes[first] === this.#block[(position + first) % PERIOD]) first++;
    const wanted = this.bytes(Math.min(16, bytes.length - first), position + first);
    const got = Buffer.from(bytes.subarray(first, first + wanted.length));
    throw new WrongContent(
      `${this.#name}: byte ${position + first} (${first} of a piece of ${bytes.length}) and what ` +
        `follows is ${got.toString('hex')} instead of ${wanted.toString('hex')}`,
    );
  }
}
