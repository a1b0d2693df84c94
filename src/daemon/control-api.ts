/**
 * The control API: HTTP and JSON on RUN/control.sock, for stpctl and for people with curl.
 *
 *     curl --unix-socket RUN/control.sock http://stpd/v1/array
 *     curl --unix-socket RUN/control.sock http://stpd/v1/stgs \
 *          -H 'content-type: application/json' -d '{"name":"backup","boardCount":8,"ports":16}'
 *     curl --unix-socket RUN/control.sock -X DELETE 'http://stpd/v1/stgs/backup?force=1'
 *
 *     GET    /v1/array  /v1/boards  /v1/stgs  /v1/stgs/NAME  /v1/hosts  /v1/sockets
 *     GET    /v1/figures        counters of everything at one moment: two of them give rates
 *     GET    /v1/stgs/NAME/trace  ?since=EVENT&slot=SLOT: control events, and a look at a slot
 *     POST   /v1/stgs           body: stg-request.ts; 201 with the new STG
 *     POST   /v1/stgs/NAME/grow  body: {"boardCount", "connections"}, what is added; the STG
 *     DELETE /v1/stgs/NAME      ?force=1 also resets its connections and detaches its hosts
 *
 * Answers are the documents of reports.ts. A failure is `{"error": {"code", "message"}}` with a
 * POSIX code and a fitting HTTP status. Whoever may open the socket may do everything: it has
 * mode 0600 from its first instant. Creating, growing and deleting are done one after the other. Main
 * thread.
 */
import { createServer, type Server } from 'node:http';
import { fastify } from 'fastify';
import { isCoded, messageOf, stpError } from '../errors.js';
import type { Configuration } from './configuration.js';
import type { Log } from './log.js';
import type {
  ArrayControl,
  ArrayDocument,
  BoardsDocument,
  DeletedDocument,
  ErrorDocument,
  FiguresDocument,
  HostsDocument,
  SocketsDocument,
  StgDocument,
  StgRequest,
  StgsDocument,
  TraceDocument,
} from './reports.js';
import { shown } from './shown.js';
import { checkGrowBody, checkStgBody, checkStgName, type StgBody } from './stg-request.js';
import { ValidationError } from './validation.js';

/** A request is a few hundred bytes; access lists are what may make it longer. */
const BODY_BYTES_MAX = 256 << 10;

const HTTP_STATUS: Readonly<Record<string, number>> = {
  EINVAL: 400,
  ENAMETOOLONG: 400,
  EACCES: 403,
  EPERM: 403,
  ENOENT: 404,
  EBUSY: 409,
  EEXIST: 409,
  EFBIG: 413,
  ENOSYS: 501,
  ESHUTDOWN: 503,
  ENOMEM: 507,
  ENOSPC: 507,
};

/** What fastify itself refuses, in our codes. */
function codeOfHttpStatus(status: number | undefined): string | undefined {
  if (status === undefined || status >= 500) return undefined;
  if (status === 404) return 'ENOENT';
  return status === 413 ? 'EFBIG' : 'EINVAL';
}

function errorDocument(error: unknown): ErrorDocument {
  const ownCode = isCoded(error) && error.code in HTTP_STATUS ? error.code : undefined;
  const { statusCode } = error as { statusCode?: number };
  const code = ownCode ?? codeOfHttpStatus(statusCode) ?? 'EIO';
  const message = messageOf(error);
  const prefix = `${code}: `;
  return {
    error: { code, message: message.startsWith(prefix) ? message.slice(prefix.length) : message },
  };
}

/** Absent counts and lists take the configured defaults; in the end, the user that runs stpd. */
function completeRequest(body: StgBody, configuration: Configuration): StgRequest {
  const listed = body.allowUids !== undefined || body.allowGids !== undefined;
  const { allowUids, allowGids } = listed ? body : configuration;
  const nobody = (allowUids ?? []).length === 0 && (allowGids ?? []).length === 0;
  const owner = process.geteuid?.() ?? 0;
  return {
    name: body.name,
    boardCount: body.boardCount,
    ports: body.ports,
    connections: body.connections ?? configuration.connections,
    allowUids: nobody && !listed ? [owner] : (allowUids ?? []),
    allowGids: allowGids ?? [],
  };
}

function parseForce(query: unknown): boolean {
  const { force, ...others } = query as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw new ValidationError([`unknown parameter ${shown(unknown)}: the only one is force`]);
  }
  if (force === undefined || force === '0' || force === 'false') return false;
  if (force === '1' || force === 'true') return true;
  throw new ValidationError([`force: ${shown(force)} is not 0 or 1`]);
}

/** Whole numbers of 32 bits; absent ones are undefined. */
function parseNumbers<K extends string>(
  query: unknown,
  keys: readonly K[],
): Partial<Record<K, number>> {
  const numbers: Partial<Record<K, number>> = {};
  for (const [name, value] of Object.entries(query as Record<string, unknown>)) {
    const key = keys.find((known) => known === name);
    if (key === undefined) {
      const known = keys.join(' and ');
      throw new ValidationError([`unknown parameter ${shown(name)}: there are ${known}`]);
    }
    const number = typeof value === 'string' && /^[0-9]{1,10}$/.test(value) ? Number(value) : -1;
    if (number < 0 || number > 0xffffffff) {
      throw new ValidationError([`${key}: ${shown(value)} is not a number of 32 bits`]);
    }
    numbers[key] = number;
  }
  return numbers;
}

export interface ControlApiOptions {
  readonly array: ArrayControl;
  readonly configuration: Configuration;
  /** Path of the socket; must not exist. */
  readonly path: string;
  readonly log: Log;
}

function buildRoutes(options: ControlApiOptions, server: Server) {
  const { array, configuration, log } = options;
  const app = fastify({
    serverFactory: (handler) => server.on('request', handler),
    bodyLimit: BODY_BYTES_MAX,
    forceCloseConnections: true,
  });

  let last: Promise<unknown> = Promise.resolve();
  /** Changes wait for each other, so that the array never sees two at once. */
  const inTurn = <T>(change: () => Promise<T>): Promise<T> => {
    const result = last.then(change);
    last = result.catch(() => undefined);
    return result;
  };

  app.setErrorHandler((error, request, reply) => {
    const document = errorDocument(error);
    const status = HTTP_STATUS[document.error.code] ?? 500;
    if (status === 500) log.error({ err: error, url: request.url }, 'a control request failed');
    return reply.code(status).send(document);
  });
  app.setNotFoundHandler((request) => {
    throw stpError('ENOENT', `${request.method} ${request.url} is not part of the control API`);
  });

  app.get('/v1/array', async (): Promise<ArrayDocument> => ({ array: await array.arrayReport() }));
  app.get(
    '/v1/boards',
    async (): Promise<BoardsDocument> => ({ boards: await array.boardReports() }),
  );
  app.get('/v1/stgs', async (): Promise<StgsDocument> => ({ stgs: await array.stgReports() }));
  app.get('/v1/hosts', async (): Promise<HostsDocument> => ({ hosts: await array.hostReports() }));
  app.get(
    '/v1/sockets',
    async (): Promise<SocketsDocument> => ({ sockets: await array.socketReports() }),
  );
  app.get<{ Params: { name: string } }>(
    '/v1/stgs/:name',
    async (request): Promise<StgDocument> => ({
      stg: await array.stgReport(checkStgName(request.params.name)),
    }),
  );
  app.get(
    '/v1/figures',
    async (): Promise<FiguresDocument> => ({ figures: await array.figures() }),
  );
  app.get<{ Params: { name: string } }>(
    '/v1/stgs/:name/trace',
    async (request): Promise<TraceDocument> => {
      const { since, slot } = parseNumbers(request.query, ['since', 'slot']);
      return { trace: await array.trace(checkStgName(request.params.name), since, slot) };
    },
  );
  app.post('/v1/stgs', async (request, reply): Promise<StgDocument> => {
    const stgRequest = completeRequest(checkStgBody(request.body), configuration);
    const stg = await inTurn(() => array.createStg(stgRequest));
    log.info({ stg: stg.name, boards: stg.boards.length }, 'STG created');
    reply.code(201);
    return { stg };
  });
  app.post<{ Params: { name: string } }>(
    '/v1/stgs/:name/grow',
    async (request): Promise<StgDocument> => {
      const name = checkStgName(request.params.name);
      const { boardCount = 0, connections = 0 } = checkGrowBody(request.body);
      const stg = await inTurn(() => array.growStg(name, { boardCount, connections }));
      log.info({ stg: name, boardCount, connections, behind: stg.membersBehind }, 'STG grown');
      return { stg };
    },
  );
  app.delete<{ Params: { name: string } }>(
    '/v1/stgs/:name',
    async (request): Promise<DeletedDocument> => {
      const name = checkStgName(request.params.name);
      const force = parseForce(request.query);
      await inTurn(() => array.deleteStg(name, force));
      log.info({ stg: name, force }, 'STG deleted');
      return { deleted: name };
    },
  );
  return { app, changesDone: () => last };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // bind(2) happens inside listen(), on this thread: no other user can ever open the socket.
    const umask = process.umask(0o177);
    try {
      server.listen({ path }, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

export interface ControlApi {
  /** Takes no more requests, ends the changes that are under way, removes the socket. */
  close(): Promise<void>;
}

export async function serveControlApi(options: ControlApiOptions): Promise<ControlApi> {
  const server = createServer();
  const { app, changesDone } = buildRoutes(options, server);
  await app.ready();
  await listen(server, options.path);
  server.on('error', (error) => options.log.error({ err: error }, 'control socket'));
  return {
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      await changesDone();
      server.closeIdleConnections();
      // An answer that is being written gets out; a client that does not read it is cut off.
      const cut = setTimeout(() => server.closeAllConnections(), 500);
      await closed;
      clearTimeout(cut);
      await app.close();
    },
  };
}
