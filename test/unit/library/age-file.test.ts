/** Files of age against another implementation of the format, the package age-encryption. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import test from 'ava';
import { AgeFile } from '../../../src/library/age-file.js';
import {
  Identity,
  makeIdentityFile,
  Recipient,
  readIdentityFile,
} from '../../../src/library/age-keys.js';
import { bech32Decode, bech32Encode } from '../../../src/library/bech32.js';
import { PlainFile, readAll } from '../../../src/library/bytes.js';
import { NewFile } from '../../../src/library/new-file.js';
import { inDirectory, randomFrom } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const CHUNK = 64 * 1024;
/** Around the ends of chunks, where the last one is marked. */
const SIZES = [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17];
const label = { set: 'x', belongs: '/srv/ä b\n%', empty: '' };

function noise(bytes: number): Buffer {
  const random = randomFrom(seed + bytes);
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
}

function seal(path: string, data: Buffer, recipients: readonly Recipient[]): void {
  const file = new NewFile(path, { recipients, label });
  // In pieces of all sizes.
  for (let at = 0, n = 1; at < data.length; at += n, n = (n * 7) % 40_009) {
    file.put(data.subarray(at, Math.min(data.length, at + n)));
  }
  file.finish();
}

function opened(path: string, identities: readonly Identity[]): Buffer {
  const file = new AgeFile(new PlainFile(path), identities);
  try {
    const data = Buffer.alloc(file.bytes);
    readAll(file, data, 0);
    return data;
  } finally {
    file.close();
  }
}

/** `inDirectory` for what waits. */
async function directories(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-age-'));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('what is sealed here the other opens, and the other way round, at every size', async (t) => {
  t.log(`seed ${seed}`);
  const [mine, other] = [await generateX25519Identity(), await generateX25519Identity()];
  const identity = Identity.parse(mine);
  t.is(identity.recipient.text, await identityToRecipient(mine));
  t.is(identity.text, mine);
  const recipients = [await identityToRecipient(other), identity.recipient.text];
  await directories(async (directory) => {
    for (const size of SIZES) {
      const data = noise(size);
      const path = join(directory, `${size}`);
      seal(
        path,
        data,
        recipients.map((text) => Recipient.parse(text)),
      );
      for (const key of [mine, other]) {
        const decrypter = new Decrypter();
        decrypter.addIdentity(key);
        const found = await decrypter.decrypt(readFileSync(path));
        t.true(data.equals(found), `${size} bytes`);
      }
      const encrypter = new Encrypter();
      for (const text of recipients) encrypter.addRecipient(text);
      writeFileSync(path, await encrypter.encrypt(data));
      t.true(data.equals(opened(path, [identity])), `${size} bytes of the other`);
    }
  });
});

test('any place is read without the others', (t) => {
  inDirectory((directory) => {
    const identity = Identity.parse(bech32Encode('age-secret-key-', Buffer.alloc(32, 7)));
    const data = noise(5 * CHUNK + 3);
    const path = join(directory, 'f');
    seal(path, data, [identity.recipient]);
    const file = new AgeFile(new PlainFile(path), [identity]);
    const random = randomFrom(seed);
    for (let i = 0; i < 200; i++) {
      const at = Math.floor(random() * data.length);
      const into = Buffer.alloc(Math.min(data.length - at, Math.floor(random() * 200_000)));
      readAll(file, into, at);
      if (!into.equals(data.subarray(at, at + into.length))) t.fail(`${into.length} at ${at}`);
    }
    t.is(file.read(Buffer.alloc(1), 0, 1, data.length), 0);
    file.close();
  });
});

test('every changed byte and every cut is an error, and never data', (t) => {
  inDirectory((directory) => {
    const identity = Identity.parse(bech32Encode('age-secret-key-', Buffer.alloc(32, 7)));
    const data = noise(2 * CHUNK);
    const path = join(directory, 'f');
    seal(path, data, [identity.recipient]);
    const whole = readFileSync(path);
    const codes = { instanceOf: Error, message: /damaged|encrypted|cut/ };
    for (let at = 0; at < whole.length; at += at < 500 ? 1 : 1499) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] as number) ^ 0x10;
      writeFileSync(path, changed);
      t.throws(() => opened(path, [identity]), codes, `byte ${at}`);
    }
    const header = whole.indexOf('\n---') + 100;
    for (const end of [0, 10, header, whole.length - 1, whole.length - 16 - CHUNK, header + 64]) {
      writeFileSync(path, whole.subarray(0, end));
      t.throws(() => opened(path, [identity]), codes, `cut at ${end}`);
    }
  });
});

test("keys: what is none is refused, and an identity file is its owner's alone", (t) => {
  const identity = Identity.parse(bech32Encode('age-secret-key-', Buffer.alloc(32, 3)));
  const { text } = identity.recipient;
  const swapped = `${text.slice(0, -1)}${text.endsWith('q') ? 'p' : 'q'}`;
  for (const bad of ['', 'age1', swapped, text.toUpperCase().slice(1), `${text}q`, identity.text]) {
    t.throws(() => Recipient.parse(bad), { code: 'EINVAL' }, bad);
  }
  const error = t.throws(() => Identity.parse(`${identity.text}X`), { code: 'EINVAL' });
  t.false(error?.message.includes(identity.text.slice(20)), 'a key is not repeated');
  t.is(bech32Decode('age1Q'), null);
  inDirectory((directory) => {
    const file = join(directory, 'key');
    const made = makeIdentityFile(file);
    t.is(statSync(file).mode & 0o777, 0o600);
    t.is(readIdentityFile(file)[0]?.recipient.text, made.text);
    t.throws(() => makeIdentityFile(file), { code: 'EEXIST' });
    writeFileSync(join(directory, 'open'), readFileSync(file), { mode: 0o644 });
    t.throws(() => readIdentityFile(join(directory, 'open')), { code: 'EACCES' });
    writeFileSync(join(directory, 'none'), '# nothing\n', { mode: 0o600 });
    t.throws(() => readIdentityFile(join(directory, 'none')), { code: 'EINVAL' });
  });
});
