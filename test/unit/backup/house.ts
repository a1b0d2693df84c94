/** A client, a server and an array in this process: whole sessions, with movers in workers. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import { BackupClient, type EstablishedClient } from '../../../src/backup/client.js';
import { runClientJob } from '../../../src/backup/client-jobs.js';
import type { ClientConfig, ServerConfig } from '../../../src/backup/config.js';
import type { StepRecord } from '../../../src/backup/handshake-steps.js';
import type { Complaint, Progress } from '../../../src/backup/protocol-words.js';
import { BackupServer } from '../../../src/backup/server.js';
import { StorageAccess } from '../../../src/backup/storage-access.js';
import { STPConnect } from '../../../src/connect/stp-connect.js';
import { native } from '../../../src/native.js';
import { startArray } from '../../support/array.js';

export interface House {
  readonly base: string;
  readonly server: BackupServer;
  readonly client: BackupClient;
  readonly logs: string[];
  readonly steps: StepRecord[];
  readonly complaints: Complaint[];
  readonly progress: Progress[];
  readonly signal: AbortController;
  readonly events: {
    step(r: StepRecord): void;
    progress(p: Progress): void;
    complaint(c: Complaint): void;
  };
  /** What the library has, complete or not. */
  library(): { sets: string[]; partial: string[] };
}

export interface HouseOptions {
  /** False: control connections, and data over the network, in the clear. */
  readonly tls?: boolean;
  /** Who is attached to an array at all; both where absent. */
  readonly attached?: 'both' | 'client' | 'server';
  /** What the client does in a session, in place of `runClientJob`. */
  readonly job?: (session: EstablishedClient, config: ClientConfig) => Promise<void>;
}

export async function startHouse(t: ExecutionContext, options: HouseOptions = {}): Promise<House> {
  const { tls = true, attached = 'both', job = runClientJob } = options;
  const array = await startArray(t, { boards: 8, boardSize: '1MiB' });
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const name of ['src', 'out']) mkdirSync(join(base, name));
  const key = tls ? randomBytes(32) : null;
  const address = '127.0.0.1';
  const { runDirectory } = array;
  const logs: string[] = [];
  const keep = (message: string): void => void logs.push(message);
  const log = { info: () => {}, warn: keep, error: keep };
  const clientConfig: ClientConfig = {
    name: 'host1',
    runDirectory,
    address,
    wkp: await freePair(),
    roots: [join(base, 'src')],
    restoreRoots: [join(base, 'out')],
    key,
  };
  const serverConfig: ServerConfig = {
    name: 'server1',
    library: join(base, 'library'),
    runDirectory,
    stg: 'test',
    address,
    wkp: 7286,
    control: join(base, 'control.sock'),
    hosts: new Map([['host1', { name: 'host1', address, wkp: clientConfig.wkp, key }]]),
  };
  const access = (who: 'client' | 'server') => {
    const here = attached === 'both' || attached === who;
    return new StorageAccess(here ? runDirectory : join(base, 'no-stpd'), 'test', () => {});
  };
  const [clientStorage, serverStorage] = [access('client'), access('server')];
  const client = new BackupClient({
    config: clientConfig,
    network: new STPConnect(),
    storageOf: (stg) => clientStorage.connectFor(stg),
    job: (session) => job(session, clientConfig),
    log,
  });
  const server = new BackupServer({
    config: serverConfig,
    storage: serverStorage,
    library: { lockFile: (fd) => native().lockFile(fd) },
    version: '0.0.0',
    log,
  });
  await client.start();
  t.teardown(async () => {
    await server.stop();
    await client.stop();
    await clientStorage.close();
    await serverStorage.close();
  });
  const steps: StepRecord[] = [];
  const complaints: Complaint[] = [];
  const progress: Progress[] = [];
  return {
    base,
    server,
    client,
    logs,
    steps,
    complaints,
    progress,
    signal: new AbortController(),
    events: {
      step: (r) => void steps.push(r),
      progress: (p) => void progress.push(p),
      complaint: (c) => void complaints.push(c),
    },
    library: () => ({
      sets: readdirSync(join(base, 'library/sets')),
      partial: readdirSync(join(base, 'library/tmp')),
    }),
  };
}
