/**
 * Descriptor numbers, and what they stand for.
 *
 * **The value alone decides the mechanism** (the seed: "pre-set to make a determination as to the
 * type of socket call based on the value of the file descriptor"): from STP_DESCRIPTOR_MIN up it is
 * STP, from EITHER_DESCRIPTOR_MIN up a listener on both, below it is inet. So whoever has nothing
 * but the number (a log line, a message to another process, step 122 of the handshake) can tell,
 * and no table is asked for it.
 *
 * A number is given out once. The kernel gives the lowest free one, which turns a late use of a
 * closed descriptor into a use of somebody else's socket; here it stays EBADF.
 */
import { stpError } from '../errors.js';
import {
  DESCRIPTORS_OPEN_MAX,
  DESCRIPTORS_PER_KIND_MAX,
  EITHER_DESCRIPTOR_MIN,
  INET_DESCRIPTOR_MIN,
  STP_DESCRIPTOR_MIN,
} from './bounds.js';

/** The mechanism of a connection: the network, or the array. */
export type Family = 'inet' | 'stp';
/** What a descriptor is of. 'either' is a listener on both; what it accepts is of one family. */
export type Kind = Family | 'either';

/** What a descriptor's value names, whether or not it is open. */
export function familyOf(fd: number): Kind {
  if (fd >= STP_DESCRIPTOR_MIN) return 'stp';
  return fd >= EITHER_DESCRIPTOR_MIN ? 'either' : 'inet';
}

/** @typeParam D what a number stands for: the two forms of the calls have one each */
export class DescriptorTable<D> {
  readonly #open = new Map<number, D>();
  readonly #next = {
    inet: INET_DESCRIPTOR_MIN,
    either: EITHER_DESCRIPTOR_MIN,
    stp: STP_DESCRIPTOR_MIN,
  };
  readonly #last = {
    inet: INET_DESCRIPTOR_MIN + DESCRIPTORS_PER_KIND_MAX,
    either: EITHER_DESCRIPTOR_MIN + DESCRIPTORS_PER_KIND_MAX,
    stp: STP_DESCRIPTOR_MIN + DESCRIPTORS_PER_KIND_MAX,
  };

  /** @throws EMFILE when too many are open */
  add(kind: Kind, make: (fd: number) => D): number {
    const fd = this.#next[kind];
    if (this.#open.size >= DESCRIPTORS_OPEN_MAX) {
      throw stpError('EMFILE', `${this.#open.size} descriptors are open: close some`, 'socket');
    }
    if (fd >= this.#last[kind]) {
      throw stpError('EMFILE', `the ${kind} descriptor numbers are used up`, 'socket');
    }
    this.#next[kind]++;
    this.#open.set(fd, make(fd));
    return fd;
  }

  find(fd: number): D | undefined {
    return this.#open.get(fd);
  }

  /** @throws EBADF */
  get(fd: number, call: string): D {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) {
      throw stpError('EBADF', `${call}: descriptor ${fd} is not open`, call);
    }
    return descriptor;
  }

  /** Takes the number out of use. @throws EBADF */
  remove(fd: number, call: string): D {
    const descriptor = this.get(fd, call);
    this.#open.delete(fd);
    return descriptor;
  }

  numbers(): number[] {
    return [...this.#open.keys()];
  }
}
