/**
 * Descriptor numbers, and what they stand for.
 *
 * **The value alone decides the mechanism** (the seed: "pre-set to make a determination as to the
 * type of socket call based on the value of the file descriptor"): from STP_DESCRIPTOR_MIN up it is
 * STP, below it is inet. So whoever has nothing but the number (a log line, a message to another
 * process, step 122 of the handshake) can tell, and no table is asked for it.
 *
 * A number is given out once. The kernel gives the lowest free one, which turns a late use of a
 * closed descriptor into a use of somebody else's socket; here it stays EBADF.
 */
import { stpError } from '../errors.js';
import {
  DESCRIPTORS_OPEN_MAX,
  DESCRIPTORS_PER_KIND_MAX,
  INET_DESCRIPTOR_MIN,
  STP_DESCRIPTOR_MIN,
} from './bounds.js';
import type { Descriptor } from './descriptor.js';
import type { Family } from './endpoint.js';

/** The mechanism that a descriptor's value names, whether or not it is open. */
export const familyOf = (fd: number): Family => (fd >= STP_DESCRIPTOR_MIN ? 'stp' : 'inet');

export class DescriptorTable {
  readonly #open = new Map<number, Descriptor>();
  readonly #next = { inet: INET_DESCRIPTOR_MIN, stp: STP_DESCRIPTOR_MIN };
  readonly #last = {
    inet: INET_DESCRIPTOR_MIN + DESCRIPTORS_PER_KIND_MAX,
    stp: STP_DESCRIPTOR_MIN + DESCRIPTORS_PER_KIND_MAX,
  };

  /** @throws EMFILE when too many are open */
  add(family: Family, make: (fd: number) => Descriptor): number {
    const fd = this.#next[family];
    if (this.#open.size >= DESCRIPTORS_OPEN_MAX) {
      throw stpError('EMFILE', `${this.#open.size} descriptors are open: close some`, 'socket');
    }
    if (fd >= this.#last[family]) {
      throw stpError('EMFILE', `the ${family} descriptor numbers are used up`, 'socket');
    }
    this.#next[family]++;
    this.#open.set(fd, make(fd));
    return fd;
  }

  find(fd: number): Descriptor | undefined {
    return this.#open.get(fd);
  }

  /** @throws EBADF */
  get(fd: number, call: string): Descriptor {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) {
      throw stpError('EBADF', `${call}: descriptor ${fd} is not open`, call);
    }
    return descriptor;
  }

  /** Takes the number out of use. @throws EBADF */
  remove(fd: number, call: string): Descriptor {
    const descriptor = this.get(fd, call);
    this.#open.delete(fd);
    return descriptor;
  }

  numbers(): number[] {
    return [...this.#open.keys()];
  }
}
