/**
 * What `stpctl forward` does, without its command line: accepts from one address, connects to the
 * other for each connection, and joins them.
 *
 * An accepted side is not read before its target stands. What cannot be served is reset, with one
 * line that says why. With stdio at either end there is one connection, and its end is ours.
 * Main thread.
 */
import { monotonicMs } from '../../clock.js';
import { stpError } from '../../errors.js';
import { plainMessage } from '../command-line.js';
import { humanSize } from '../output.js';
import { type Address, addressText } from './forward-address.js';
import { ArrayLink } from './forward-array.js';
import {
  connectNet,
  connectStp,
  type Listener,
  listenNet,
  listenStp,
  type Target,
} from './forward-ends.js';
import { Relay, type RelayEnd, type Side } from './forward-relay.js';
import { stdioSide } from './forward-stdio.js';

export interface ForwardOptions {
  readonly from: Address;
  readonly to: Address;
  readonly runDirectory: string;
  /** Connections at a time. */
  readonly maxConnections: number;
  /** Mode of a Unix socket's file. */
  readonly mode: number;
  readonly verbose: boolean;
  /** A line for people. */
  readonly say: (line: string) => void;
}

export interface ForwardSummary {
  connections: number;
  /** Both directions came to their end. */
  ended: number;
  /** Reset, by either side or by our stopping. */
  reset: number;
  /** Their target could not be had. */
  refused: number;
  /** Over `maxConnections`. */
  turnedAway: number;
  bytesOut: number;
  bytesBack: number;
  ms: number;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
const times = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** One line: what it was all together. */
export function summaryText(summary: ForwardSummary): string {
  const { connections, ended, reset, refused, turnedAway, bytesOut, bytesBack, ms } = summary;
  const parts = [`${ended} ended`, `${reset} reset`, `${refused} found no target`];
  if (turnedAway > 0) parts.push(`${turnedAway} turned away`);
  return (
    `${times(connections, 'connection')} (${parts.join(', ')}), ` +
    `${humanSize(bytesOut)} out, ${humanSize(bytesBack)} back, ${seconds(ms)}`
  );
}

export class Forwarder {
  readonly summary: ForwardSummary = {
    connections: 0,
    ended: 0,
    reset: 0,
    refused: 0,
    turnedAway: 0,
    bytesOut: 0,
    bytesBack: 0,
    ms: 0,
  };
  /** Settles when there is nothing more to forward: after `stop`, or with the one connection of stdio. */
  readonly over: Promise<void>;
  readonly #options: ForwardOptions;
  readonly #links = new Map<string, ArrayLink>();
  /** How to reset each connection that is open or being made. */
  readonly #open = new Set<() => void>();
  readonly #startMs = monotonicMs();
  readonly #single: boolean;
  #listener: Listener | undefined;
  #stopping = false;
  /** The limit has been spoken of since it was last kept. */
  #limitSaid = false;
  #resolve: () => void = () => {};

  private constructor(options: ForwardOptions) {
    this.#options = options;
    this.#single = options.from.kind === 'stdio' || options.to.kind === 'stdio';
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /**
   * Attaches and listens.
   * @throws NotRunningError, EADDRINUSE, EACCES and what else prevents it, with what to do
   */
  static async start(options: ForwardOptions): Promise<Forwarder> {
    const forwarder = new Forwarder(options);
    try {
      await forwarder.#start();
      return forwarder;
    } catch (error) {
      await forwarder.#leave();
      throw error;
    }
  }

  /** Where it listens, with the port it has got; the address as given for stdio. */
  get listensOn(): Address {
    return this.#listener?.address ?? this.#options.from;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Takes no more connections; those that stand go on. `over` settles with the last one. */
  stop(): void {
    this.#stopping = true;
    this.#listener?.close();
    this.#checkOver();
  }

  /** Resets what is open, and stops. */
  reset(): void {
    this.stop();
    for (const reset of [...this.#open]) reset();
  }

  async #start(): Promise<void> {
    const { from, to, mode, say } = this.#options;
    for (const address of [from, to]) {
      if (address.kind === 'stp' && !this.#links.has(address.stg)) {
        this.#links.set(address.stg, await this.#attach(address.stg));
      }
    }
    const listener = { mode, say, onSide: (side: Side) => void this.#onSide(side) };
    if (from.kind === 'stdio') void this.#onSide(stdioSide());
    else if (from.kind !== 'stp') this.#listener = await listenNet(from, listener);
    else this.#listener = await listenStp(from, this.#link(from.stg), listener);
  }

  #attach(stg: string): Promise<ArrayLink> {
    const { from, to, runDirectory, say } = this.#options;
    const name = `stpctl forward ${addressText(from)} ${addressText(to)}`.slice(0, 255);
    return ArrayLink.open({ runDirectory, stg, name, say });
  }

  #link(stg: string): ArrayLink {
    const link = this.#links.get(stg);
    if (link === undefined) throw stpError('EINVAL', `not attached to STG '${stg}'`);
    return link;
  }

  #connect(to: Address): Target {
    if (to.kind === 'stdio') return { side: stdioSide(), connected: Promise.resolve() };
    return to.kind === 'stp' ? connectStp(to, this.#link(to.stg)) : connectNet(to);
  }

  // --- one connection ---------------------------------------------------------------------------

  async #onSide(accepted: Side): Promise<void> {
    /* Until the relay listens: one that goes away before that is no news. */
    accepted.input.on('error', () => {});
    if (!this.#mayEnter(accepted)) return accepted.reset();
    this.summary.connections += 1;
    const number = this.summary.connections;
    if (this.#single) {
      this.#listener?.close();
      for (const link of this.#links.values()) link.settle();
    }
    const target = this.#connect(this.#options.to);
    let reset = (): void => target.side.reset();
    const entry = (): void => reset();
    this.#open.add(entry);
    try {
      await target.connected;
      const relay = new Relay(accepted, target.side);
      reset = () => relay.abort('the forward was stopped');
      this.#count(number, accepted, await relay.done);
    } catch (error) {
      this.summary.refused += 1;
      this.#options.say(`${accepted.name} was reset: ${plainMessage(error)}`);
      accepted.reset();
    }
    this.#open.delete(entry);
    this.#checkOver();
  }

  #mayEnter(accepted: Side): boolean {
    const { say, maxConnections } = this.#options;
    if (this.#stopping || (this.#single && this.summary.connections > 0)) return false;
    if (this.#open.size < maxConnections) {
      this.#limitSaid = false;
      return true;
    }
    this.summary.turnedAway += 1;
    if (!this.#limitSaid) {
      say(
        `${accepted.name} was reset, as others will be: ${maxConnections} connections are open; ` +
          'raise --max-connections, or see why they stay',
      );
    }
    this.#limitSaid = true;
    return false;
  }

  #count(number: number, accepted: Side, end: RelayEnd): void {
    const { bytesOut, bytesBack, ms, failed } = end;
    const { summary } = this;
    summary.bytesOut += bytesOut;
    summary.bytesBack += bytesBack;
    if (failed === undefined) summary.ended += 1;
    else summary.reset += 1;
    const how =
      failed === undefined
        ? 'ended'
        : `reset by ${failed.side.name}: ${plainMessage(failed.error)}`;
    if (!this.#options.verbose && (failed === undefined || !this.#single)) return;
    this.#options.say(
      `#${number} ${accepted.name}: ${humanSize(bytesOut)} out, ${humanSize(bytesBack)} back, ` +
        `${seconds(ms)}, ${how}`,
    );
  }

  #checkOver(): void {
    const last = this.#stopping || (this.#single && this.summary.connections > 0);
    if (!last || this.#open.size > 0) return;
    this.summary.ms = monotonicMs() - this.#startMs;
    void this.#leave().then(this.#resolve);
  }

  async #leave(): Promise<void> {
    this.#listener?.close();
    await Promise.all([...this.#links.values()].map((link) => link.close()));
  }
}
