/**
 * The backup client: waits on its two ports, sets sessions up, and hands each to its job.
 *
 * One session's end, however bad, is logged and told to its server; the client goes on. It stops
 * only when it is told to. Event loop only; the jobs move their data in worker threads.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../assert.js';
import { monotonicMs } from '../clock.js';
import type { STPConnect } from '../connect/stp-connect.js';
import { messageOf } from '../errors.js';
import { absence } from './absent.js';
import { type ClientSession, ClientSessions, type NetworkPair } from './client-sessions.js';
import type { ClientConfig } from './config.js';
import { orAborted, within } from './deadline.js';
import { type Arrival, abortQuietly, keepDoor, refuse } from './door.js';
import {
  type ClientFig4,
  type ClientFig4A,
  FIG4_CLIENT,
  FIG4A_CLIENT,
  FIG4A_CLIENT_NETWORK,
  SecondConnections,
  type StgOpening,
} from './handshake-client.js';
import { type RunOptions, runSteps, type StepNumber, type StepRecord } from './handshake-steps.js';
import { HOST_NAME_PATTERN } from './host-name.js';
import { REASON_GRACE_MS, STEP_TIMEOUT_MS } from './limits.js';
import { LineChannel } from './line-channel.js';
import { Mailbox } from './mailbox.js';
import { type Request, requestSchema } from './protocol.js';
import { reasonOf } from './reason.js';
import { HandshakeError, NO_STG, type Opening, receiveOpening, receiveStg } from './wire.js';

export interface Log {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** A session whose connections stand. */
export interface EstablishedClient {
  readonly label: string;
  readonly signal: AbortSignal;
  readonly request: Request;
  /** The network mechanism, and what the data streams are on: the session's STG, or the network. */
  readonly network: STPConnect;
  readonly storage: STPConnect;
  readonly control: LineChannel;
  readonly errors: LineChannel;
  /** The data streams that the request announced, in the order of their roles. */
  readonly streams: readonly number[];
  /** Tells the server why there is no more; the first time counts. Never rejects. */
  readonly fail: (reason: unknown) => Promise<void>;
}

export interface ClientOptions {
  readonly config: ClientConfig;
  /** For the network ports of all sessions. */
  readonly network: STPConnect;
  /** A new one for each session, attached to the STG; closed with the session. */
  readonly storageOf: (stg: string) => Promise<STPConnect>;
  readonly job: (session: EstablishedClient) => Promise<void>;
  /** A session has begun: what `job` will need may be made ready meanwhile. */
  readonly prepare?: () => void;
  readonly log: Log;
  readonly onStep?: ((session: string, record: StepRecord) => void) | undefined;
  readonly timeoutMs?: number | undefined;
}

const fig4aOf = ({ arrival }: ClientFig4A): typeof FIG4A_CLIENT =>
  arrival?.opening.stg === NO_STG ? FIG4A_CLIENT_NETWORK : FIG4A_CLIENT;

/** Steps of the ports themselves belong to no session. */
const NO_SESSION = '-';

export class BackupClient {
  readonly #options: ClientOptions;
  readonly #stopped = new AbortController();
  readonly #sessions: ClientSessions;
  readonly #seconds = new SecondConnections();
  readonly #storageContexts = new WeakMap<ClientSession, ClientFig4A>();
  readonly #firsts = new Mailbox<Arrival<Opening>>();
  readonly #stgArrivals = new Mailbox<Arrival<StgOpening>>();
  readonly #claims = new WeakMap<object, ClientSession>();

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#sessions = new ClientSessions((session) => this.#run(session));
  }

  /** Sessions that are being set up or at work. */
  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Listens on both ports (steps 112 to 116 and 152 to 156). */
  async start(): Promise<void> {
    const fig4 = this.#fig4();
    const fig4a = this.#fig4a();
    const options = this.#runOptions(NO_SESSION, 'this host');
    try {
      await Promise.all([
        runSteps(FIG4_CLIENT, 112, fig4, { ...options, through: 116 }),
        runSteps(FIG4A_CLIENT, 152, fig4a, { ...options, through: 156 }),
      ]);
    } catch (e) {
      // One port may be ours already: a client with half its ports is none.
      await this.stop();
      throw e;
    }
    const { network, timeoutMs } = this.#options;
    const common = {
      connect: network,
      signal: this.#stopped.signal,
      timeoutMs,
      onRefused: (peer: string, reason: string) => this.#refused(peer, reason),
    };
    void keepDoor<Opening>({
      ...common,
      listener: fig4.listener as number,
      identify: (fd) => receiveOpening(network, fd),
      admit: (arrival) => this.#admit(arrival),
    });
    void keepDoor<StgOpening>({
      ...common,
      listener: fig4a.listener as number,
      identify: (fd) => receiveStg(network, fd),
      admit: (arrival) => {
        const session = this.#sessions.claim(arrival.opening.sessionId, '4A');
        this.#claims.set(arrival, session);
        this.#stgArrivals.put(arrival);
      },
    });
    void this.#acceptFirsts();
    void this.#acceptStgs();
  }

  /** Ends all sessions and closes the ports. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the client is stopping'));
    this.#sessions.endAll(new Error('the client was stopped'));
    const deadlineMs = monotonicMs() + REASON_GRACE_MS;
    while (this.#sessions.size > 0 && monotonicMs() < deadlineMs) await sleep(10);
    await this.#options.network.closeAll();
  }

  #fig4(): ClientFig4 {
    const { network, config } = this.#options;
    return {
      connect: network,
      address: config.address,
      wkp: config.wkp,
      lookup: this.#lookup(),
      onRefused: (peer, reason) => this.#refused(peer, reason),
      firsts: this.#firsts,
      seconds: this.#seconds,
    };
  }

  #fig4a(): ClientFig4A {
    const { network, config, storageOf, timeoutMs } = this.#options;
    return {
      connect: network,
      address: config.address,
      wkp: config.wkp,
      lookup: this.#lookup(),
      arrivals: this.#stgArrivals,
      storageOf,
      ports: config.ports,
      timeoutMs,
      onRefused: (peer, reason) => this.#refused(peer, reason),
      role: 0,
      accepted: [],
    };
  }

  #lookup(): ((identity: string) => Buffer | undefined) | null {
    const { key } = this.#options.config;
    if (!key) return null;
    return (identity) => (HOST_NAME_PATTERN.test(identity) ? key : undefined);
  }

  #runOptions(session: string, peer: string): RunOptions {
    return {
      peer,
      timeoutMs: this.#options.timeoutMs,
      trace: (record) => this.#options.onStep?.(session, record),
    };
  }

  #refused(peer: string, reason: string): void {
    this.#options.log.warn(`refused ${peer}: ${reason}`);
  }

  #admit(arrival: Arrival<Opening>): void {
    const { opening } = arrival;
    if (opening.kind === 'second') {
      this.#seconds.admit(arrival, opening.given);
      return;
    }
    this.#claims.set(arrival, this.#sessions.claim(opening.sessionId, '4'));
    this.#firsts.put(arrival);
  }

  /** Step 118, again and again. */
  async #acceptFirsts(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const context = this.#fig4();
      const accepted = await this.#accept(FIG4_CLIENT, 118, context);
      if (!accepted) return;
      const arrival = context.first as Arrival<Opening>;
      const session = this.#claims.get(arrival) as ClientSession;
      this.#options.onStep?.(session.label, { ...accepted, ms: monotonicMs() - session.startMs });
      this.#options.prepare?.();
      void this.#connectNetwork(session, context, arrival);
    }
  }

  /** Step 158, again and again. */
  async #acceptStgs(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const context = this.#fig4a();
      const accepted = await this.#accept(FIG4A_CLIENT, 158, context);
      if (!accepted) return;
      const arrival = context.arrival as Arrival<StgOpening>;
      const session = this.#claims.get(arrival) as ClientSession;
      this.#options.onStep?.(session.label, { ...accepted, ms: monotonicMs() - session.startMs });
      void this.#connectStorage(session, context, arrival);
    }
  }

  /** Runs one accepting step; its record, whose session is known only now, or null at the stop. */
  async #accept<C>(
    table: Parameters<typeof runSteps<C>>[0],
    step: StepNumber,
    context: C,
  ): Promise<StepRecord | null> {
    let accepted: StepRecord | null = null;
    try {
      await runSteps(table, step, context, {
        peer: 'any server',
        through: step,
        signal: this.#stopped.signal,
        trace: (record) => {
          accepted = record;
        },
      });
      return accepted;
    } catch (e) {
      if (!this.#stopped.signal.aborted) this.#options.log.error(messageOf(e));
      return null;
    }
  }

  #sessionRun(session: ClientSession, peer: string): RunOptions {
    return {
      ...this.#runOptions(session.label, `server at ${peer}`),
      startMs: session.startMs,
      signal: session.signal,
    };
  }

  /** Fig. 4 from step 120 on. */
  async #connectNetwork(
    session: ClientSession,
    context: ClientFig4,
    first: Arrival<Opening>,
  ): Promise<void> {
    const { network } = this.#options;
    try {
      await runSteps(FIG4_CLIENT, 120, context, this.#sessionRun(session, first.peer));
      const second = context.second as Arrival<Opening>;
      session.network.resolve({ control: first.fd, errors: second.fd });
    } catch (e) {
      session.end(e as Error);
      // Whether the server has its answer already or not: it looks for a refusal in both places.
      await this.#giveUp(first.fd, context.given !== undefined, e);
    } finally {
      if (context.given) this.#seconds.forget(context.given);
      for (const late of context.expected?.drain() ?? []) {
        void refuse(network, late.fd, 'this session is over');
      }
    }
  }

  /** Tells the server why, in the form that it waits for, and closes. */
  async #giveUp(fd: number, answered: boolean, e: unknown): Promise<void> {
    const { network } = this.#options;
    if (!answered) {
      await refuse(network, fd, messageOf(absence(e) ?? e));
      return;
    }
    const { message: reason } = reasonOf(e);
    try {
      await new LineChannel(network, fd, 'the server').send({ type: 'failed', reason });
      await network.close(fd);
    } catch {
      // It is gone, which is the likeliest reason to be here.
    }
  }

  /** Fig. 4A from step 160 on. */
  async #connectStorage(
    session: ClientSession,
    context: ClientFig4A,
    arrival: Arrival<StgOpening>,
  ): Promise<void> {
    const { network } = this.#options;
    // All of the session's storage: its listener, and streams that no thread has taken.
    session.onEnd(() => {
      void context.streams?.close().catch(() => {});
      void context.storage?.closeAll().catch(() => {});
    });
    this.#storageContexts.set(session, context);
    try {
      await runSteps(fig4aOf(context), 160, context, this.#sessionRun(session, arrival.peer));
      session.storage.resolve();
      await network.close(arrival.fd);
    } catch (e) {
      session.end(e as Error);
      await refuse(network, arrival.fd, messageOf(absence(e) ?? e));
    }
  }

  /** A session from its first connection to its end. Never rejects. */
  async #run(session: ClientSession): Promise<void> {
    const { log } = this.#options;
    try {
      const pair = await this.#established(session);
      await this.#work(session, pair);
      log.info(`session ${session.label} ended`);
    } catch (e) {
      log.error(`session ${session.label} failed: ${reasonOf(e).message}`);
      session.end(e as Error);
    }
  }

  async #established(session: ClientSession): Promise<NetworkPair> {
    const { network, timeoutMs } = this.#options;
    try {
      return await session.established(timeoutMs);
    } catch (e) {
      session.end(e as Error);
      const giveUp = async ({ control, errors }: NetworkPair): Promise<void> => {
        await this.#giveUp(control, true, e);
        abortQuietly(network, errors);
      };
      session.network.promise.then(giveUp, () => {});
      throw e;
    }
  }

  /** The session's work, on connections that are closed in good order whatever comes. */
  async #work(session: ClientSession, pair: NetworkPair): Promise<void> {
    const { network } = this.#options;
    const control = new LineChannel(network, pair.control, 'the server');
    const errors = new LineChannel(network, pair.errors, 'the server');
    let told: Promise<void> | null = null;
    const tell = (reason: unknown): Promise<void> => {
      const message = { type: 'failed', reason: reasonOf(reason).message };
      told ??= control.send(message).catch(() => {});
      return told;
    };
    // At once: its threads may take longer to end than whoever stops this client waits.
    const onEnd = () => void tell(session.signal.reason);
    session.signal.addEventListener('abort', onEnd, { once: true });
    try {
      await this.#serve(session, control, errors, tell);
    } catch (e) {
      await tell(e);
      throw e;
    } finally {
      session.signal.removeEventListener('abort', onEnd);
      // Not an abort: the reason just sent must arrive.
      await Promise.allSettled([network.close(pair.control), network.close(pair.errors)]);
    }
  }

  async #serve(
    session: ClientSession,
    control: LineChannel,
    errors: LineChannel,
    fail: EstablishedClient['fail'],
  ): Promise<void> {
    const { network, job, log, timeoutMs } = this.#options;
    const context = this.#storageContexts.get(session);
    assert(context?.storage && context.streams, 'a session is established without its storage');
    const limitMs = timeoutMs ?? STEP_TIMEOUT_MS;
    const request = await within(
      limitMs,
      orAborted(session.signal, control.receive(requestSchema)),
      () => {
        return new HandshakeError(`no request came within ${limitMs / 1000} s`);
      },
    );
    if (!request) throw new HandshakeError('the server ended the session without a request');
    while (context.accepted.length < request.streams) {
      context.role = context.accepted.length;
      await runSteps(fig4aOf(context), 172, context, this.#sessionRun(session, 'the server'));
    }
    await context.streams.close();
    log.info(`session ${session.label}: ${request.op} for ${request.host}`);
    const { storage, accepted: streams } = context;
    const { label, signal } = session;
    await job({ label, signal, request, network, storage, control, errors, streams, fail });
  }
}
