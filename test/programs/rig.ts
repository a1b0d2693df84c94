/**
 * What the tests of real programs share: an array with two hosts, the recipes of
 * `examples/over-stp.mjs` as people copy them, bodies of any size and their digests.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { Agent, AgentOptions, Server } from 'node:http';
import type { Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import type { TestFn } from 'ava';
import type { buildConnector } from 'undici';
import { attach, type Host, type StpServer, type StpSocket } from '../../src/index.js';
import { type ArrayForTest, startArray } from '../support/array.js';

/** The face of `examples/over-stp.mjs`. */
export interface Recipes {
  listenOverStp(server: NetServer, host: Host, port: number): StpServer;
  readonly StpAgent: new (host: Host, options?: AgentOptions) => Agent;
  tlsOverStp(host: Host, port: number, options: ConnectionOptions): TLSSocket;
  undiciConnector(host: Host): buildConnector.connector;
  wsConnection(host: Host): (options: { port: number | string }) => StpSocket;
  pgStream(host: Host): () => StpSocket;
}

/** Where the examples are, from dist/test/programs. */
export const EXAMPLES = fileURLToPath(new URL('../../../examples/', import.meta.url));

export const recipes: Recipes = await import(`${EXAMPLES}over-stp.mjs`);

export interface ProgramRig {
  readonly array: ArrayForTest;
  readonly server: Host;
  readonly client: Host;
}

/** An array and two hosts for all tests of a file; gone with them. */
export function programRig(test: TestFn): () => ProgramRig {
  const cleanUps: (() => unknown)[] = [];
  let rig: ProgramRig | undefined;
  test.serial.before('an array with two hosts', async () => {
    const teardown = (fn: () => unknown): void => void cleanUps.unshift(fn);
    const array = await startArray({ teardown });
    const { runDirectory } = array;
    const server = await attach({ runDirectory, stg: 'test', name: 'server' });
    teardown(() => server.close());
    const client = await attach({ runDirectory, stg: 'test', name: 'client' });
    teardown(() => client.close());
    rig = { array, server, client };
  });
  test.after.always('leave it', async () => {
    for (const cleanUp of cleanUps) await cleanUp();
  });
  return () => rig as ProgramRig;
}

/** Listens by the recipe on a free port; ends with the test, idle connections and all. */
export async function listen(
  t: { teardown(fn: () => unknown): void },
  host: Host,
  server: NetServer | Server,
): Promise<{ port: number; listener: StpServer }> {
  const listener = recipes.listenOverStp(server as NetServer, host, 0);
  await once(listener, 'listening');
  t.teardown(() => {
    listener.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return { port: listener.address()?.port ?? 0, listener };
}

const BLOCK_BYTES = 1 << 20;
const block = randomBytes(BLOCK_BYTES);

/** A body of so many bytes: one block again and again, each time with its number in front. */
export function body(bytes: number): { stream: Readable; digest: () => string } {
  const hash = createHash('sha256');
  let left = bytes;
  let digest: string | undefined;
  const stream = new Readable({
    highWaterMark: BLOCK_BYTES,
    read() {
      if (left === 0) {
        digest = hash.digest('hex');
        this.push(null);
        return;
      }
      const chunk = Buffer.from(block.subarray(0, Math.min(left, BLOCK_BYTES)));
      if (chunk.length >= 8) chunk.writeDoubleLE(left);
      left -= chunk.length;
      hash.update(chunk);
      this.push(chunk);
    },
  });
  return { stream, digest: () => digest ?? 'not at its end' };
}

/**
 * Length and digest of all that comes. Not by async iteration, which would destroy a socket whose
 * other half is still open.
 */
export function digestOf(stream: Readable): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  return new Promise((resolve, reject) => {
    stream.once('end', () => resolve({ bytes, digest: hash.digest('hex') }));
    stream.once('error', reject);
    stream.once('close', () => reject(new Error('closed before its end')));
  });
}

/** A key and a certificate for `demo`, or undefined where there is no openssl to make them. */
export function certificate(): { key: Buffer; cert: Buffer } | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-certificate-'));
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = ['-subj', '/CN=demo', '-addext', 'subjectAltName=DNS:demo', '-days', '1'];
  try {
    execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert], {
      stdio: 'ignore',
    });
    return { key: readFileSync(key), cert: readFileSync(cert) };
  } catch {
    return undefined;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export const NO_OPENSSL = 'skipped: openssl is not installed (package openssl)';
