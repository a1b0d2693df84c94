/**
 * stpbackup wal-push PATH, wal-fetch SEGMENT PATH: what PostgreSQL's archive_command and
 * restore_command call, for each segment. They ask the running client over its control socket and
 * load nothing that they do not need.
 *
 * The files are read and written here, with the rights of who calls. Exit codes: 0 only when the
 * segment is safe, or here; 1 `wal-fetch`: the archive has no such segment (to PostgreSQL the end of
 * the archive), `wal-push`: it failed; above 125 `wal-fetch`: it failed, and PostgreSQL must not
 * take that for the end of the archive. Main thread.
 */
import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { basename } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { messageOf, stpError } from '../../errors.js';

const EXIT_FAILED = 1;
const EXIT_FETCH_FAILED = 200;

type Answer =
  | { readonly type: 'stored'; readonly already: boolean }
  | { readonly type: 'found'; readonly bytes: number; readonly blake3: string }
  | { readonly type: 'missing' }
  | { readonly type: 'refused'; readonly code: string; readonly message: string };

/** One request to the running client; the line of its answer, and all bytes behind it. */
async function ask(control: string, request: object, data?: Buffer): Promise<[Answer, Buffer]> {
  const socket = connect({ path: control, allowHalfOpen: true });
  const pieces: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    socket.once('end', resolve);
    socket.once('error', (e) => {
      const text = `no stpbackup client answers on ${control}: ${messageOf(e)}`;
      reject(stpError('ECONNREFUSED', text));
    });
    socket.write(`${JSON.stringify(request)}\n`);
    if (data) socket.write(data);
    socket.end();
  });
  socket.destroy();
  const all = Buffer.concat(pieces);
  const end = all.indexOf(0x0a);
  if (end < 0) throw stpError('ECONNRESET', 'the client ended before it answered');
  const answer = JSON.parse(all.toString('utf8', 0, end)) as Answer;
  if (answer.type === 'refused') throw stpError(answer.code, answer.message);
  return [answer, all.subarray(end + 1)];
}

async function push(control: string, path: string): Promise<number> {
  const data = readFileSync(path);
  const request = { op: 'push', segment: basename(path), bytes: data.length };
  const [answer] = await ask(control, { ...request, blake3: blake3(data).toString('hex') }, data);
  if (answer.type !== 'stored') throw stpError('EPROTO', 'the client said something else');
  return 0;
}

async function fetchTo(control: string, segment: string, path: string): Promise<number> {
  const [answer, data] = await ask(control, { op: 'fetch', segment });
  if (answer.type === 'missing') return EXIT_FAILED;
  if (answer.type !== 'found') throw stpError('EPROTO', 'the client said something else');
  if (data.length !== answer.bytes || blake3(data).toString('hex') !== answer.blake3) {
    throw stpError('EBADMSG', `segment ${segment} of the archive is damaged; it is not restored`);
  }
  write(path, data);
  return 0;
}

/** All of it, on the disk, or nothing. */
function write(path: string, data: Buffer): void {
  const fd = openSync(path, 'w', 0o600);
  try {
    for (let at = 0; at < data.length; ) at += writeSync(fd, data, at);
    fsyncSync(fd);
  } catch (e) {
    rmSync(path, { force: true });
    throw e;
  } finally {
    closeSync(fd);
  }
}

const USAGE = `Usage: stpbackup wal-push --control SOCKET PATH            for archive_command: %p
       stpbackup wal-fetch --control SOCKET SEGMENT PATH   for restore_command: %f %p
SOCKET is "control" of the configuration of the running stpbackup client.
`;

/** @param args what follows the program's name. @returns the exit code */
export async function runWal(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
  const at = rest.indexOf('--control');
  const control = at < 0 ? undefined : rest[at + 1];
  const operands = rest.filter((_, i) => at < 0 || (i !== at && i !== at + 1));
  const isPush = verb === 'wal-push';
  const [first, second] = operands;
  if (control === undefined || first === undefined || operands.length !== (isPush ? 1 : 2)) {
    process.stderr.write(USAGE);
    return isPush ? 2 : EXIT_FETCH_FAILED;
  }
  try {
    if (isPush) return await push(control, first);
    return await fetchTo(control, first, second as string);
  } catch (e) {
    process.stderr.write(`stpbackup: ${messageOf(e)}\n`);
    return isPush ? EXIT_FAILED : EXIT_FETCH_FAILED;
  }
}
