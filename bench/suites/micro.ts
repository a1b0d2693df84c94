/**
 * Suite `micro`: what the small operations cost that every message pays for: a lock, a cursor, a
 * descriptor look-up, a call into the addon. One thread, nobody else in the memory: the price
 * without contention. Measured with the package `benchmark`.
 */
import { createRequire } from 'node:module';
import { DescriptorTable, familyOf } from '../../src/connect/descriptor-table.js';
import { stgGeometry } from '../../src/layout/geometry.js';
import { commandOf, MemberRing } from '../../src/memory/member-ring.js';
import { openRing } from '../../src/memory/page-ring.js';
import { Segment } from '../../src/memory/segment.js';
import { native } from '../../src/native.js';

const noCommand = commandOf({ op: 0 });

// CommonJS: required, so that the names are the same on every Node.
const Benchmark = createRequire(import.meta.url)('benchmark') as typeof import('benchmark');

const PAGE_BYTES = 65536;
/** Owner word of a page that nobody reads: connection 3, generation 1. */
const OWNER = 0x40010003;
const SECONDS_EACH = 1;
const TINY_SECONDS = 0.001;

export interface MicroResult {
  readonly name: string;
  /** Of one operation. */
  readonly ns: number;
  /** Relative margin of error of the mean at 95 %, percent. */
  readonly margin: number;
  readonly samples: number;
}

/** Both ends of a stream, and a member ring, in memory of this process alone. */
function makeRig() {
  const addon = native();
  const counts = { boardCount: 4, boardBytes: 2 << 20, connectionCount: 64, memberCount: 4 };
  const geometry = stgGeometry(counts);
  const segment = Segment.reserve(geometry.bytes + PAGE_BYTES);
  for (const [offset, bytes] of [
    [0, geometry.bytes],
    [geometry.bytes, PAGE_BYTES],
  ] as const) {
    const fd = addon.memfdCreate('stpd-micro');
    addon.claim(fd, bytes);
    segment.map(offset, fd, bytes, true);
    addon.closeDescriptor(fd);
  }
  const stg = addon.stgOpen(segment.number, 0, geometry);
  const cables = addon.socketPair(true).map((fd) => addon.cableOpen(fd));
  addon.connectionInit(stg, 0);
  const open = (end: 0 | 1): number =>
    openRing(
      {
        stg,
        connection: 0,
        generation: 1,
        end,
        selfMember: end,
        selfGeneration: 1,
        peerMember: 1 - end,
        cable: cables[end] as number,
      },
      end === 0,
    );
  const [tx, rx] = [open(0), open(1)];
  const close = (): void => {
    addon.ringClose(tx);
    addon.ringClose(rx);
    for (const cable of cables) addon.cableClose(cable);
    addon.stgClose(stg);
  };
  return { addon, segment, stg, tx, rx, ring: new MemberRing(segment, geometry.bytes), close };
}

/** Where results go, so that no operation is left out. */
const sink = new Float64Array(1);

type Rig = ReturnType<typeof makeRig>;

function descriptorsOf(count: number): { table: DescriptorTable<object>; fds: number[] } {
  const table = new DescriptorTable<object>();
  const fds = Array.from({ length: count }, () => table.add('stp', () => ({})));
  return { table, fds };
}

/** Name and operation; each leaves everything as it found it. */
function operations({ addon, segment, stg, tx, rx, ring }: Rig): [string, () => void][] {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const small = Buffer.alloc(64, 1);
  const page = Buffer.alloc(PAGE_BYTES, 1);
  const { table, fds } = descriptorsOf(1000);
  let next = 0;
  const pass = (buffer: Buffer) => () => {
    addon.ringWrite(tx, buffer, 0, buffer.length, 0);
    sink[0] = addon.ringRead(rx, buffer, 0, buffer.length, 0);
  };
  return [
    [
      'lock and unlock a word: two compare-and-swaps in JavaScript',
      () => {
        Atomics.compareExchange(word, 0, 0, 1);
        Atomics.compareExchange(word, 0, 1, 0);
      },
    ],
    [
      'a call into the addon: where a cursor stands',
      () => {
        sink[0] = addon.ringCursor(tx);
      },
    ],
    [
      'state of a ring: both cursors and the close notice',
      () => {
        sink[0] = addon.ringState(rx);
      },
    ],
    [
      'claim and release a page: two compare-and-swaps of its owner word',
      () => {
        addon.pageRelease(stg, addon.pageClaim(stg, OWNER, 0), OWNER);
      },
    ],
    ['64 B through a ring, with the board lock: write, read', pass(small)],
    [
      '64 B through a ring, in place: reserve, commit, peek, consume',
      () => {
        addon.ringReserve(tx, 0);
        addon.ringCommit(tx, small.length);
        addon.ringPeek(rx, 0);
        addon.ringConsume(rx, small.length);
      },
    ],
    ['64 KiB through a ring, with the board lock: write, read', pass(page)],
    [
      'a command through a member ring: write, read',
      () => {
        ring.writeCommand(noCommand);
        ring.readCommand();
      },
    ],
    [
      'wake somebody who is awake: one exchange of its sleep word',
      () => {
        addon.wordWake(segment.number, 0, 0);
      },
    ],
    [
      'look a descriptor up among 1,000',
      () => {
        next = (next + 1) % fds.length;
        table.get(fds[next] as number, 'send');
      },
    ],
    [
      "a descriptor's mechanism by its value",
      () => {
        next = (next + 1) % fds.length;
        sink[0] = familyOf(fds[next] as number).length;
      },
    ],
  ];
}

export function runMicro(options: { tiny: boolean; log: (line: string) => void }): MicroResult[] {
  const rig = makeRig();
  const results: MicroResult[] = [];
  const maxTime = options.tiny ? TINY_SECONDS : SECONDS_EACH;
  for (const [name, fn] of operations(rig)) {
    options.log(name);
    const bench = new Benchmark(name, fn, {
      maxTime,
      ...(options.tiny && { minTime: TINY_SECONDS, minSamples: 1, initCount: 1 }),
    });
    bench.run({ async: false });
    if (bench.error !== undefined) throw bench.error;
    const { mean, rme, sample } = bench.stats;
    results.push({ name, ns: mean * 1e9, margin: rme, samples: sample.length });
  }
  rig.close();
  return results;
}
