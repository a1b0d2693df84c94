/**
 * stpctl forward between each pair of kinds: binary data both ways, and the end of either direction
 * passed on while the other goes on.
 */
import type { Readable, Writable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import {
  dial,
  drain,
  type Forward,
  hostFor,
  pour,
  scratchDirectory,
  serve,
  sharedArray,
  spawnForward,
  startForward,
  until,
} from '../support/forward.js';

const array = sharedArray(test);

type Kind = 'stp' | 'tcp' | 'unix' | 'stdio';
const KINDS: readonly Kind[] = ['stp', 'tcp', 'unix', 'stdio'];
const OUT_BYTES = 3_000_001;
const BACK_BYTES = 2_000_003;

interface End {
  readonly input: Readable;
  readonly output: Writable;
}

interface Both {
  readonly client: End;
  readonly server: End;
  readonly forward: Forward;
}

const childEnd = ({ child }: Forward): End => ({
  input: child.stdout as Readable,
  output: child.stdin as Writable,
});

/** A connection through a forward, with both of its ends in our hands. */
async function through(t: ExecutionContext<unknown>, from: Kind, to: Kind): Promise<Both> {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const fromText: Record<Kind, string> = {
    stp: 'stp:test:0',
    tcp: 'tcp:0',
    unix: `unix:${scratchDirectory(t)}/forward.sock`,
    stdio: '-',
  };
  const server = to === 'stdio' ? undefined : await serve(t, host, to);
  const args = [fromText[from], server?.address ?? 'stdio', '--verbose'];
  const forward =
    from === 'stdio'
      ? spawnForward(t, { runDirectory, args })
      : await startForward(t, { runDirectory, args });
  const socket = from === 'stdio' ? undefined : await dial(t, host, forward.from);
  const accepted = await until(
    'the target is connected',
    () => server?.sockets[0] ?? to === 'stdio',
  );
  return {
    client: socket === undefined ? childEnd(forward) : { input: socket, output: socket },
    server:
      typeof accepted === 'boolean' ? childEnd(forward) : { input: accepted, output: accepted },
    forward,
  };
}

async function finish(t: ExecutionContext<unknown>, { forward }: Both, one: boolean) {
  if (!one) {
    await until('the connection is over', () => /#1 .*, ended\n/.test(forward.said()));
    forward.child.kill('SIGTERM');
  }
  const { code, stderr } = await forward.ended;
  t.is(code, 0, stderr);
  t.regex(stderr, /1 connection \(1 ended, 0 reset, 0 found no target\)/);
}

for (const from of KINDS) {
  for (const to of KINDS) {
    if (from === 'stdio' && to === 'stdio') continue;
    const one = from === 'stdio' || to === 'stdio';

    test.serial(`${from} to ${to}: the client ends first`, async (t) => {
      const both = await through(t, from, to);
      const { client, server } = both;
      const arriving = drain(server.input);
      const sent = await pour(client.output, OUT_BYTES, 1);
      client.output.end();
      t.deepEqual(await arriving, sent, 'to the end, and the way back is open still');
      const answer = drain(client.input);
      const answered = await pour(server.output, BACK_BYTES, 2);
      server.output.end();
      t.deepEqual(await answer, answered);
      await finish(t, both, one);
    });

    test.serial(`${from} to ${to}: the server ends first`, async (t) => {
      const both = await through(t, from, to);
      const { client, server } = both;
      const answer = drain(client.input);
      const answered = await pour(server.output, BACK_BYTES, 3);
      server.output.end();
      t.deepEqual(await answer, answered);
      const arriving = drain(server.input);
      const sent = await pour(client.output, OUT_BYTES, 4);
      client.output.end();
      t.deepEqual(await arriving, sent);
      await finish(t, both, one);
    });
  }
}

for (const to of ['stp', 'tcp', 'unix'] as const) {
  test.serial(`a server that speaks at once is heard whole: ${to}`, async (t) => {
    const { runDirectory } = array();
    const host = await hostFor(t, runDirectory);
    const greeting = Buffer.alloc(100_000, 'hello ');
    const server = await serve(t, host, to, (socket) => void socket.end(greeting));
    const forward = await startForward(t, { runDirectory, args: ['tcp:0', server.address] });
    const heard = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const client = await dial(t, host, forward.from);
        const { bytes } = await drain(client);
        client.destroy();
        return bytes;
      }),
    );
    t.deepEqual(new Set(heard), new Set([greeting.length]));
  });
}
