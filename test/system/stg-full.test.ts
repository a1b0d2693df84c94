/**
 * An STG that has no more of something says ENOBUFS, how many of how many are in use, and what helps.
 */
import test, { type ExecutionContext } from 'ava';
import { attach, type Host, type StpServer, type StpSocket } from '../../src/index.js';
import { NUMBERS } from '../../src/layout/tables.js';
import { type ArrayForTest, type ArrayOptions, startArray, until } from '../support/array.js';

type Coded = Error & { code: string };

async function array(
  t: ExecutionContext<unknown>,
  options: ArrayOptions = {},
): Promise<{ on: ArrayForTest; host: Host }> {
  const on = await startArray(t, { boards: 4, boardSize: '1MiB', ...options });
  const host = await attach({ runDirectory: on.runDirectory, stg: 'test', pageTimeoutMs: 400 });
  t.teardown(() => host.close());
  return { on, host };
}

/** Its port; the server takes connections and reads nothing. */
function listen(
  t: ExecutionContext<unknown>,
  host: Host,
): Promise<{ port: number; ends: StpSocket[] }> {
  const ends: StpSocket[] = [];
  const server: StpServer = host.createServer({ pauseOnConnect: true }, (socket) => {
    ends.push(socket);
    socket.on('error', () => {});
  });
  t.teardown(() => server.close());
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, () => resolve({ port: server.address()?.port ?? 0, ends }));
  });
}

const connect = (host: Host, port: number): Promise<StpSocket> =>
  new Promise((resolve, reject) => {
    const socket = host.connect({ port }, () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });

const failure = async (t: ExecutionContext<unknown>, what: Promise<unknown>): Promise<string> => {
  const error = (await t.throwsAsync(what)) as Coded | undefined;
  t.is(error?.code, 'ENOBUFS');
  return error?.message ?? '';
};

test.serial('pages: a stream that finds none for its time fails, the others stand', async (t) => {
  const { host } = await array(t);
  const { port, ends } = await listen(t, host);
  const holders = await Promise.all(Array.from({ length: 64 }, () => connect(host, port)));
  for (const socket of holders) socket.on('error', () => {}).write(Buffer.alloc(65536));
  const late = await connect(host, port);
  const message = await failure(
    t,
    new Promise((_, reject) => {
      late.once('error', reject);
      late.write(Buffer.alloc(64));
    }),
  );
  t.regex(message, /STG 'test' has had no page for this stream for \d+\.\d s: 64 of the 64 pages/);
  t.regex(message, /or add boards: stpctl stg grow test --boards N/);
  t.true(holders.every((socket) => !socket.destroyed));
  /* Once they are read, all goes on. */
  for (const end of ends) end.resume();
  const next = await connect(host, port);
  await new Promise((resolve) => next.write(Buffer.alloc(64), resolve));
});

test.serial('pages: who waits gets the first that is free, and no error', async (t) => {
  const on = await startArray(t, { boards: 4, boardSize: '1MiB' });
  const host = await attach({ runDirectory: on.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const { port, ends } = await listen(t, host);
  const holders = await Promise.all(Array.from({ length: 64 }, () => connect(host, port)));
  for (const socket of holders) socket.write(Buffer.alloc(65536));
  const late = await connect(host, port);
  let written = false;
  late.write(Buffer.alloc(64), () => {
    written = true;
  });
  await until('all are there', () => ends.length === 65);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.false(written);
  for (const end of ends) end.resume();
  await until('it is written', () => written);
});

test.serial('ports', async (t) => {
  const { host } = await array(t, { ports: 2 });
  await listen(t, host);
  await host.bind(4000);
  const message = await failure(t, listen(t, host));
  t.regex(message, /STG 'test' has 2 of its 2 ports in use, .* --ports$/);
  t.is(await failure(t, host.bind(0)), message);
});

test.serial('connection slots, until the STG grows', async (t) => {
  const { on, host } = await array(t, { connections: 4 });
  const { port } = await listen(t, host);
  for (let i = 0; i < 4; i++) await connect(host, port);
  const message = await failure(t, connect(host, port));
  t.regex(
    message,
    /STG 'test' has 4 of its 4 connection slots in use; .*grow test --connections N$/,
  );
  await on.stpctl('stg', 'grow', 'test', '--connections', '4');
  const socket = await until('there is a slot', () => connect(host, port).catch(() => undefined));
  t.false(socket.destroyed);
});

test.serial('a backlog’s queue of connects', async (t) => {
  const { host } = await array(t, { connections: 64 });
  const socket = host.newSocketNumber();
  /* Accepts nothing. */
  host.addServer(socket, { onIncoming: () => {}, onLost: () => {}, close: () => {} });
  const { localPort } = await host.command({ op: NUMBERS.OP_LISTEN, port: 0, backlog: 1, socket });
  const outcomes: string[] = [];
  for (let i = 0; i < 1 + 4096 + 1; i++) {
    const one = host.connect({ port: localPort });
    one.on('error', (error) => outcomes.push(error.message));
  }
  await until('one is refused', () => outcomes.length > 0);
  t.deepEqual(outcomes, [
    `ENOBUFS: port ${localPort} of STG 'test' has 4096 of 4096 connects waiting for a place in its ` +
      'backlog; try again once its listener has accepted some',
  ]);
});

test.serial('hosts', async (t) => {
  t.timeout(170_000, 'as many hosts as an STG has');
  const { on, host } = await array(t, { connections: 16 });
  const hosts = [host];
  const { runDirectory } = on;
  t.teardown(() => Promise.all(hosts.slice(1).map((one) => one.close())));
  for (let i = 1; i < 256; i++) hosts.push(await attach({ runDirectory, stg: 'test' }));
  const message = await failure(t, attach({ runDirectory, stg: 'test' }));
  t.regex(message, /STG 'test' has 256 of its 256 hosts; let one leave/);
  await hosts.pop()?.close();
  hosts.push(
    await until('a place is free', () =>
      attach({ runDirectory, stg: 'test' }).catch(() => undefined),
    ),
  );
});
