/**
 * A real PostgreSQL, unmodified, through the array: the package pg over an STP socket, and psql over
 * TCP, both through `stpctl forward`.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { finished, until } from '../support/array.js';
import { type Forward, startForward } from '../support/forward.js';
import { NO_POSTGRES, type Postgres, startPostgres } from './postgres-rig.js';
import { EXAMPLES, programRig, recipes } from './rig.js';

const rig = programRig(test);
let server: Postgres | undefined;
/** Beside the server: from an STP port to its Unix socket. */
let inner: Forward;
const cleanUps: (() => unknown)[] = [];

test.serial.before('a PostgreSQL behind a forward', async () => {
  server = startPostgres();
  if (server === undefined) return;
  cleanUps.push(server.remove);
  const { runDirectory } = rig().array;
  const args = ['stp:test:0', `unix:${server.socket}`, '--verbose'];
  const teardown = (fn: () => unknown): void => void cleanUps.unshift(fn);
  inner = await startForward({ teardown }, { runDirectory, args });
});

test.after.always('stop it', async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

type T = ExecutionContext<unknown>;

const withPostgres = (name: string, run: (t: T) => Promise<void>) =>
  test.serial(name, async (t) => {
    if (server !== undefined) return run(t);
    t.log(NO_POSTGRES);
    t.pass();
  });

const stpPort = (): number => Number(inner.from.split(':')[2]);

function client(t: T): pg.Client {
  const made = new pg.Client({
    user: 'postgres',
    database: 'postgres',
    host: 'test',
    port: stpPort(),
    stream: recipes.pgStream(rig().client) as never,
  });
  made.on('error', () => {});
  t.teardown(() => made.end().catch(() => {}));
  return made;
}

async function connected(t: T): Promise<pg.Client> {
  const made = client(t);
  await made.connect();
  return made;
}

withPostgres('queries, prepared statements, errors, transactions', async (t) => {
  const db = await connected(t);
  const { rows } = await db.query('SELECT $1::int + 1 AS n, $2::text AS s', [41, 'ünïcode']);
  t.deepEqual(rows, [{ n: 42, s: 'ünïcode' }]);
  for (let i = 0; i < 50; i++) {
    const named = await db.query({ name: 'twice', text: 'SELECT $1::int * 2 AS n', values: [i] });
    t.is(named.rows[0].n, i * 2);
  }
  await t.throwsAsync(db.query('SELECT nonsense'), { code: '42703' });
  await db.query('BEGIN; CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1), (2)');
  await db.query('ROLLBACK');
  await t.throwsAsync(db.query('SELECT * FROM t'), { code: '42P01' });
});

withPostgres('a result of 100 MB', async (t) => {
  const db = await connected(t);
  const { rows } = await db.query(
    'SELECT i, repeat(md5(i::text), 320) AS s FROM generate_series(1, 10000) AS i',
  );
  t.is(rows.length, 10_000);
  const bytes = rows.reduce((sum, row) => sum + row.s.length, 0);
  t.is(bytes, 10_000 * 320 * 32);
  const md5 = createHash('md5').update('9999').digest('hex');
  t.is(rows[9998].s, md5.repeat(320));
});

/** COPY, as the protocol has it: pg hands its connection to whatever can `submit` itself. */
class Copy {
  bytes = 0;
  readonly done: Promise<void>;
  readonly #text: string;
  readonly #rows: Iterator<Buffer> | undefined;
  readonly #hash = createHash('sha256');
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(text: string, rows?: Iterable<Buffer>) {
    this.#text = text;
    this.#rows = rows?.[Symbol.iterator]();
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get digest(): string {
    return this.#hash.digest('hex');
  }

  submit(connection: pg.Connection): void {
    connection.query(this.#text);
  }

  handleCopyInResponse(connection: pg.Connection & CopyConnection): void {
    const more = (): void => {
      for (;;) {
        const next = this.#rows?.next();
        if (next === undefined || next.done) return connection.endCopyFrom();
        this.bytes += next.value.length;
        this.#hash.update(next.value);
        connection.sendCopyFromChunk(next.value);
        if (connection.stream.writableNeedDrain) {
          connection.stream.once('drain', more);
          return;
        }
      }
    };
    more();
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
  }

  handleCommandComplete(): void {}
  handleReadyForQuery(): void {
    this.#resolve();
  }
  handleError(error: Error): void {
    this.#reject(error);
  }
}

interface CopyConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  readonly stream: NodeJS.WritableStream & { readonly writableNeedDrain: boolean };
}

function* lines(count: number): Generator<Buffer> {
  for (let i = 0; i < count; i++) {
    yield Buffer.from(`${i}\t${createHash('md5').update(String(i)).digest('hex').repeat(32)}\n`);
  }
}

withPostgres('COPY of 100 MB in, and the same out', async (t) => {
  const db = await connected(t);
  await db.query('CREATE UNLOGGED TABLE copied (i int, s text)');
  const into = new Copy('COPY copied FROM STDIN', lines(100_000));
  db.query(into as never);
  await into.done;
  t.true(into.bytes > 100_000_000);
  const out = new Copy('COPY (SELECT * FROM copied ORDER BY i) TO STDOUT');
  db.query(out as never);
  await out.done;
  t.is(out.bytes, into.bytes);
  t.is(out.digest, into.digest);
  await db.query('DROP TABLE copied');
});

withPostgres('LISTEN and NOTIFY between two connections', async (t) => {
  const [one, other] = [await connected(t), await connected(t)];
  await one.query('LISTEN news');
  for (let i = 0; i < 20; i++) {
    const heard = once(one, 'notification');
    await other.query("SELECT pg_notify('news', $1)", [`item ${i}`]);
    const [{ channel, payload }] = (await heard) as [pg.Notification];
    t.deepEqual([channel, payload], ['news', `item ${i}`]);
  }
});

withPostgres('a query is cancelled over a connection of its own', async (t) => {
  const db = await connected(t);
  const { processID, secretKey } = db as unknown as { processID: number; secretKey: number };
  const sleeping = db.query('SELECT pg_sleep(600)');
  const watching = await connected(t);
  await until('it sleeps', async () => {
    const { rows } = await watching.query(
      "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
      [processID],
    );
    return rows.length === 1;
  });
  const cancel = Buffer.alloc(16);
  for (const [i, word] of [16, 80_877_102, processID, secretKey].entries()) {
    cancel.writeInt32BE(word, i * 4);
  }
  const socket = rig().client.connect({ port: stpPort() });
  socket.end(cancel);
  await once(socket.resume(), 'close');
  await t.throwsAsync(sleeping, { code: '57014' });
  t.is((await db.query('SELECT 1 AS one')).rows[0].one, 1);
});

withPostgres('a pool: 20 connections at once', async (t) => {
  const pool = new pg.Pool({
    user: 'postgres',
    database: 'postgres',
    host: 'test',
    port: stpPort(),
    stream: recipes.pgStream(rig().client) as never,
    max: 20,
  });
  const results = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      pool.query('SELECT pg_backend_pid() AS pid, $1::int AS i, pg_sleep(0.01)', [i]),
    ),
  );
  t.deepEqual(
    results.map((result) => result.rows[0].i),
    Array.from({ length: 200 }, (_, i) => i),
  );
  t.is(new Set(results.map((result) => result.rows[0].pid)).size, 20);
  await pool.end();
});

withPostgres('the end of a client ends its backend, orderly or not', async (t) => {
  const watching = await connected(t);
  const gone = (pid: number) =>
    until('its backend is gone', async () => {
      const { rows } = await watching.query('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [pid]);
      return rows.length === 0;
    });
  for (const orderly of [true, false]) {
    const db = await connected(t);
    const { rows } = await db.query('SELECT pg_backend_pid() AS pid');
    if (orderly) await db.end();
    else {
      const { connection } = db as unknown as { connection: { stream: { destroy(): void } } };
      connection.stream.destroy();
    }
    t.true(await gone(rows[0].pid));
  }
});

withPostgres('the example postgres.mjs, as it stands', async (t) => {
  const child = spawn(process.execPath, [`${EXAMPLES}postgres.mjs`], {
    env: {
      ...process.env,
      STPD_RUN_DIR: rig().array.runDirectory,
      STG: 'test',
      STP_PORT: String(stpPort()),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { code, stdout, stderr } = await finished(child);
  t.is(code, 0, stderr);
  t.is(stdout, "{ name: 'PostgreSQL', answer: 42 }\n");
});

withPostgres('psql, unmodified, over TCP through two forwards', async (t) => {
  const { runDirectory } = rig().array;
  const args = ['tcp:0', inner.from];
  const outer = await startForward(t, { runDirectory, args });
  const [, host = '', port = ''] = /^tcp:(.*):(\d+)$/.exec(outer.from) ?? [];
  const psql = (...commands: string[]) =>
    finished(
      spawn(
        (server as Postgres).psql,
        ['-X', '-q', '-A', '-t', '-h', host, '-p', port, '-U', 'postgres', 'postgres', ...commands],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      ),
    );
  const one = await psql('-c', 'SELECT 6 * 7');
  t.deepEqual([one.code, one.stdout], [0, '42\n']);
  const copied = await psql(
    '-c',
    "COPY (SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) AS i) TO STDOUT",
  );
  t.is(copied.code, 0);
  t.is(copied.stdout.split('\n').length, 50_001);
  t.true(copied.stdout.endsWith(`50000\t${'x'.repeat(1000)}\n`));
  const wrong = await psql('-c', 'SELECT nonsense');
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /column "nonsense" does not exist/);
});

withPostgres('a server that is shut down is an error, and later ones are refused', async (t) => {
  const db = await connected(t);
  const told = once(db, 'error') as Promise<[Error & { code?: string }]>;
  server?.stop();
  const [error] = await told;
  t.is(error.code, '57P01', error.message);
  await t.throwsAsync(client(t).connect(), { code: 'ECONNRESET' });
  await until('the forward says why', () =>
    /unix:.*PGSQL\.5432: there is no such socket; start the server/.test(inner.said()),
  );
});
