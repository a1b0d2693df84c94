import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  checkMemory,
  MemoryRefusedError,
  memoryLimits,
  memoryNeeded,
} from '../../../src/daemon/memory-check.js';
import { smallConfiguration, temporaryDirectory } from './workbench.js';

const MIB = 2 ** 20;

/** A root directory with these files. */
function machine(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = temporaryDirectory(t);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const mount = (type: string, point: string, options: string, root = '/'): string =>
  `30 20 0:26 ${root} ${point} rw,nosuid shared:9 - ${type} ${type} ${options}\n`;

const megabytes = (root: string): number[] => memoryLimits(root).map(({ bytes }) => bytes / MIB);

test('available memory is a limit', (t) => {
  const root = machine(t, {
    'proc/meminfo': 'MemTotal:       8388608 kB\nMemAvailable:    1048576 kB\n',
  });
  t.deepEqual(megabytes(root), [1024]);
});

test('a machine that tells nothing has no limits', (t) => {
  t.deepEqual(memoryLimits(machine(t, {})), []);
});

test('this machine tells its available memory', (t) => {
  t.true(memoryLimits().some(({ source, bytes }) => /MemAvailable/.test(source) && bytes > 0));
});

test('version 2: each cgroup up to the mount limits, "max" does not, clean cache is free', (t) => {
  const root = machine(t, {
    'proc/self/cgroup': '0::/a/b\n',
    'proc/self/mountinfo': mount('cgroup2', '/sys/fs/cgroup', 'rw'),
    'sys/fs/cgroup/a/b/memory.max': 'max\n',
    'sys/fs/cgroup/a/b/memory.current': '0\n',
    'sys/fs/cgroup/a/memory.max': `${512 * MIB}\n`,
    'sys/fs/cgroup/a/memory.high': `${400 * MIB}\n`,
    'sys/fs/cgroup/a/memory.current': `${300 * MIB}\n`,
    'sys/fs/cgroup/a/memory.stat': `anon 5\ninactive_file ${100 * MIB}\nactive_file 1\n`,
  });
  t.deepEqual(megabytes(root), [312, 200]);
});

test('version 2: a cgroup that is over its limit gives nothing', (t) => {
  const root = machine(t, {
    'proc/self/cgroup': '0::/\n',
    'proc/self/mountinfo': mount('cgroup2', '/sys/fs/cgroup', 'rw'),
    'sys/fs/cgroup/memory.max': `${MIB}\n`,
    'sys/fs/cgroup/memory.current': `${2 * MIB}\n`,
  });
  t.deepEqual(megabytes(root), [0]);
});

test('version 2: a container sees its own cgroup as the mount’s root', (t) => {
  const root = machine(t, {
    'proc/self/cgroup': '0::/docker/abc\n',
    'proc/self/mountinfo': mount('cgroup2', '/sys/fs/cgroup', 'rw', '/docker/abc'),
    'sys/fs/cgroup/memory.max': `${64 * MIB}\n`,
    'sys/fs/cgroup/memory.current': `${4 * MIB}\n`,
  });
  t.deepEqual(megabytes(root), [60]);
});

test('version 1: the memory controller limits, "no limit" does not', (t) => {
  const root = machine(t, {
    'proc/self/cgroup': '9:cpu,cpuacct:/x\n4:memory:/x/y\n1:name=systemd:/x\n0::/\n',
    'proc/self/mountinfo':
      mount('cgroup', '/sys/fs/cgroup/cpu', 'rw,cpu,cpuacct') +
      mount('cgroup', '/sys/fs/cgroup/memory', 'rw,memory'),
    'sys/fs/cgroup/memory/x/memory.limit_in_bytes': '9223372036854771712\n',
    'sys/fs/cgroup/memory/x/memory.usage_in_bytes': '1\n',
    'sys/fs/cgroup/memory/x/y/memory.limit_in_bytes': `${256 * MIB}\n`,
    'sys/fs/cgroup/memory/x/y/memory.usage_in_bytes': `${100 * MIB}\n`,
    'sys/fs/cgroup/memory/x/y/memory.stat': `inactive_file 9\ntotal_inactive_file ${44 * MIB}\n`,
  });
  t.deepEqual(megabytes(root), [200]);
});

test('a file size limit is one; "unlimited" is none', (t) => {
  const limits = (value: string) =>
    machine(t, {
      'proc/self/limits': `Limit  Soft Limit  Hard Limit  Units\nMax file size    ${value}   unlimited   bytes\n`,
    });
  t.deepEqual(megabytes(limits(String(10 * MIB))), [10]);
  t.deepEqual(megabytes(limits('unlimited')), []);
});

test('an array that fits exactly is accepted, one byte less is refused', (t) => {
  const needed = memoryNeeded(smallConfiguration);
  t.true(needed > smallConfiguration.boards * smallConfiguration.boardBytes);
  t.notThrows(() => checkMemory(smallConfiguration, [{ bytes: needed, source: 'x' }]));
  t.throws(() => checkMemory(smallConfiguration, [{ bytes: needed - 1, source: 'x' }]), {
    instanceOf: MemoryRefusedError,
  });
});

test('the tightest limit is named, with the numbers and what would fit', (t) => {
  const configuration = { ...smallConfiguration, boards: 64, boardBytes: 64 * MIB };
  const limits = [
    { bytes: 2 ** 40, source: 'the sky' },
    { bytes: 2 ** 30, source: 'the ceiling' },
  ];
  const error = t.throws(() => checkMemory(configuration, limits));
  t.regex(error?.message ?? '', /64 boards of 64MiB are 4 GiB.*can give 1 GiB \(the ceiling\)/);
  const advised = Number(/--memory ([0-9]+)MiB or less/.exec(error?.message ?? '')?.[1]);
  t.notThrows(() => checkMemory({ ...configuration, boards: advised / 64 }, limits));
  t.throws(() => checkMemory({ ...configuration, boards: advised / 64 + 1 }, limits));
});

test('where nothing would fit, no size is advised', (t) => {
  const error = t.throws(() => checkMemory(smallConfiguration, [{ bytes: 0, source: 'x' }]));
  t.notRegex(error?.message ?? '', /--memory/);
});
