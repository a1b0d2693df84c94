import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { checkLibrary, type LibraryCheck } from '../../../src/library/check-library.js';
import { digestOfFile } from '../../../src/library/digest.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import type { MediaAccess } from '../../../src/library/media-plan.js';
import { readFileOf } from '../../../src/library/read-file.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { sendSet } from '../../../src/library/send-set.js';
import { openChain, parentListOf } from '../../../src/library/set-tree.js';
import { backUp, restored, tryFlips } from './flips.js';
import { Generations } from './generations.js';
import {
  type Kind,
  kinds,
  makeTree,
  newIdentity,
  newIdentityText,
  owner,
  server,
  VOLUME_BYTES,
} from './media-kinds.js';
import { hasProgram, inMemory, lockFile, MemoryPipe, run } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

interface Rig {
  readonly directory: string;
  readonly source: string;
  readonly library: Library;
  readonly set: StoredSet;
}

function withSet(kind: Kind, body: (rig: Rig) => void): void {
  inMemory((directory) => {
    const source = join(directory, 'source');
    makeTree(source, seed);
    const library = Library.open(join(directory, 'library'), { lockFile, access: kind.access });
    backUp(library, source, { plan: kind.plan });
    body({ directory, source, library, set: library.openSet('latest') });
  });
}

const reopened = (library: Library, access: MediaAccess): Library =>
  Library.open(library.directory, { lockFile, access });

function check(library: Library, kind: 'structure' | 'data'): LibraryCheck & { found: string[] } {
  const found: string[] = [];
  const onAbsent = (_set: string, { text }: { text: string }) => found.push(`absent: ${text}`);
  const onProblem = (p: { message: string }) => found.push(p.message);
  return { ...checkLibrary(library, [], { kind }, { onProblem, onAbsent }), found };
}

function cat(set: StoredSet, path: string): Buffer {
  const parts: Buffer[] = [];
  const to = { update: (bytes: Uint8Array) => parts.push(Buffer.from(bytes)) };
  readFileOf([set], Buffer.from(path.slice(1)), to);
  return Buffer.concat(parts);
}

/** What the library's page says to do without this program. */
function extract(set: StoredSet, kind: Kind, target: string, keyFile: string): void {
  const names = set.volumes().map(({ name }) => join(set.directory, name));
  const { compress, encrypt } = set.summary.coding ?? {};
  const each = encrypt ? `age -d -i ${keyFile} "$f"` : compress ? 'cat "$f"' : 'tail -c +4097 "$f"';
  const decode = compress ? '| zstd -dcq' : '';
  const tar = `tar -xpf - -C ${target}`;
  run('sh', ['-ec', `for f in "$@"; do ${each}; done ${decode} | ${tar}`, kind.name, ...names]);
}

for (const kind of kinds) {
  const { plan, name } = kind;

  test.serial(`${name}: checks, restores, is read in part, and builds on itself`, (t) => {
    t.log(`seed ${seed}`);
    withSet(kind, ({ directory, source, library, set }) => {
      for (const depth of ['structure', 'data'] as const) {
        const { found, entries, absentVolumes, sealedSets } = check(library, depth);
        t.deepEqual(
          { found, absentVolumes, sealedSets },
          { found: [], absentVolumes: 0, sealedSets: [] },
        );
        t.true(entries > 10);
      }
      const plain = Library.open(join(directory, 'plain'), { lockFile });
      const id = backUp(plain, source);
      const target = join(directory, 'target');
      const expected = restored(plain, id, target, source);
      t.truthy(expected);
      t.is(restored(library, set.id, target, source), expected);
      t.is(set.summary.mediaBytes, plain.openSet(id).summary.mediaBytes);
      for (const file of ['large/a-noise', 'large/b-text', 'large/c-noise', 'f511']) {
        t.true(cat(set, join(source, file)).equals(readFileSync(join(source, file))));
      }
    });
  });

  test.serial(
    `${name}: a check of all data tells how far it is, volumes as files included`,
    (t) => {
      withSet(kind, ({ library, set }) => {
        const files = set.volumes().reduce((sum, { facts }) => sum + facts.bytes, 0);
        const calls: number[] = [];
        let all = 0;
        checkLibrary(
          library,
          [],
          { kind: 'data' },
          {
            onProblem: ({ message }) => t.fail(message),
            onProgress(bytes, total) {
              calls.push(bytes);
              all = total;
            },
          },
        );
        t.is(all, files + set.summary.mediaBytes);
        t.deepEqual(
          calls,
          [...calls].sort((a, b) => a - b),
        );
        const last = calls.at(-1) as number;
        t.true(last > 0.9 * all && last <= all, `${last} of ${all}`);
        // As files, before any of it is decoded.
        t.is(calls.filter((bytes) => bytes > 0 && bytes <= files).length > 0, files > 0);
      });
    },
  );

  test.serial(
    `${name}: each volume has its size and its digest, and its label can be read`,
    (t) => {
      withSet(kind, ({ set, library }) => {
        const volumes = set.volumes();
        t.is(volumes.length > 1, plan.volumeBytes !== undefined);
        for (const { path, facts, name: file } of volumes) {
          t.is(digestOfFile(path as string).blake3, facts.blake3);
          if (plan.volumeBytes !== undefined) t.true(facts.bytes <= VOLUME_BYTES);
          const head = readFileSync(path as string)
            .subarray(0, 4096)
            .toString('latin1');
          for (const word of [set.id, 'here', file, join(library.directory, 'sets', set.id)]) {
            t.true(head.includes(word), `${file} says ${word}`);
          }
        }
        const manifest = set.manifest();
        for (const _ of manifest);
        const facts = volumes.map((v) => v.facts);
        t.deepEqual(set.summary.volumes, facts);
        t.deepEqual(manifest.trailer?.volumes, facts);
      });
    },
  );

  const tools = [...(plan.level ? ['zstd'] : []), ...(plan.recipients ? ['age'] : [])];
  const absent = tools.filter((tool) => !hasProgram(tool));
  (absent.length > 0 ? test.serial.skip : test.serial)(
    `${name}: standard tools extract it${absent.map((tool) => `; ${tool} is not here`).join('')}`,
    (t) => {
      withSet(kind, ({ directory, source, set }) => {
        const keyFile = join(directory, 'key');
        writeFileSync(keyFile, `${newIdentityText(1)}\n`);
        const target = join(directory, 'extracted');
        run('mkdir', [target]);
        extract(set, kind, target, keyFile);
        const how = ['-aHn', '--checksum', '--itemize-changes', '--delete'];
        t.is(run('rsync', [...how, `${source}/`, `${target}${source}/`]).toString(), '');
      });
    },
  );

  test.serial(`${name}: an incremental set builds on it`, (t) => {
    inMemory((directory) => {
      const rig = new Generations(directory, kind);
      makeTree(rig.source, seed);
      rig.full();
      writeFileSync(join(rig.source, 'f0'), 'new');
      const second = rig.incremental();
      t.is(second.set.summary.coding?.compress, plan.level === undefined ? undefined : 'zstd');
      const { tree } = rig.restore(second.set, join(directory, 'target'));
      const how = ['-aHn', '--checksum', '--itemize-changes', '--delete'];
      t.is(run('rsync', [...how, `${rig.source}/`, `${tree}/`]).toString(), '');
      t.deepEqual(check(rig.library, 'data').found, []);
    });
  });

  test.serial(
    `${name}: some hundred changed bits are all found, and none restores silently`,
    (t) => {
      t.log(`seed ${seed}`);
      t.deepEqual(tryFlips(120, seed, 4, 'chain', kind), { flips: 120, missed: [], silent: [] });
    },
  );

  test.serial(
    `${name}: repair moves what is damaged away, and takes it back when it is good again`,
    (t) => {
      withSet(kind, ({ library, set }) => {
        const path = set.volumes().at(-1)?.path as string;
        const good = readFileSync(path);
        const bad = Buffer.from(good);
        bad[bad.length >> 1] = (bad[bad.length >> 1] as number) ^ 4;
        writeFileSync(path, bad);
        t.like(repairLibrary(library, false), [{ set: set.id, action: 'moved' }]);
        t.deepEqual(library.list(), { sets: [], damaged: [] });
        writeFileSync(path.replace('/sets/', '/damaged/'), good);
        t.like(repairLibrary(library, false), [{ set: set.id, action: 'returned' }]);
        t.deepEqual(check(library, 'data').found, []);
      });
    },
  );
}

const inVolumes = kinds.filter(({ plan }) => plan.volumeBytes !== undefined);
for (const kind of inVolumes) {
  const { name } = kind;

  test.serial(`${name}: a volume that was moved off is named, and read where it lies`, (t) => {
    withSet(kind, ({ directory, source, library, set }) => {
      const away = join(directory, 'away');
      run('mkdir', [away]);
      const expected = restored(library, set.id, join(directory, 'target'), source);
      const second = set.volumes()[1];
      renameSync(second?.path as string, join(away, second?.name as string));
      const text = `volume 2 of set ${set.id} (host here)`;
      for (const depth of ['structure', 'data'] as const) {
        const { found, problems, absentVolumes } = check(library, depth);
        t.deepEqual(
          { found, problems, absentVolumes },
          { found: [`absent: ${text}`], problems: 0, absentVolumes: 1 },
        );
      }
      const pipe = new MemoryPipe();
      const error = t.throws(() => sendSet(pipe, set), { code: 'ENOENT' });
      t.true(error?.message.includes(text));
      t.regex(error?.message ?? '', /bring it back, or name its directory with --media$/);
      t.throws(() => cat(set, join(source, 'large/a-noise')), { code: 'ENOENT' });
      // What lies in other volumes needs those only.
      t.true(cat(set, join(source, 'large/c-noise')).length === 100_001);
      t.deepEqual(repairLibrary(library, false), []);
      const there = reopened(library, { ...kind.access, search: [join(directory, 'x'), away] });
      t.deepEqual(check(there, 'data').found, []);
      t.is(restored(there, set.id, join(directory, 'target'), source), expected);
    });
  });

  test.serial(`${name}: a volume that was cut is damage`, (t) => {
    withSet(kind, ({ library, set }) => {
      const path = set.volumes()[0]?.path as string;
      writeFileSync(path, readFileSync(path).subarray(0, 5000));
      const { found, absentVolumes } = check(library, 'structure');
      t.is(absentVolumes, 0);
      t.regex(found.join('\n'), /v0001.* has 5000 bytes instead of \d+/);
      t.throws(() => sendSet(new MemoryPipe(), set), { code: 'EINVAL', message: /5000 bytes/ });
    });
  });
}

const sealed = kinds.filter(({ plan }) => plan.recipients !== undefined);
for (const kind of sealed) {
  const { name, plan } = kind;

  test.serial(`${name}: nothing of names or data can be read without an identity`, (t) => {
    withSet(kind, ({ library, set, source }) => {
      for (const file of readdirSync(set.directory)) {
        const bytes = readFileSync(join(set.directory, file)).toString('latin1');
        for (const word of ['a-noise', 'same again', 'f3000']) t.false(bytes.includes(word), file);
      }
      const stranger = reopened(library, { search: [], identities: [newIdentity(9)] });
      const nobody = reopened(library, { search: [], identities: [] });
      for (const other of [stranger, nobody]) {
        const asked = other.openSet(set.id);
        t.throws(() => cat(asked, join(source, 'f1')), {
          code: 'EACCES',
          message: /--identity FILE/,
        });
        t.throws(() => sendSet(new MemoryPipe(), asked), { code: 'EACCES' });
        const { found, sealedSets, problems } = check(other, 'data');
        t.deepEqual(
          { found, sealedSets, problems },
          { found: [], sealedSets: [set.id], problems: 0 },
        );
      }
    });
  });

  test.serial(`${name}: changed bits are found without an identity`, (t) => {
    const access = { search: [], identities: [] };
    const { missed } = tryFlips(40, seed, 0, 'full', { plan, access });
    t.deepEqual(missed, []);
  });

  test.serial(`${name}: the server's identity for lists reads names, and no data`, (t) => {
    const withLists = { ...plan, listRecipient: server.recipient };
    const access = { search: [], identities: [server] };
    withSet({ ...kind, plan: withLists, access }, ({ set, source }) => {
      t.true([...set.manifest()].some((r) => r.kind === 'entry' && r.path.includes('a-noise')));
      set.openList().close();
      t.throws(() => cat(set, join(source, 'f1')), { code: 'EACCES' });
    });
  });

  test.serial(`${name}: without a key for the list no incremental set builds on it`, (t) => {
    withSet(kind, ({ library, set, source }) => {
      const blind = reopened(library, { search: [], identities: [] });
      t.throws(() => parentListOf(blind.openSet(set.id)), { code: 'EACCES' });
      t.throws(() => backUp(library, source, { parent: set.id }), {
        code: 'EINVAL',
        message: /is encrypted, and so must be what is made against it/,
      });
      t.is(openChain(library, set).length, 1);
    });
  });
}

test.serial('a plain set is one file that any tar reads, as before', (t) => {
  inMemory((directory) => {
    const source = join(directory, 'source');
    makeTree(source, seed);
    const library = Library.open(join(directory, 'library'), { lockFile });
    const set = library.openSet(backUp(library, source));
    t.deepEqual(readdirSync(set.directory).sort(), [
      'manifest.jsonl',
      'media.tar',
      'set.json',
      'tree.index',
    ]);
    t.false('coding' in set.summary || 'volumes' in set.summary);
    t.is(statSync(set.mediaPath).size, set.summary.mediaBytes);
  });
});

test.serial(
  'the first volume is an archive by itself, and others from their first whole member on',
  (t) => {
    const [kind] = kinds as [Kind];
    withSet(kind, ({ set }) => {
      const [first] = set.volumes();
      const listed = run('sh', [
        '-c',
        'tar -tf "$1" 2>/dev/null || true',
        'sh',
        first?.path as string,
      ]);
      t.regex(listed.toString(), /source\/f0\n/);
    });
  },
);

test.serial('media that cannot be are refused before anything is written', (t) => {
  inMemory((directory) => {
    const library = Library.open(join(directory, 'library'), { lockFile });
    for (const plan of [{ volumeBytes: 1000 }, { level: 0 }, { level: 20 }]) {
      const begin = () => library.beginSet({ host: 'h', roots: [], stpd: '0' }, { plan });
      t.throws(begin, { code: 'EINVAL' });
    }
    t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
  });
  t.is(owner.recipient.text.length, 62);
});
