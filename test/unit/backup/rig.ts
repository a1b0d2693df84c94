/**
 * A client in this process and what a server needs to reach it, over real TLS on loopback TCP.
 *
 * Storage sockets are loopback TCP here: what is tested is who calls what when, and who is let in.
 * The run through a real array is in test/system.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePair } from '../../../bench/harness/free-pair.js';
import { BackupClient, type ClientOptions } from '../../../src/backup/client.js';
import type { ClientConfig } from '../../../src/backup/config.js';
import {
  type ServerConnections,
  type ServerHandshakeOptions,
  serverHandshake,
} from '../../../src/backup/handshake-server.js';
import type { StepNumber, StepRecord } from '../../../src/backup/handshake-steps.js';
import { AF_INET, STPConnect } from '../../../src/connect/stp-connect.js';

/** Both mechanisms by the calls of both, with TCP behind them. */
export class LoopbackConnect extends STPConnect {
  override STPsocket(): number {
    return this.socket(AF_INET);
  }
}

export interface Rig {
  readonly client: BackupClient;
  readonly config: ClientConfig;
  readonly key: Buffer;
  readonly logs: string[];
  readonly steps: { session: string; record: StepRecord }[];
  /** One server-side handshake with this client; each on an STPConnect of its own. */
  connect(overrides?: Partial<ServerHandshakeOptions>): Promise<ServerConnections>;
  /** An STPConnect that is closed with the rig. */
  newConnect(): STPConnect;
  stop(): Promise<void>;
}

export async function startRig(overrides: Partial<ClientOptions> = {}, tls = true): Promise<Rig> {
  const key = randomBytes(32);
  for (let attempt = 0; ; attempt++) {
    const config: ClientConfig = {
      name: 'host1',
      runDirectory: undefined,
      address: '127.0.0.1',
      wkp: await freePair(),
      roots: ['/'],
      restoreRoots: [],
      key: tls ? key : null,
    };
    const made: STPConnect[] = [];
    const newConnect = (): STPConnect => {
      const c = new LoopbackConnect();
      made.push(c);
      return c;
    };
    const logs: string[] = [];
    const steps: { session: string; record: StepRecord }[] = [];
    const log = (message: string): void => void logs.push(message);
    const client = new BackupClient({
      config,
      network: newConnect(),
      storageOf: async () => newConnect(),
      job: async () => {},
      log: { info: log, warn: log, error: log },
      onStep: (session, record) => steps.push({ session, record }),
      ...overrides,
    });
    const stop = async (): Promise<void> => {
      await client.stop();
      await Promise.all(made.map((c) => c.closeAll()));
    };
    try {
      await client.start();
    } catch (e) {
      await stop();
      if (attempt === 5) throw e;
      continue;
    }
    const { address, wkp } = config;
    const connect = (more: Partial<ServerHandshakeOptions> = {}): Promise<ServerConnections> =>
      serverHandshake({
        connect: newConnect(),
        identity: 'server1',
        client: { name: 'host1', address, wkp, key: tls ? key : null },
        stg: 'stg1',
        streams: 1,
        ...more,
      });
    return { client, config, key, logs, steps, connect, newConnect, stop };
  }
}

/** Waits for something that another party does; the test's own time-out is the watchdog. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

export const figureSteps = (records: readonly StepRecord[], figure: string): StepNumber[] =>
  records.filter((r) => r.figure === figure).map((r) => r.step);
