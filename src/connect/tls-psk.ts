/**
 * TLS 1.3 with a pre-shared key: who connects and who listens prove to each other that they have
 * the key of one identity, before a byte of the application flows (RFC 8446, 2.2 and 4.2.11).
 *
 * There are no certificates. What makes that safe is checked here and not assumed:
 * - The client trusts no authority (`ca: []`) and demands that the session was keyed by its PSK;
 *   without that, any server with a certificate from a public authority would pass.
 * - The server hands out a connection only if its PSK callback has run for it; a session ticket
 *   of an earlier connection would otherwise outlive the key it came from.
 * - An unknown identity is answered like a wrong key, so that identities cannot be found by trial.
 * - Connections that have proved nothing are few (HANDSHAKES_MAX) and short (HANDSHAKE_MS_MAX).
 *
 * TLS cannot tell a lost end from a forged one once its close alert is missing, and Node does not
 * report that: a protocol over it must frame its messages, as ours do.
 */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { constants } from 'node:os';
import tls from 'node:tls';
import { isCoded, messageOf, type StpError, stpError } from '../errors.js';
import { HANDSHAKE_MS_MAX, HANDSHAKES_MAX, PSK_BYTES, PSK_IDENTITY_BYTES_MAX } from './bounds.js';
import type { Limit } from './limit.js';
import { failed, settle } from './settle.js';

/** Option `psk` of a socket that will connect. */
export interface PskClient {
  identity: string;
  /** 32 bytes. */
  key: Buffer;
}

/** Option `psk` of a socket that will listen. */
export interface PskServer {
  /** The key of an identity, null if there is none. Called with bytes from the network. */
  lookup(identity: string): Buffer | null;
  /** Told of each connection that did not prove its identity: EACCES, EPROTO, ETIMEDOUT, ... */
  refused?(error: StpError): void;
}

export type PskOption = PskClient | PskServer;

const suites = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  // PSK binds a key to one hash: these are the suites of SHA-256.
  ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256',
} as const;

/** @throws EINVAL with the rule that `value` breaks; the key itself is never in a message */
export function parsePskOption(value: unknown): PskOption {
  const v = (value ?? {}) as Partial<PskClient & PskServer>;
  if (typeof v.lookup === 'function') {
    // Called on the caller's object: it may be an instance with state.
    const owner = v as PskServer;
    return {
      lookup: (identity) => owner.lookup(identity),
      refused: (error) => owner.refused?.(error),
    };
  }
  const bytes = typeof v.identity === 'string' ? Buffer.byteLength(v.identity) : 0;
  if (bytes < 1 || bytes > PSK_IDENTITY_BYTES_MAX || v.identity?.includes('\0')) {
    throw stpError(
      'EINVAL',
      `psk identity of ${bytes} bytes: must be 1 to ${PSK_IDENTITY_BYTES_MAX} bytes of UTF-8 without NUL`,
    );
  }
  if (!(v.key instanceof Uint8Array) || v.key.length !== PSK_BYTES) {
    throw stpError('EINVAL', `psk key of identity '${v.identity}': must be ${PSK_BYTES} bytes`);
  }
  return { identity: v.identity as string, key: Buffer.from(v.key) };
}

/**
 * Node tells of a finished handshake from inside an OpenSSL callback, promises included. Whoever
 * destroys the socket there (a full backlog, a limit that has ended) crashes the process.
 */
const outOfOpenSsl = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** True for what OpenSSL says of a handshake, as against what the network says. */
const isTlsError = (e: unknown): e is StpError =>
  isCoded(e) && (e.code.startsWith('ERR_SSL_') || e.code.startsWith('ERR_TLS_'));

/** Resolves with a stream whose other end has the key. Takes `raw` over, and destroys it on error. */
export async function connectPsk(
  raw: net.Socket,
  psk: PskClient,
  where: string,
  limit: Limit,
): Promise<tls.TLSSocket> {
  let asked = false;
  const secure = tls.connect({
    socket: raw,
    ...suites,
    ca: [],
    checkServerIdentity: () => undefined,
    pskCallback: () => {
      asked = true;
      return { identity: psk.identity, psk: psk.key };
    },
  });
  const giveUp = (): void => {
    secure.destroy();
    raw.destroy();
  };
  const timer = setTimeout(() => {
    limit.expire(stpError('ETIMEDOUT', `no TLS handshake in ${HANDSHAKE_MS_MAX} ms`));
  }, HANDSHAKE_MS_MAX);
  try {
    const ticket = settle(secure, 'session', { limit, giveUp });
    ticket.catch(() => {});
    await settle(secure, 'secureConnect');
    // The server sends its ticket once it has verified us. Left unread, it would also turn a close
    // right after connect into a reset, which can cost the bytes sent before it.
    await ticket;
    await outOfOpenSsl();
    if (!asked || !secure.isSessionReused()) {
      throw stpError('EACCES', `${where} did not prove that it has the key of '${psk.identity}'`);
    }
    return secure;
  } catch (error) {
    secure.on('error', () => {});
    giveUp();
    throw connectRefused(limit.expired ?? error, psk.identity, where);
  } finally {
    clearTimeout(timer);
  }
}

function connectRefused(error: unknown, identity: string, where: string): StpError {
  if (!isCoded(error) || error.code in constants.errno || error.code === 'ABORT_ERR') {
    return failed('connect', where, error);
  }
  const why = `${where} refused identity '${identity}'`;
  const coded =
    // An alert comes from the other side: it looked at our key.
    error.code.includes('_ALERT_')
      ? stpError('EACCES', `${why}: it has no such identity or another key for it`, 'connect')
      : isTlsError(error)
        ? stpError('EPROTO', `${where} does not speak TLS 1.3 with a pre-shared key`, 'connect')
        : // What is left are reasons against a certificate.
          stpError(
            'EACCES',
            `${where} shows a certificate and not the key of '${identity}'`,
            'connect',
          );
  coded.cause = error;
  return coded;
}

/** Both names of a connection: what tells TLS sockets and the raw ones below them apart. */
const pathOf = (s: net.Socket): string =>
  `${s.remoteAddress} ${s.remotePort} ${s.localAddress} ${s.localPort}`;

/** Takes connections of one listener through the handshake. */
export class PskAcceptor {
  readonly #option: PskServer;
  readonly #server: tls.Server;
  readonly #established: (raw: net.Socket, secure: tls.TLSSocket, identity: string) => void;
  /** Connections in the handshake. */
  readonly #pending = new Map<string, net.Socket>();
  /** Who each says it is; proved only by 'secureConnection'. */
  readonly #claims = new WeakMap<net.Socket, { identity: string; known: boolean; from: string }>();
  #closed = false;

  constructor(
    option: PskServer,
    established: (raw: net.Socket, secure: tls.TLSSocket, identity: string) => void,
  ) {
    this.#option = option;
    this.#established = established;
    this.#server = tls.createServer({
      ...suites,
      // Without it Node reads all public authorities, for 26 ms of a program's start.
      ca: [],
      handshakeTimeout: HANDSHAKE_MS_MAX,
      pskCallback: (socket, identity) => this.#onIdentity(socket, identity),
    });
    this.#server.on('secureConnection', (secure) => void this.#onSecure(secure));
    this.#server.on('tlsClientError', (error, secure) => void this.#onRefused(error, secure));
  }

  admit(raw: net.Socket): void {
    if (this.#closed || this.#pending.size >= HANDSHAKES_MAX) {
      const from = `${raw.remoteAddress}:${raw.remotePort}`;
      raw.resetAndDestroy();
      const text = `${from} was reset: ${HANDSHAKES_MAX} connections are already in the handshake`;
      this.#tell(stpError('EAGAIN', text, 'accept'));
      return;
    }
    const path = pathOf(raw);
    this.#pending.set(path, raw);
    raw.once('close', () => this.#forget(path, raw));
    // Who hangs up in the handshake gives its place back at once.
    raw.allowHalfOpen = false;
    this.#server.emit('connection', raw);
  }

  /** Cuts what is still in the handshake. */
  close(): void {
    this.#closed = true;
    for (const raw of this.#pending.values()) raw.resetAndDestroy();
    this.#pending.clear();
  }

  #forget(path: string, raw: net.Socket): void {
    // The peer's port may be in use again by a later connection.
    if (this.#pending.get(path) === raw) this.#pending.delete(path);
  }

  #onIdentity(secure: tls.TLSSocket, identity: string): Buffer {
    const key = this.#lookup(identity);
    const from = `${secure.remoteAddress}:${secure.remotePort}`;
    this.#claims.set(secure, { identity, known: key !== null, from });
    return key ?? randomBytes(PSK_BYTES);
  }

  #lookup(identity: string): Buffer | null {
    let key: Buffer | null;
    try {
      key = this.#option.lookup(identity);
    } catch (error) {
      // A throw here would leave OpenSSL's callback as an uncaught exception: anybody could cause it.
      const text = `the key of '${identity}' could not be looked up: ${messageOf(error)}`;
      this.#tell(stpError('EIO', text, 'accept'));
      return null;
    }
    if (key === null || key.length === PSK_BYTES) return key;
    const text = `the key of '${identity}' has ${key.length} bytes: must be ${PSK_BYTES}`;
    this.#tell(stpError('EINVAL', text, 'accept'));
    return null;
  }

  async #onSecure(secure: tls.TLSSocket): Promise<void> {
    secure.allowHalfOpen = true;
    secure.on('error', () => {});
    await outOfOpenSsl();
    const path = pathOf(secure);
    const raw = this.#pending.get(path);
    const claim = this.#claims.get(secure);
    if (raw === undefined || raw.destroyed || claim === undefined || !claim.known) {
      // Resumed by a ticket, so no key was asked for; or gone in the meantime.
      secure.destroy();
      return;
    }
    this.#pending.delete(path);
    this.#established(raw, secure, claim.identity);
  }

  async #onRefused(error: Error, secure: tls.TLSSocket): Promise<void> {
    const claim = this.#claims.get(secure);
    const who = claim?.from ?? 'a connection';
    this.#tell(refusal(error, who, claim));
    await outOfOpenSsl();
    // Node only reports a handshake that took too long, and leaves the connection open.
    secure.destroy();
  }

  #tell(error: StpError): void {
    if (!this.#closed) this.#option.refused?.(error);
  }
}

function refusal(
  error: Error,
  who: string,
  claim: { identity: string; known: boolean } | undefined,
): StpError {
  const coded = ((): StpError => {
    if (isCoded(error) && error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') {
      const text = `${who} did not finish the TLS handshake in ${HANDSHAKE_MS_MAX} ms`;
      return stpError('ETIMEDOUT', text, 'accept');
    }
    if (!isTlsError(error)) return failed('accept', who, error);
    if (claim === undefined) {
      return stpError('EPROTO', `${who} does not speak TLS 1.3 with a pre-shared key`, 'accept');
    }
    const why = claim.known ? 'its key is not ours' : 'we have no such identity';
    return stpError(
      'EACCES',
      `${who} was refused as identity '${claim.identity}': ${why}`,
      'accept',
    );
  })();
  coded.cause = error;
  return coded;
}
