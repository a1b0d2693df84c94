/**
 * The server's control socket: HTTP and JSON on a Unix socket, for `stpbackup fs`, `restore`,
 * `list`, and for people with curl.
 *
 *     curl --unix-socket SOCKET http://stpbackup/v1/sets
 *     curl --unix-socket SOCKET http://stpbackup/v1/backup --no-buffer \
 *          -H 'content-type: application/json' -d '{"host":"web1","paths":["/srv"]}'
 *
 *     GET  /v1/status   name of the server, running sessions
 *     GET  /v1/sets     complete sets, and those that are damaged
 *     POST /v1/backup   {"host","paths","incremental","dryRun","resume","deltaFrom","streams","bytesPerSecond","via",
 *                       "selection":{"exclude","oneFileSystem","excludeCaches"},
 *                       "media":{"volumeBytes","compress"}}
 *                       answer: events, one JSON object a line
 *     POST /v1/restore  {"set","host","target","paths","bytesPerSecond","via","options",
 *                       "access":{"search","identities"}}   the same
 *
 * Events are `step`, `progress`, `complaint`, `notice` and, last, `done` or `failed`. Closing the request gives
 * the session up. The socket has mode 0600 from its first instant: whoever may open it may do
 * everything. Event loop only.
 */
import { rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { fastify } from 'fastify';
import * as z from 'zod';
import { messageOf, stpError } from '../errors.js';
import type { LibraryListing } from '../library/library.js';
import type { Log } from './client.js';
import type { StepRecord } from './handshake-steps.js';
import { PATHS_MAX, STREAMS_MAX } from './limits.js';
import { restoreOptionsSchema, selectionSchema } from './protocol.js';
import { type Complaint, type Progress, pathSchema } from './protocol-words.js';
import { reasonOf } from './reason.js';
import { PLAIN_RESTORE } from './restore-order.js';
import type { BackupServer, SessionEvents, SessionReport } from './server.js';

const BODY_BYTES_MAX = 4 << 20;

const paths = z.array(pathSchema).max(PATHS_MAX, `at most ${PATHS_MAX} paths`);
const bytesPerSecond = z.number().int().min(1).optional();
/** Which way the data goes: the words of connect/policy.ts. */
const via = z.enum(['array', 'network', 'array-first']).default('array');
const backupBody = z.strictObject({
  host: z.string(),
  paths: paths.min(1, 'name a path'),
  incremental: z.boolean().default(false),
  dryRun: z.boolean().default(false),
  resume: z.boolean().default(true),
  deltaFrom: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  bytesPerSecond,
  streams: z.number().int().min(1).max(STREAMS_MAX).optional(),
  via,
  selection: selectionSchema.partial().default({}),
  media: z
    .strictObject({ volumeBytes: z.number().optional(), compress: z.string().optional() })
    .optional(),
});
const restoreBody = z.strictObject({
  set: z.string().min(1),
  host: z.string(),
  target: pathSchema,
  paths: paths.default([]),
  bytesPerSecond,
  via,
  access: z
    .strictObject({ search: z.array(z.string()), identities: z.array(z.string()) })
    .partial()
    .optional(),
  options: restoreOptionsSchema.default(PLAIN_RESTORE),
});

/** One line of the answer to a session's request. */
export type ServerEvent =
  | { readonly event: 'step'; readonly record: StepRecord }
  | { readonly event: 'progress'; readonly progress: Progress }
  | { readonly event: 'notice'; readonly text: string }
  | { readonly event: 'complaint'; readonly complaint: Complaint }
  | { readonly event: 'done'; readonly report: SessionReport }
  | { readonly event: 'failed'; readonly code: string; readonly message: string };

export interface StatusDocument {
  readonly name: string;
  readonly sessions: number;
}

export interface ServerControlOptions {
  readonly server: BackupServer;
  readonly name: string;
  /** Of the socket. One that a dead server left is replaced. */
  readonly path: string;
  readonly log: Log;
}

const failure = (e: unknown): ServerEvent => ({ event: 'failed', ...reasonOf(e) });

function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.infer<S> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issues = result.error.issues.map((i) => `${i.path.join('.') || 'the body'}: ${i.message}`);
  throw stpError('EINVAL', issues.join('; '));
}

/** Streams a session's events; a caller that goes away gives the session up. */
async function streamSession(
  response: ServerResponse,
  run: (events: SessionEvents, signal: AbortSignal) => Promise<SessionReport>,
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => gone.abort(stpError('ECANCELED', 'the session was given up')));
  response.on('error', () => {});
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const emit = (event: ServerEvent): void => {
    if (!gone.signal.aborted) response.write(`${JSON.stringify(event)}\n`);
  };
  try {
    const report = await run(
      {
        step: (record) => emit({ event: 'step', record }),
        // A caller that does not read must not make us hold what is out of date anyway.
        progress: (progress) => {
          if (!response.writableNeedDrain) emit({ event: 'progress', progress });
        },
        complaint: (complaint) => emit({ event: 'complaint', complaint }),
        notice: (text) => emit({ event: 'notice', text }),
      },
      gone.signal,
    );
    emit({ event: 'done', report });
  } catch (e) {
    emit(failure(e));
  }
  response.end();
}

function buildRoutes(options: ServerControlOptions, http: Server) {
  const { server, name } = options;
  const app = fastify({
    serverFactory: (handler) => http.on('request', handler),
    bodyLimit: BODY_BYTES_MAX,
    forceCloseConnections: true,
  });
  app.setErrorHandler((e, _request, reply) => {
    // What fastify itself refuses (no JSON, too long) carries a status and a code of its own.
    const { statusCode = 500 } = e as { statusCode?: number };
    const refused = statusCode >= 400 && statusCode < 500;
    const error = refused ? { code: 'EINVAL', message: messageOf(e) } : reasonOf(e);
    return reply.code(error.code === 'EINVAL' ? 400 : 500).send({ error });
  });
  app.get('/v1/status', async (): Promise<StatusDocument> => {
    return { name, sessions: server.sessionCount };
  });
  app.get('/v1/sets', async (): Promise<LibraryListing> => server.list());
  app.post('/v1/backup', async (request, reply) => {
    const order = parseBody(backupBody, request.body);
    reply.hijack();
    await streamSession(reply.raw, (events, signal) => server.backup(order, events, signal));
  });
  app.post('/v1/restore', async (request, reply) => {
    const order = parseBody(restoreBody, request.body);
    reply.hijack();
    await streamSession(reply.raw, (events, signal) => server.restore(order, events, signal));
  });
  return app;
}

/** True if somebody answers on the socket. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    const settle = (served: boolean) => () => {
      probe.destroy();
      resolve(served);
    };
    probe.once('connect', settle(true));
    probe.once('error', settle(false));
  });
}

async function listen(http: Server, path: string): Promise<void> {
  if (await isServed(path)) {
    throw stpError(
      'EADDRINUSE',
      `a stpbackup server answers on ${path} already; stop it, or give this one another control`,
    );
  }
  // What nobody answers on was left by a server that was killed.
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    // bind(2) happens inside listen(), on this thread: no other user can ever open the socket.
    const umask = process.umask(0o177);
    try {
      http.listen({ path }, () => {
        http.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

export interface ServerControl {
  /** Takes no more requests and removes the socket. Sessions are the server's to stop. */
  close(): Promise<void>;
}

export async function serveServerControl(options: ServerControlOptions): Promise<ServerControl> {
  const http = createServer();
  const app = buildRoutes(options, http);
  await app.ready();
  await listen(http, options.path);
  http.on('error', (e) => options.log.error(`control socket: ${messageOf(e)}`));
  return {
    async close() {
      const closed = new Promise((resolve) => http.close(resolve));
      http.closeIdleConnections();
      // The last events get out; a caller that does not read them is cut off.
      const cut = setTimeout(() => http.closeAllConnections(), 500);
      await closed;
      clearTimeout(cut);
      await app.close();
    },
  };
}
