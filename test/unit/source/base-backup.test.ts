/** A base backup, from a server that says what a test wants it to say. */
import assert from 'node:assert/strict';
import test from 'ava';
import { native } from '../../../src/native.js';
import {
  BaseBackup,
  type BaseBackupHandler,
  type BaseMember,
} from '../../../src/source/base-backup.js';
import {
  connectPostgresql,
  postgresqlSettings,
} from '../../../src/source/postgresql-connection.js';
import { BEGIN, copyData, END, member, message, READY, serve } from './fake-postgresql.js';

interface Taken {
  readonly members: readonly { readonly name: string; readonly data: Buffer }[];
  readonly manifest: string;
  readonly estimate: number;
  readonly direct: number;
}

/** Reads it all; what comes by `dataFrom` goes through pieces of `room` bytes. */
async function take(connection: string, room = 5000): Promise<Taken> {
  const members: { member: BaseMember; parts: Buffer[] }[] = [];
  let [manifest, estimate, direct] = ['', 0, 0];
  const put = (bytes: Uint8Array): void => void members.at(-1)?.parts.push(Buffer.from(bytes));
  const handler: BaseBackupHandler = {
    estimate: (bytes) => {
      estimate = bytes;
    },
    archive: () => {},
    member: (member) => members.push({ member, parts: [] }),
    data: put,
    dataFrom(from, bytes) {
      const into = Buffer.alloc(room + 2);
      const asked = Math.min(bytes, room);
      const got = from.read(into, 1, asked);
      assert.deepEqual([into[0], into[asked + 1]], [0, 0], 'nothing stands outside');
      put(into.subarray(1, 1 + got));
      direct += got;
      return got;
    },
    manifest: (bytes) => {
      manifest += Buffer.from(bytes).toString();
    },
  };
  const settings = await postgresqlSettings(connection);
  const fd = await connectPostgresql(settings);
  const own = native().duplicateDescriptor(fd);
  try {
    await new BaseBackup({ fd, own, settings, label: 'a test', fast: true }).read(handler);
  } finally {
    native().closeDescriptor(fd);
  }
  const whole = members.map(({ member, parts }) => {
    const data = Buffer.concat(parts);
    assert.equal(data.length, member.size);
    return { name: member.name, data };
  });
  return { members: whole, manifest, estimate, direct };
}

const FILES = [0, 1, 511, 512, 8192, 32768, 32769, 100_000, 1_000_000].map((bytes, i) => ({
  name: `file-${i}`,
  data: Buffer.from(Array.from({ length: bytes }, (_, k) => (k * 7 + i) % 253)),
}));
const WHOLE = Buffer.concat([
  BEGIN,
  copyData('n', 'base.tar\0\0'),
  copyData('p', Buffer.alloc(8)),
  ...FILES.map(({ name, data }) => member(name, data)),
  copyData('m', ''),
  copyData('d', '{"manifest": 1}'),
  END,
]);

for (const cut of [1000, 8192, 32775, 300_000]) {
  test(`all of it arrives, in writes of ${cut} bytes`, async (t) => {
    const taken = await take(await serve(t, { answer: WHOLE, cut }));
    t.deepEqual(taken.members, FILES);
    t.is(taken.manifest, '{"manifest": 1}');
    t.is(taken.estimate, 3 * 1024);
    t.true(taken.direct > 500_000, 'large files are not copied');
  });
}

test('progress in the middle of a file is no data', async (t) => {
  const [file] = FILES.slice(-1) as [(typeof FILES)[number]];
  const all = member(file.name, file.data);
  const at = 518 + 5 * (32768 + 6);
  const progress = copyData('p', Buffer.alloc(8, 1));
  const parts = [all.subarray(0, at), progress, all.subarray(at), copyData('m', ''), END];
  const answer = Buffer.concat([BEGIN, copyData('n', 'base.tar\0\0'), ...parts]);
  const { members } = await take(await serve(t, { answer, cut: 8192 }), 64 << 10);
  t.deepEqual(members, [file]);
});

test('what PostgreSQL says in the middle of a file is the reason', async (t) => {
  const error = message('E', 'SFATAL\0C57P01\0Mthe administrator stops it\0\0');
  const answer = Buffer.concat([WHOLE.subarray(0, WHOLE.length - 500_000), error]);
  // Where a message of data begins.
  const at = answer.lastIndexOf(Buffer.from('640000800564', 'hex'), -600);
  const cutThere = Buffer.concat([answer.subarray(0, at), error]);
  const connection = await serve(t, { answer: cutThere, cut: 8192, end: true });
  await t.throwsAsync(take(connection), { message: 'the administrator stops it' });
});

test('a connection that ends in the middle of a file is told', async (t) => {
  const answer = WHOLE.subarray(0, WHOLE.length - 500_000);
  const connection = await serve(t, { answer, cut: 8192, end: true });
  await t.throwsAsync(take(connection), { code: 'ECONNRESET', message: /ended the connection/ });
});

test('an error in place of a COPY is the reason', async (t) => {
  const error = message('E', 'SERROR\0C42501\0Mno permission\0\0');
  const connection = await serve(t, { answer: Buffer.concat([error, READY]), cut: 8192 });
  await t.throwsAsync(take(connection), { message: 'no permission' });
});

test('what cannot be an archive ends it', async (t) => {
  const bad = Buffer.concat([BEGIN, copyData('n', 'other.tar\0\0'), END]);
  const connection = await serve(t, { answer: bad, cut: 8192 });
  await t.throwsAsync(take(connection), { code: 'EPROTO', message: /another name/ });
});

test('a server that is not there is told by who reads', async (t) => {
  const connection = 'postgresql://postgres@/postgres?host=/nonexistent';
  await t.throwsAsync(take(connection), { code: 'ENOENT' });
});
