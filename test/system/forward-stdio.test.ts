/**
 * stpctl forward with standard input and output: files, FIFOs, devices, and a reader that goes away.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { finished } from '../support/array.js';
import {
  dial,
  drain,
  fate,
  hostFor,
  pour,
  STPCTL,
  scratchDirectory,
  serve,
  sharedArray,
  spawnForward,
  startForward,
  until,
} from '../support/forward.js';

const array = sharedArray(test);

type T = ExecutionContext<unknown>;

/** A shell's pipeline; `$F` is `node stpctl forward`. */
function shell(t: T, script: string) {
  const child = spawn(
    'bash',
    ['-c', `set -o pipefail; F="'${process.execPath}' '${STPCTL}' forward"; ${script}`],
    {
      env: { ...process.env, STPD_RUN_DIR: array().runDirectory },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  t.teardown(() => void child.kill('SIGKILL'));
  return finished(child);
}

test.serial('from a file, and to a file: byte for byte, from where they stand', async (t) => {
  const { runDirectory } = array();
  const directory = scratchDirectory(t);
  const content = randomBytes(5_000_003);
  writeFileSync(join(directory, 'in'), content);
  const output = openSync(join(directory, 'out'), 'w');
  const receiver = await startForward(t, {
    runDirectory,
    args: ['stp:test:0', '-'],
    stdio: ['ignore', output, 'pipe'],
  });
  const input = openSync(join(directory, 'in'), 'r');
  const sender = spawnForward(t, {
    runDirectory,
    args: ['-', receiver.from],
    stdio: [input, 'pipe', 'pipe'],
  });
  closeSync(input);
  t.is((await sender.ended).code, 0);
  t.is((await receiver.ended).code, 0);
  closeSync(output);
  t.true(readFileSync(join(directory, 'out')).equals(content));
});

test.serial('a pipeline of a shell: tar through the array', async (t) => {
  const directory = scratchDirectory(t);
  spawnSync('bash', ['-c', `mkdir -p a/b c; head -c 3000000 /dev/urandom > a/b/file; echo > a/x`], {
    cwd: directory,
  });
  const { code, stderr } = await shell(
    t,
    `cd '${directory}'
     (eval $F stp:test:600 - < /dev/null | tar -x -C c) 2> log & pid=$!
     until grep -q forwarding log; do sleep 0.05; done
     tar -c a | eval $F - stp:test:600 > /dev/null && wait $pid && diff -r a c/a`,
  );
  t.is(code, 0, stderr);
});

test.serial('from a device without an end, until the other side has enough', async (t) => {
  const server = await serve(t, undefined, 'tcp', (socket) => {
    socket.resume().once('data', () => socket.resetAndDestroy());
  });
  const { code, stderr } = await shell(t, `eval $F - ${server.address} < /dev/zero`);
  t.is(code, 1, 'a reset is a failure');
  t.regex(stderr, /stpctl: #1 stdio: .* out, 0 B back, .*, reset by tcp:127\.0\.0\.1:\d+: /);
});

test.serial('a reader that goes away resets the stream: exit code 1', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, host, 'stp');
  const piped = shell(t, `eval $F - ${server.address} < /dev/null | head -c 10 | wc -c`);
  const accepted = await until('it is connected', () => server.sockets[0]);
  const ending = fate(accepted);
  pour(accepted, 50_000_000, 9).catch(() => {});
  t.regex(await ending, /end|ECONNRESET/);
  const { code, stdout, stderr } = await piped;
  t.is(stdout.trim(), '10');
  t.is(code, 1, stderr);
  t.regex(stderr, /reset by stdio: .*EPIPE/);
});

test.serial('a slow reader holds the sender back, and signals still work', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  const server = await serve(t, host, 'stp');
  const forward = spawnForward(t, { runDirectory, args: ['-', server.address, '--grace', '0'] });
  const accepted = await until('it is connected', () => server.sockets[0]);
  let taken = 0;
  let lastAt = performance.now();
  const write = (): void =>
    void accepted.write(Buffer.alloc(100_000), (error) => {
      if (error) return;
      taken += 100_000;
      lastAt = performance.now();
      write();
    });
  write();
  forward.child.stdout?.pause();
  await until('nothing is taken any more', () => performance.now() - lastAt > 1000);
  t.true(taken < 16 << 20, `${taken} bytes wait somewhere`);
  const ending = fate(accepted);
  forward.child.kill('SIGINT');
  t.is(await ending, 'ECONNRESET');
  forward.child.stdout?.resume();
  t.is((await forward.ended).code, 3);
});

test.serial('stdio takes one connection; who comes later is refused', async (t) => {
  const { runDirectory } = array();
  const host = await hostFor(t, runDirectory);
  for (const from of ['stp:test:0', 'tcp:0', `unix:${scratchDirectory(t)}/f.sock`]) {
    const forward = await startForward(t, { runDirectory, args: [from, 'stdio'] });
    const first = await dial(t, host, forward.from);
    await until('later ones are refused', async () => {
      const later = await dial(t, host, forward.from).catch(() => undefined);
      if (later === undefined) return true;
      t.regex(await fate(later), /ECONNRESET|end|close/);
      return false;
    });
    first.end('from the first');
    forward.child.stdin?.end('and back');
    t.is((await drain(first)).bytes, 8);
    const { code, stdout } = await forward.ended;
    t.is(code, 0);
    t.is(stdout, 'from the first');
  }
});

test.serial('no target is exit code 1', async (t) => {
  const { runDirectory } = array();
  const forward = spawnForward(t, { runDirectory, args: ['-', 'stp:test:601'] });
  const { code, stdout, stderr } = await forward.ended;
  t.deepEqual([code, stdout], [1, '']);
  t.regex(stderr, /stpctl: stdio was reset: stp:test:601: nobody listens there; start the server/);
});

test.serial('input that ends is passed on while the answer still comes', async (t) => {
  const server = await serve(t, undefined, 'tcp', (socket) => {
    let bytes = 0;
    socket.on('data', (data: Buffer) => {
      bytes += data.length;
    });
    socket.on('end', () => setTimeout(() => socket.end(`${bytes} bytes\n`), 300));
    socket.resume();
  });
  const { code, stdout } = await shell(t, `printf 'twelve bytes' | eval $F - ${server.address}`);
  t.deepEqual([code, stdout], [0, '12 bytes\n']);
});
