/**
 * Unix sockets and passed descriptors: what arrives is handed over or closed, whatever a peer does.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../../src/native.js';
import { compile } from '../../native/compiler.js';
import { descriptorFlags, O_CLOEXEC, openDescriptors, runChild } from './child.js';

const O_NONBLOCK = 0o4000;
const NOBODY = 65534;

function folder(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-descriptors-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

function closing(t: ExecutionContext, fd: number): number {
  t.teardown(() => native().closeDescriptor(fd));
  return fd;
}

function pair(t: ExecutionContext, stream = false): [number, number] {
  const [a, b] = native().socketPair(stream);
  return [closing(t, a), closing(t, b)];
}

const text = (message: { data: Buffer } | undefined) => message?.data.toString();

test.serial('a connection over a path carries messages both ways, boundaries kept', (t) => {
  const path = join(folder(t), 'socket');
  const listener = closing(t, native().unixListen(path, 8, 0o600));
  t.is(native().unixAccept(listener), -1);
  const client = closing(t, native().unixConnect(path));
  const server = closing(t, native().unixAccept(listener));
  t.is(native().receiveMessage(server, 64), undefined);
  t.true(native().sendMessage(client, Buffer.from('one'), []));
  t.true(native().sendMessage(client, Buffer.from('two'), []));
  t.true(native().sendMessage(server, Buffer.from('three'), []));
  t.is(text(native().receiveMessage(server, 64)), 'one');
  t.is(text(native().receiveMessage(server, 64)), 'two');
  t.is(text(native().receiveMessage(client, 64)), 'three');
});

test.serial('every descriptor is close-on-exec and does not block', (t) => {
  const path = join(folder(t), 'socket');
  const listener = closing(t, native().unixListen(path, 8, 0o600));
  const client = closing(t, native().unixConnect(path));
  const server = closing(t, native().unixAccept(listener));
  for (const fd of [listener, client, server, ...pair(t), ...pair(t, true)]) {
    t.is(descriptorFlags(fd) & (O_CLOEXEC | O_NONBLOCK), O_CLOEXEC | O_NONBLOCK);
  }
});

test.serial('a listener gets the mode that was asked for, whatever the umask', (t) => {
  const directory = folder(t);
  for (const mode of [0o600, 0o660, 0o666]) {
    const path = join(directory, mode.toString(8));
    const { stdout, status } = runChild(
      `process.umask(0o077); native().unixListen(${JSON.stringify(path)}, 1, ${mode});`,
    );
    t.is(status, 0, stdout);
    t.is(statSync(path).mode & 0o777, mode);
  }
});

test.serial('a listener that cannot be made leaves nothing behind', (t) => {
  const directory = folder(t);
  const path = join(directory, 'socket');
  writeFileSync(path, '');
  const before = openDescriptors();
  t.throws(() => native().unixListen(path, 1, 0o600), {
    code: 'EADDRINUSE',
    message: `EADDRINUSE: bind: Address already in use, '${path}'`,
  });
  t.throws(() => native().unixListen(join(directory, 'none', 'socket'), 1, 0o600), {
    code: 'ENOENT',
  });
  const long = join(directory, 'x'.repeat(108));
  t.throws(() => native().unixListen(long, 1, 0o600), { code: 'ENAMETOOLONG', message: /107/ });
  t.throws(() => native().unixListen('', 1, 0o600), { code: 'EINVAL' });
  t.throws(() => native().unixListen('a\0b', 1, 0o600), { instanceOf: TypeError });
  t.deepEqual(openDescriptors(), before);
});

test.serial('connect says what is wrong at once, and keeps no descriptor', (t) => {
  const path = join(folder(t), 'socket');
  const before = openDescriptors();
  t.throws(() => native().unixConnect(path), { code: 'ENOENT', message: /connect.*'\/.*socket'/ });
  const listener = native().unixListen(path, 0, 0o600);
  const queued = native().unixConnect(path);
  t.throws(() => native().unixConnect(path), { code: 'EAGAIN' });
  native().closeDescriptor(listener);
  t.throws(() => native().unixConnect(path), { code: 'ECONNREFUSED' });
  native().closeDescriptor(queued);
  t.deepEqual(openDescriptors(), before);
});

const root = process.getuid?.() === 0;
const asRoot = root ? test.serial : test.serial.skip;
if (!root) console.log('skipped: another user’s credentials need root');

asRoot('another user is refused by the mode, and attested if let in', (t) => {
  const directory = folder(t);
  const path = join(directory, 'socket');
  const open = join(directory, 'open');
  const listener = closing(t, native().unixListen(path, 8, 0o600));
  const openListener = closing(t, native().unixListen(open, 8, 0o666));
  chmodSync(directory, 0o755);
  const { stdout } = runChild(
    `native();   // while it can be read
     process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY});
     const attempt = (path) => {
       try { native().unixConnect(path); console.log('connected'); }
       catch (e) { console.log(e.code); }
     };
     attempt(${JSON.stringify(path)});
     attempt(${JSON.stringify(open)});`,
  );
  t.is(stdout, 'EACCES\nconnected\n');
  t.is(native().unixAccept(listener), -1);
  const peer = native().peerCredentials(closing(t, native().unixAccept(openListener)));
  t.deepEqual([peer.uid, peer.gid, peer.groups], [NOBODY, NOBODY, []]);
});

test.serial('peerCredentials are the kernel’s', (t) => {
  const [end] = pair(t);
  const own = native().peerCredentials(end);
  t.is(own.pid, process.pid);
  t.is(own.uid, userInfo().uid);
  t.is(own.gid, userInfo().gid);
  const status = readFileSync('/proc/self/status', 'utf8');
  const groups = /^Groups:[ \t]*(.*)$/m.exec(status)?.[1]?.trim() ?? '';
  t.deepEqual(own.groups, groups === '' ? [] : groups.split(/\s+/).map(Number));
});

asRoot('peerCredentials have all of a user’s groups', (t) => {
  const groups = Array.from({ length: 100 }, (_, i) => 1000 + i);
  const { stdout } = runChild(
    `native();
     process.setgroups(${JSON.stringify(groups)});
     process.setgid(${NOBODY}); process.setuid(${NOBODY});
     const [end] = native().socketPair(true);
     console.log(JSON.stringify(native().peerCredentials(end)));`,
  );
  const peer = JSON.parse(stdout) as ReturnType<ReturnType<typeof native>['peerCredentials']>;
  t.is(peer.uid, NOBODY);
  t.is(peer.gid, NOBODY);
  t.deepEqual(
    peer.groups.sort((a, b) => a - b),
    groups,
  );
});

test.serial('peerCredentials need a socket', (t) => {
  const file = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(file));
  t.throws(() => native().peerCredentials(file), { code: 'ENOTSOCK' });
});

test.serial('descriptors arrive with their message, for the same files, close-on-exec', (t) => {
  const [a, b] = pair(t);
  const paths = Array.from({ length: 16 }, (_, i) => (i === 3 ? tmpdir() : '/dev/null'));
  const files = paths.map((path) => openSync(path, 'r'));
  const before = openDescriptors().length;
  t.true(native().sendMessage(a, Buffer.from('sixteen'), files));
  t.true(native().sendMessage(a, Buffer.from('none'), []));
  const first = native().receiveMessage(b, 64);
  t.is(text(first), 'sixteen');
  t.is(first?.fds.length, 16);
  for (const [i, fd] of (first?.fds ?? []).entries()) {
    t.is(fstatSync(fd).ino, fstatSync(files[i] as number).ino);
    t.truthy(descriptorFlags(fd) & O_CLOEXEC);
    native().closeDescriptor(fd);
  }
  const second = native().receiveMessage(b, 64);
  t.is(text(second), 'none');
  t.deepEqual(second?.fds, []);
  t.is(openDescriptors().length, before);
  for (const fd of files) closeSync(fd);
});

test.serial('what cannot be sent is refused before anything is', (t) => {
  const [a, b] = pair(t);
  const data = Buffer.from('x');
  const wrong: readonly [string, () => unknown][] = [
    ['33 descriptors', () => native().sendMessage(a, data, new Array(33).fill(a))],
    ['nothing', () => native().sendMessage(a, Buffer.alloc(0), [b])],
    ['half a descriptor', () => native().sendMessage(a, data, [0.5])],
    ['a negative one', () => native().sendMessage(a, data, [-1])],
    ['no number', () => native().sendMessage(a, data, ['1' as unknown as number])],
  ];
  for (const [what, run] of wrong) t.throws(run, { instanceOf: RangeError }, what);
  t.throws(() => native().sendMessage(a, data, [1_000_000]), { code: 'EBADF' });
  t.throws(() => native().sendMessage(a, 'x' as unknown as Uint8Array, []), {
    instanceOf: TypeError,
  });
  t.is(native().receiveMessage(b, 64), undefined);
});

test.serial('a view of shared memory can be sent', (t) => {
  const [a, b] = pair(t);
  const bytes = new Uint8Array(new SharedArrayBuffer(16), 4, 5);
  bytes.set(Buffer.from('board'));
  t.true(native().sendMessage(a, bytes, []));
  t.is(text(native().receiveMessage(b, 64)), 'board');
});

test.serial('a full socket says false, and takes more once it is read', (t) => {
  const [a, b] = pair(t, true);
  const byte = Buffer.from('!');
  let sent = 0;
  while (native().sendMessage(a, byte, [])) sent++;
  t.true(sent > 0);
  let received = 0;
  for (;;) {
    const message = native().receiveMessage(b, 65536);
    if (message === undefined) break;
    received += message.data.length;
  }
  t.is(received, sent);
  t.true(native().sendMessage(a, byte, []));
});

test.serial('a part of a message on a stream socket is an error, not a success', (t) => {
  const [a] = pair(t, true);
  t.throws(() => native().sendMessage(a, Buffer.alloc(8 << 20), []), { code: 'EMSGSIZE' });
});

test.serial('the end of the peer is an empty message; sending to it is EPIPE', (t) => {
  const [a, b] = native().socketPair(false);
  closing(t, a);
  native().sendMessage(b, Buffer.from('last'), []);
  native().closeDescriptor(b);
  t.is(text(native().receiveMessage(a, 64)), 'last');
  for (let i = 0; i < 2; i++) {
    const end = native().receiveMessage(a, 64);
    t.is(end?.data.length, 0);
    t.deepEqual(end?.fds, []);
  }
  t.throws(() => native().sendMessage(a, Buffer.from('x'), []), { code: 'EPIPE' });
});

test.serial('a peer that leaves our bytes unread resets the connection', (t) => {
  const [a, b] = native().socketPair(true);
  closing(t, a);
  native().sendMessage(a, Buffer.from('!'), []);
  native().closeDescriptor(b);
  t.throws(() => native().receiveMessage(a, 64), { code: 'ECONNRESET' });
});

test.serial('a message that is too long is refused, and its descriptors are closed', (t) => {
  const [a, b] = pair(t);
  native().sendMessage(a, Buffer.alloc(65), [a, b]);
  native().sendMessage(a, Buffer.from('next'), []);
  const before = openDescriptors();
  t.throws(() => native().receiveMessage(b, 64), { code: 'EMSGSIZE', message: /64 bytes/ });
  t.deepEqual(openDescriptors(), before);
  t.is(text(native().receiveMessage(b, 64)), 'next');
});

const HOSTILE_SENDER = `
#include <string.h>
#include <sys/socket.h>
/* Sends one byte and 40 copies of descriptor 3 over descriptor 3. */
int main(void) {
  union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int) * 40)]; } control;
  char byte = '!';
  struct iovec content = { &byte, 1 };
  struct msghdr message;
  int i, fd = 3;
  memset(&message, 0, sizeof message);
  memset(&control, 0, sizeof control);
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * 40);
  for (i = 0; i < 40; i++) memcpy(CMSG_DATA(header) + sizeof(int) * i, &fd, sizeof fd);
  return sendmsg(3, &message, 0) == 1 ? 0 : 1;
}
`;

test.serial('more descriptors than we take are refused, and every one is closed', (t) => {
  const [a, b] = pair(t);
  const program = compile(folder(t), 'hostile', 'c', HOSTILE_SENDER, ['-O1']);
  const { status } = runChild('', {
    through: ['/bin/sh', '-c', `exec ${program}`, 'sh'],
    fds: [a],
    bare: true,
  });
  t.is(status, 0);
  native().sendMessage(a, Buffer.from('next'), []);
  const before = openDescriptors();
  t.throws(() => native().receiveMessage(b, 64), { code: 'EMSGSIZE', message: /32 descriptors/ });
  t.deepEqual(openDescriptors(), before);
  t.is(text(native().receiveMessage(b, 64)), 'next');
});

test.serial('a process that may open no more is told so, and loses nothing it had', (t) => {
  const { stdout, stderr } = runChild(
    `import fs from 'node:fs';
     const [a, b] = native().socketPair(false);
     native().sendMessage(a, Buffer.from('x'), [a, a, a, a]);
     console.log('start');   // the first output opens a descriptor of libuv's
     const fill = [];
     try { for (;;) fill.push(fs.openSync('/dev/null', 'r')); } catch {}
     fs.closeSync(fill.pop());
     try { native().receiveMessage(b, 64); } catch (e) { console.log(e.code); }
     fill.push(fs.openSync('/dev/null', 'r'));   // the one that was received has been closed
     console.log('room');`,
    { through: ['/bin/sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'] },
  );
  t.is(stderr, '');
  t.is(stdout, 'start\nEMSGSIZE\nroom\n');
});

test.serial('receiving wants a socket and a length within bounds', (t) => {
  const [a] = pair(t);
  const file = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(file));
  t.throws(() => native().receiveMessage(file, 64), { code: 'ENOTSOCK' });
  for (const bytesMax of [0, -1, 1.5, 2 ** 30]) {
    t.throws(() => native().receiveMessage(a, bytesMax), { instanceOf: RangeError });
  }
});

test.serial('a file is locked by one process at a time, until it ends', (t) => {
  const path = join(folder(t), 'lock');
  writeFileSync(path, '');
  const [first, second] = [openSync(path, 'r'), openSync(path, 'r')];
  t.teardown(() => closeSync(second));
  t.true(native().lockFile(first));
  t.true(native().lockFile(first), 'the holder may ask again');
  t.false(native().lockFile(second));
  const attempt = `import fs from 'node:fs';
    console.log(native().lockFile(fs.openSync(${JSON.stringify(path)}, 'r')));`;
  t.is(runChild(attempt).stdout, 'false\n');
  closeSync(first);
  t.is(runChild(`${attempt} process.kill(process.pid, 'SIGKILL');`).stdout, 'true\n');
  t.true(native().lockFile(second));
});

test.serial('a descriptor is closed once', (t) => {
  const [a, b] = native().socketPair(false);
  native().closeDescriptor(a);
  t.throws(() => native().closeDescriptor(a), {
    code: 'EBADF',
    message: 'EBADF: close: Bad file descriptor',
  });
  native().closeDescriptor(b);
});

test.serial('errors have code, errno and syscall as Node’s own have', (t) => {
  const error = t.throws(() => native().unixConnect('/nonexistent/socket')) as
    | NodeJS.ErrnoException
    | undefined;
  t.is(error?.code, 'ENOENT');
  t.is(error?.errno, -2);
  t.is(error?.syscall, 'connect');
});
