/**
 * A forward's attachment to one STG, which outlives stpd.
 *
 * When stpd is gone, or the STG was deleted, streams that stand go on over the old attachment; a
 * new one is tried until it succeeds, and takes over. The old one is closed with its last stream.
 * Main thread.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { NotRunningError } from '../../daemon/control-client.js';
import { isCoded } from '../../errors.js';
import { FORWARD_ATTACH_PERIOD_MS } from '../../limits.js';
import { ATTACH_SOCKET } from '../../run-directory.js';
import { attach, type Host } from '../../socket/host.js';
import type { StpSocket } from '../../socket/stp-socket.js';
import { plainMessage } from '../command-line.js';

export interface ArrayLinkOptions {
  readonly runDirectory: string;
  readonly stg: string;
  /** Shown in `stpctl host list`. */
  readonly name: string;
  readonly say: (line: string) => void;
}

/** True where attach failed because no stpd serves the directory. */
function isAbsent(error: unknown, runDirectory: string): boolean {
  if (!isCoded(error)) return false;
  if (error.code === 'ECONNREFUSED') return true;
  return error.code === 'ENOENT' && !existsSync(join(runDirectory, ATTACH_SOCKET));
}

export class ArrayLink {
  /** Called with each attachment after the first. */
  onAttached: (host: Host) => void = () => {};
  readonly #options: ArrayLinkOptions;
  /** Open streams of each attachment; the newest is `#host`. */
  readonly #streams = new Map<Host, number>();
  #host: Host;
  #retry: NodeJS.Timeout | undefined;
  #lastReason = '';
  #settled = false;

  private constructor(options: ArrayLinkOptions, host: Host) {
    this.#options = options;
    this.#host = host;
    this.#take(host);
  }

  /** @throws NotRunningError, and what `attach` throws */
  static async open(options: ArrayLinkOptions): Promise<ArrayLink> {
    const { runDirectory } = options;
    try {
      return new ArrayLink(options, await attach(options));
    } catch (error) {
      throw isAbsent(error, runDirectory) ? new NotRunningError(runDirectory) : error;
    }
  }

  get host(): Host {
    return this.#host;
  }

  /** Counts a stream of any attachment until it has closed. */
  track(socket: StpSocket): void {
    const { host } = socket;
    this.#streams.set(host, (this.#streams.get(host) ?? 0) + 1);
    socket.once('close', () => {
      this.#streams.set(host, (this.#streams.get(host) ?? 1) - 1);
      this.#dropUnused(host);
    });
  }

  /** No new streams are wanted: an array that goes away now is not waited for. */
  settle(): void {
    this.#settled = true;
    clearTimeout(this.#retry);
  }

  async close(): Promise<void> {
    this.settle();
    await Promise.all([...this.#streams.keys()].map((host) => host.close()));
  }

  #take(host: Host): void {
    this.#host = host;
    this.#streams.set(host, 0);
    host.once('detached', (error) => this.#onDetached(error));
  }

  #dropUnused(host: Host): void {
    if (host === this.#host || this.#streams.get(host) !== 0) return;
    this.#streams.delete(host);
    void host.close();
  }

  #onDetached(error: Error): void {
    if (this.#settled) return;
    this.#options.say(`${plainMessage(error)}; waiting for it`);
    this.#lastReason = '';
    this.#later();
  }

  #later(): void {
    this.#retry = setTimeout(() => void this.#attachAgain(), FORWARD_ATTACH_PERIOD_MS);
  }

  async #attachAgain(): Promise<void> {
    const { runDirectory, stg, say } = this.#options;
    let host: Host;
    try {
      host = await attach(this.#options);
    } catch (error) {
      /* Each new reason once; that nobody is there has been said. */
      const reason = plainMessage(error);
      if (reason !== this.#lastReason && !isAbsent(error, runDirectory)) {
        this.#lastReason = reason;
        say(`not attached yet: ${reason}`);
      }
      if (!this.#settled) this.#later();
      return;
    }
    if (this.#settled) return void host.close();
    const before = this.#host;
    this.#take(host);
    this.#dropUnused(before);
    say(`attached to STG '${stg}' again`);
    this.onAttached(host);
  }
}
