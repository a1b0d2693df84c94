/**
 * The server's side of database sessions: waits on its WKP, sets sessions up (Figs. 5 and 5A), and
 * hands each to its job.
 *
 * Who calls is whom its key says, or, without TLS, whom it says it is; a host that is not in the
 * configuration is refused. One session's end, however bad, is logged and told to its client; no
 * other notices. Event loop only; the jobs move their data in worker threads.
 */
import type { Peer, STPConnect } from '../connect/stp-connect.js';
import { messageOf, stpError } from '../errors.js';
import { absence } from './absent.js';
import type { Log } from './client.js';
import type { ClientAddress, ServerConfig } from './config.js';
import { type DatabaseRequest, databaseRequestSchema } from './database-protocol.js';
import { orAborted, within } from './deadline.js';
import { type Arrival, keepDoor, refuse } from './door.js';
import { listenOnWkp, serverDatabaseHandshake } from './handshake-database-server.js';
import type { StepRecord } from './handshake-steps.js';
import { SESSIONS_MAX, STEP_TIMEOUT_MS } from './limits.js';
import { LineChannel } from './line-channel.js';
import { reasonOf } from './reason.js';
import { type DatabaseCall, HandshakeError, receiveDynamicPort } from './wire.js';

/** A session whose storage connections stand; it has no others. */
export interface EstablishedDatabase {
  readonly host: string;
  readonly request: DatabaseRequest;
  readonly storage: STPConnect;
  readonly control: LineChannel;
  /** Descriptor of the data stream on `storage`. */
  readonly data: number;
  readonly signal: AbortSignal;
}

export interface DatabaseServerOptions {
  readonly config: ServerConfig;
  /** The network mechanism, for the WKP. */
  readonly network: STPConnect;
  /** A new one for each session, attached to the STG; closed with the session. */
  readonly storageOf: (stg: string) => Promise<STPConnect>;
  readonly job: (session: EstablishedDatabase) => Promise<void>;
  /** A session has begun: what `job` will need may be made ready meanwhile. */
  readonly prepare?: () => void;
  readonly log: Log;
  readonly onStep?: ((host: string, record: StepRecord) => void) | undefined;
  readonly timeoutMs?: number | undefined;
}

export class DatabaseServer {
  readonly #options: DatabaseServerOptions;
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(options: DatabaseServerOptions) {
    this.#options = options;
  }

  get sessionCount(): number {
    return this.#running.size;
  }

  /** Listens on the WKP. @throws EADDRINUSE, EACCES, ... */
  async start(): Promise<void> {
    const { network, config, log, timeoutMs } = this.#options;
    const onRefused = (peer: string, reason: string): void =>
      log.warn(`refused ${peer}: ${reason}`);
    const { address, wkp } = config;
    const plain = [...config.hosts.values()].every(({ key }) => key === null);
    const lookup = plain
      ? null
      : (identity: string): Buffer | undefined => config.hosts.get(identity)?.key ?? undefined;
    const listener = await listenOnWkp({ network, address, wkp, lookup, onRefused });
    void keepDoor<DatabaseCall>({
      connect: network,
      listener,
      identify: (fd) => receiveDynamicPort(network, fd),
      admit: (arrival) => this.#admit(arrival),
      onRefused,
      signal: this.#stopped.signal,
      timeoutMs,
    });
  }

  /** Gives every session up, closes the port, and waits until each session has tidied up. */
  async stop(): Promise<void> {
    this.#stopped.abort(stpError('ECANCELED', 'the server was stopped'));
    await Promise.allSettled(this.#running);
    await this.#options.network.closeAll();
  }

  #admit(arrival: Arrival<DatabaseCall>): void {
    const { network, config } = this.#options;
    const { host } = arrival.opening;
    const peer = network.getsockopt(arrival.fd, 'peer') as Peer | null;
    if (peer?.by === 'psk' && peer.identity !== host) {
      throw new HandshakeError('the name of the host is not the one that its key belongs to');
    }
    const client = config.hosts.get(host);
    if (!client) throw new HandshakeError("this host is not in the server's configuration");
    if (this.#running.size >= SESSIONS_MAX) {
      throw new HandshakeError(`${SESSIONS_MAX} sessions are running already; try again later`);
    }
    this.#options.prepare?.();
    const running = this.#run(arrival, client);
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** A session from its call to its end. Never rejects. */
  async #run(arrival: Arrival<DatabaseCall>, client: ClientAddress): Promise<void> {
    const { config, network, storageOf, log, onStep, timeoutMs } = this.#options;
    const { signal } = this.#stopped;
    let storage: STPConnect | undefined;
    try {
      storage = await storageOf(config.stg);
      const { data, control } = await serverDatabaseHandshake({
        network,
        connect: storage,
        arrival,
        identity: config.name,
        client,
        stg: config.stg,
        trace: (record) => onStep?.(client.name, record),
        signal,
        timeoutMs,
      });
      await this.#serve(client.name, storage, data, control);
      log.info(`database session of ${client.name} ended`);
    } catch (e) {
      const what = `database session of ${client.name}`;
      // Clients keep sessions for their WAL: a stop of this server is nothing wrong with them.
      if (signal.aborted) log.info(`${what} ended: ${reasonOf(e).message}`);
      else log.error(`${what} failed: ${reasonOf(e).message}`);
      // Does nothing once the storage connections stand; before, the client waits for a word.
      const absent = absence(e);
      await refuse(network, arrival.fd, absent ? messageOf(absent) : reasonOf(e).message);
    } finally {
      await storage?.closeAll();
    }
  }

  async #serve(host: string, storage: STPConnect, data: number, fd: number): Promise<void> {
    const { signal } = this.#stopped;
    const control = new LineChannel(storage, fd, `client ${host}`);
    const limitMs = this.#options.timeoutMs ?? STEP_TIMEOUT_MS;
    try {
      const request = await within(
        limitMs,
        orAborted(signal, control.receive(databaseRequestSchema)),
        () => new HandshakeError(`no request came within ${limitMs / 1000} s`),
      );
      if (!request) throw new HandshakeError('the client ended the session without a request');
      await this.#options.job({ host, request, storage, control, data, signal });
    } catch (e) {
      await control.send({ type: 'cancel', reason: reasonOf(e).message }).catch(() => {});
      throw e;
    }
  }
}
