/**
 * A program that was let into an STG and does what it likes there, as a seed says. Argument: a
 * HostileSetup as JSON. It ends by itself after so many rounds.
 *
 *   memory   noise into the STG's control area and boards: cursors, page lists, owner words, wait and
 *            sleep words, locks, ready bits, flags, the words of slots and members
 *   ring     commands of random words through its own member ring, lying cursors of that ring, and
 *            messages with descriptors over every socket it has
 *   attach   messages on the attach socket that are no requests, or nearly
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { attach, type Host } from '../../src/index.js';
import { MEMBER_RING_SLOTS, SEGMENT_MAP } from '../../src/layout/geometry.js';
import { layoutHash } from '../../src/layout/hash.js';
import {
  BOARD,
  CONNECTION,
  DIRECTION,
  LAYOUT_VERSION,
  MEMBER,
  MEMBER_RING,
} from '../../src/layout/tables.js';
import { ATTACH_MESSAGE_BYTES_MAX } from '../../src/limits.js';
import { native } from '../../src/native.js';
import { ATTACH_VERSION } from '../../src/socket/attach-protocol.js';
import { Dice } from '../support/random.js';
import { stgOffset } from '../support/stg-offset.js';

export type HostileKind = 'memory' | 'ring' | 'attach';

export interface HostileSetup {
  readonly kind: HostileKind;
  readonly runDirectory: string;
  readonly stg: string;
  readonly seed: number;
  readonly rounds: number;
}

const WRITES_A_ROUND = 40;
/** Slots are given out from the first on: these are in use. */
const SLOTS_AIMED_AT = 12;
const MEMBERS_AIMED_AT = 6;
const PAUSE_MS = 1;
const OP_MAX = 12;
/** Where Node has the channel to its parent. */
const IPC_FD = Number(process.env.NODE_CHANNEL_FD ?? 3);

const sleepWord = new Int32Array(new SharedArrayBuffer(4));
const rest = (ms: number): void => void Atomics.wait(sleepWord, 0, 0, ms);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A word as an attacker would choose it: near what is there, near a bound, or anything. */
function word(dice: Dice, now: number): number {
  switch (dice.whole(0, 7)) {
    case 0:
      return 0;
    case 1:
      return 0xffffffff;
    case 2:
      return (now + dice.whole(-70_000, 70_000)) >>> 0;
    case 3:
      return (now ^ (1 << dice.whole(0, 31))) >>> 0;
    case 4:
      return dice.whole(0, 4);
    case 5:
      return dice.whole(0, 2000);
    case 6:
      return (1 << dice.whole(0, 31)) >>> 0;
    default:
      return dice.whole(0, 0xffffffff);
  }
}

// --- memory ------------------------------------------------------------------------------------

/** Places in the STG's file that somebody looks at, and how often they are chosen. */
function places(host: Host, dice: Dice): () => number {
  const g = host.geometry;
  const base = stgOffset(host);
  const inside = (at: number, bytes: number): number =>
    base + at + dice.whole(0, bytes / 4 - 1) * 4;
  const direction = (): number =>
    base +
    g.connections +
    dice.whole(0, SLOTS_AIMED_AT) * CONNECTION.bytes +
    CONNECTION.at.directions +
    dice.whole(0, 1) * DIRECTION.bytes;
  const wordsOfDirection = Object.values(DIRECTION.at);
  const choices: (() => number)[] = [
    () => direction() + dice.one(wordsOfDirection),
    () => direction() + dice.one([DIRECTION.at.head, DIRECTION.at.tail]),
    () => direction() + DIRECTION.at.pages + dice.whole(0, 63) * 4,
    () => inside(g.connections, SLOTS_AIMED_AT * CONNECTION.bytes),
    () => inside(g.owners, g.pageCount * 4),
    () => inside(g.members, MEMBERS_AIMED_AT * MEMBER.bytes),
    () => inside(g.boards, g.boardCount * BOARD.bytes),
    () => base + g.boards + dice.whole(0, g.boardCount - 1) * BOARD.bytes + dice.whole(0, 1) * 4,
    () => inside(g.readySummary, g.memberCount * g.readySummaryBytes),
    () => inside(g.readyBits, MEMBERS_AIMED_AT * g.readyBitsBytes),
    () => inside(g.header, 256),
    () => inside(g.memory, g.boardCount * g.boardBytes),
  ];
  return () => dice.one(choices)();
}

async function spoilMemory(setup: HostileSetup, dice: Dice): Promise<void> {
  const host = await attach({ ...setup, name: 'hostile' });
  const place = places(host, dice);
  for (let round = 0; round < setup.rounds; round++) {
    for (let i = 0; i < WRITES_A_ROUND; i++) {
      const at = place();
      host.segment.store(at, word(dice, host.segment.load(at)));
    }
    rest(PAUSE_MS);
    if (round % 16 === 0) await turn();
  }
  process.exit(0); /* also its own exit hooks read what it has spoiled */
}

// --- its own ring ------------------------------------------------------------------------------

/** Where its own member ring is mapped: the one that is not zero. */
function ringOf(host: Host): number {
  for (let slot = 0; slot < MEMBER_RING_SLOTS; slot++) {
    const at = SEGMENT_MAP.memberRings + slot * SEGMENT_MAP.memberRingBytes;
    if (host.segment.load(at + MEMBER_RING.at.commandTail) !== 0) return at;
  }
  throw new Error('no member ring was found');
}

function ownSockets(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      try {
        return fd > 2 && readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
      } catch {
        return false;
      }
    });
}

/** Bytes that are no message, or nearly one, with descriptors nobody asked for. */
function sendNoise(dice: Dice, fd: number): void {
  const texts = ['{', '{"cable":1}', '{"grown":{"extent":1}}', '{"deleted":true}', 'x', ''];
  const noise = Buffer.from(Array.from({ length: dice.whole(1, 300) }, () => dice.whole(0, 255)));
  const data = dice.chance(0.5) ? Buffer.from(`${dice.one(texts)} `) : noise;
  const [one, other] = native().socketPair(dice.chance(0.5));
  try {
    native().sendMessage(fd, data, dice.chance(0.5) ? [one, other] : []);
  } catch {
    /* not a socket for that, or its other end is gone */
  } finally {
    native().closeDescriptor(one);
    native().closeDescriptor(other);
  }
}

async function spoilRing(setup: HostileSetup, dice: Dice): Promise<void> {
  for (let round = 0; round < setup.rounds; round++) {
    const host = await attach({ ...setup, name: 'hostile' });
    await host.bind(0).catch(() => {});
    const ring = ringOf(host);
    for (let i = 0; i < WRITES_A_ROUND && host.detached === undefined; i++) {
      const op = dice.chance(0.9) ? dice.whole(0, OP_MAX) : word(dice, 0);
      host.tell({
        op,
        seq: word(dice, 1),
        socket: word(dice, 1),
        port: dice.chance(0.7) ? dice.whole(990, 1010) : word(dice, 1000),
        backlog: word(dice, 1),
        connection: dice.chance(0.7) ? dice.whole(0, SLOTS_AIMED_AT) : word(dice, 0),
        generation: dice.chance(0.7) ? dice.whole(1, 30) : word(dice, 1),
        localPort: dice.chance(0.5) ? 0 : word(dice, 40_000),
        reason: word(dice, 0),
        address0: word(dice, 0),
      });
      if (dice.chance(0.1)) {
        for (const fd of ownSockets()) if (fd !== IPC_FD && dice.chance(0.3)) sendNoise(dice, fd);
      }
      if (dice.chance(0.3)) await turn();
    }
    if (dice.chance(0.7) && host.detached === undefined) {
      const at = ring + dice.one(Object.values(MEMBER_RING.at));
      host.segment.store(at, word(dice, host.segment.load(at)));
      host.tell({ op: dice.whole(0, OP_MAX) });
      rest(PAUSE_MS);
    }
    await turn();
    await host.close().catch(() => {});
  }
  process.exit(0);
}

// --- the attach socket -------------------------------------------------------------------------

/** An attach request in which something is not as it should be; or all is. */
function request(dice: Dice, stg: string): Buffer {
  const good: Record<string, unknown> = {
    op: 'attach',
    version: ATTACH_VERSION,
    layoutVersion: LAYOUT_VERSION,
    layoutHash: layoutHash(),
    stg,
    name: 'noise',
  };
  const odd = [null, -1, 2 ** 53, '', 'x'.repeat(70_000), '../../etc', [], {}, true, '\0', '💾'];
  for (let i = dice.whole(0, 2); i > 0; i--) good[dice.one(Object.keys(good))] = dice.one(odd);
  if (dice.chance(0.1)) good.more = odd;
  const text = Buffer.from(JSON.stringify(good));
  switch (dice.whole(0, 5)) {
    case 0:
      return text.subarray(0, dice.whole(0, text.length));
    case 1:
      text[dice.whole(0, text.length - 1)] = dice.whole(0, 255);
      return text;
    case 2:
      return Buffer.alloc(dice.whole(1, 2 * ATTACH_MESSAGE_BYTES_MAX), dice.whole(0, 255));
    default:
      return text;
  }
}

async function spoilAttach(setup: HostileSetup, dice: Dice): Promise<void> {
  const path = join(setup.runDirectory, 'attach.sock');
  const open: number[] = [];
  for (let round = 0; round < setup.rounds; round++) {
    try {
      const fd = native().unixConnect(path);
      open.push(fd);
      for (let i = dice.whole(0, 3); i > 0; i--) {
        const data = request(dice, setup.stg);
        const [one, other] = native().socketPair(true);
        try {
          native().sendMessage(fd, data, dice.chance(0.3) ? [one, other] : []);
        } catch {
          /* too long for a message, or it was closed already */
        }
        native().closeDescriptor(one);
        native().closeDescriptor(other);
      }
    } catch {
      rest(PAUSE_MS); /* the backlog is full */
    }
    while (open.length > dice.whole(0, 20)) native().closeDescriptor(open.shift() as number);
    if (round % 8 === 0) rest(PAUSE_MS);
  }
  process.exit(0);
}

/* What it spoils it reads as well. */
process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
const setup = JSON.parse(process.argv[2] ?? '') as HostileSetup;
const dice = new Dice(setup.seed);
const kinds = { memory: spoilMemory, ring: spoilRing, attach: spoilAttach };
await kinds[setup.kind](setup, dice);
