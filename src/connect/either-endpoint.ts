/**
 * A listener on both mechanisms at once: two endpoints, one queue. What arrives is a link of one
 * mechanism, and the number it gets tells which.
 *
 * Without an array it listens on the network only; why is recorded when it binds. Never connects.
 */
import { stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { reasonOf } from '../socket/reason.js';
import type { Address, Endpoint, Link, Target } from './endpoint.js';

interface EitherTargets {
  /** Port of the STG; 0 for a dynamic one. */
  readonly port: number;
  readonly network: Target;
}

export class EitherEndpoint implements Endpoint {
  readonly family = 'either';
  readonly #network: Endpoint;
  readonly #targets: EitherTargets;
  readonly #needsStorage: boolean;
  #storage: Endpoint | undefined;
  /** Why there is no storage side: a REASON_ number. */
  reason: number = NUMBERS.REASON_NONE;

  /**
   * @param storage its endpoint, or why there is none
   * @param needsStorage the network alone will not do
   */
  constructor(
    storage: Endpoint | number,
    network: Endpoint,
    targets: EitherTargets,
    needsStorage: boolean,
  ) {
    this.#needsStorage = needsStorage;
    if (typeof storage === 'number') this.reason = storage;
    else this.#storage = storage;
    this.#network = network;
    this.#targets = targets;
  }

  /** The name on the array, if it has one. */
  get storageName(): Address | null {
    return this.#storage?.name() ?? null;
  }

  async bind(): Promise<void> {
    try {
      await this.#storage?.bind({ port: this.#targets.port });
    } catch (error) {
      await this.#without(error);
    }
    await this.#network.bind(this.#targets.network);
  }

  async listen(backlog: number, arrived: (link: Link) => void): Promise<void> {
    try {
      await this.#storage?.listen(backlog, arrived);
    } catch (error) {
      await this.#without(error);
    }
    await this.#network.listen(backlog, arrived);
  }

  /** Goes on without the array if the error is a reason for that; a port that is taken is none. */
  async #without(error: unknown): Promise<void> {
    const reason = reasonOf(error);
    if (reason === undefined || this.#needsStorage) throw error;
    this.reason = reason;
    await this.#storage?.release();
    this.#storage = undefined;
  }

  async connect(): Promise<Link> {
    throw stpError('EOPNOTSUPP', 'a listener on both mechanisms does not connect', 'connect');
  }

  /** On the network, which it has in any case. */
  name(): Address {
    return this.#network.name();
  }

  async release(): Promise<void> {
    await Promise.all([this.#storage?.release(), this.#network.release()]);
  }

  setOption(name: string, value: unknown): void {
    this.#network.setOption(name, value);
  }
}
