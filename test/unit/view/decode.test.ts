/** From memory to figures, with memory that hosts have spoiled as well. */
import test from 'ava';
import { SEGMENT_MAP } from '../../../src/layout/geometry.js';
import {
  BOARD,
  CONNECTION,
  MEMBER,
  NUMBERS,
  STG_DIRECTORY_ENTRIES,
  STG_ENTRY,
  SUPERBLOCK,
  WINDOW_BYTES,
} from '../../../src/layout/tables.js';
import { decodeFigures, decodeSockets, isoTime } from '../../../src/view/decode.js';
import type { SocketReport } from '../../../src/view/figures.js';
import { random } from '../memory/rig.js';
import { type ArrayRig, arrayRig, PORTS_MAX } from './rig.js';

const figuresOf = (rig: ArrayRig) => decodeFigures(rig.segment, { pid: 'self' });
const sides = (rig: ArrayRig): [SocketReport, SocketReport] => {
  const [near, far] = decodeSockets(rig.segment);
  return [near as SocketReport, far as SocketReport];
};

test('a connection is two sockets, each with its host and what is on its way', (t) => {
  const rig = arrayRig();
  rig.connect(3, 9);
  rig.set(3, 0, 'tail', NUMBERS.CURSOR_START + 1_048_600); /* across 2^32 */
  rig.set(3, 0, 'head', NUMBERS.CURSOR_START + 600);
  rig.set(3, 0, 'bytesProduced', 2 ** 33 + 1);
  rig.set(3, 0, 'bytesConsumed', 2 ** 33);
  rig.set(3, 0, 'producerWaits', 4);
  rig.set(3, 0, 'consumerWaits', 5);
  rig.set(3, 0, 'pages', 1);
  const [near, far] = sides(rig);
  t.like(near, {
    id: 'demo/3.9',
    state: 'ESTABLISHED',
    end: 0,
    localPort: 40003,
    localHost: 11,
    localName: 'client',
    localPid: 500,
    localUid: 1000,
    remotePort: 7000,
    peerHost: 12,
    peerName: 'server',
    sendQueueBytes: 1_048_000,
    receiveQueueBytes: 0,
    bytesSent: 2 ** 33 + 1,
    bytesReceived: 0,
    sendWaits: 4,
    receiveWaits: 0,
    sendPages: 1,
    receivePages: 0,
    openedAt: '2023-11-14T22:13:20.000Z',
  });
  t.like(far, {
    id: 'demo/3.9',
    end: 1,
    localPort: 7000,
    remotePort: 40003,
    localHost: 12,
    peerHost: 11,
    sendQueueBytes: 0,
    receiveQueueBytes: 1_048_000,
    bytesReceived: 2 ** 33,
    sendWaits: 0,
    receiveWaits: 5,
    sendPages: 0,
    receivePages: 1,
  });
});

test('listeners and bound ports are sockets without a peer', (t) => {
  const rig = arrayRig();
  const port = { member: 1, backlog: 16, waiting: 2, pending: 1 };
  rig.register.addPort({ ...port, port: 7000, listening: true });
  rig.register.addPort({ ...port, port: 40000, listening: false, member: 3 });
  const [listener, bound] = sides(rig);
  t.like(listener, {
    id: 'demo:7000',
    state: 'LISTEN',
    localHost: 12,
    waiting: 2,
    backlog: 16,
    pending: 1,
    remotePort: null,
  });
  t.like(bound, { id: 'demo:40000', state: 'BOUND', localHost: null, waiting: null });
});

const endings: [string, (rig: ArrayRig) => void, SocketReport['state'], SocketReport['state']][] = [
  ['nobody has ended', () => {}, 'ESTABLISHED', 'ESTABLISHED'],
  ['end 0 sends no more', (rig) => rig.set(0, 0, 'fin', 1), 'FIN-WAIT', 'CLOSE-WAIT'],
  [
    'both send no more',
    (rig) => {
      rig.set(0, 0, 'fin', 1);
      rig.set(0, 1, 'fin', 1);
    },
    'CLOSING',
    'CLOSING',
  ],
  ['end 1 has aborted', (rig) => rig.set(0, 1, 'reset', 1), 'RESET', 'RESET'],
  ['end 0 aborted what it reads', (rig) => rig.set(0, 1, 'closed', 2), 'RESET', 'RESET'],
];
for (const [what, happen, near, far] of endings) {
  test(`states: ${what}`, (t) => {
    const rig = arrayRig();
    rig.connect(0);
    happen(rig);
    const states = sides(rig).map(({ state }) => state);
    t.deepEqual(states, [near, far]);
  });
}

test('an end whose host has let go is no socket any more', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.setConnection(0, 'closedEnds', 1);
  rig.setConnection(0, 'state', NUMBERS.CONNECTION_CLOSING);
  const sockets = decodeSockets(rig.segment);
  t.deepEqual(
    sockets.map(({ end, state }) => [end, state]),
    [[1, 'CLOSE-WAIT']],
  );
});

test('a listed network connection has one end, a reason and an address', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.setConnection(0, 'closedEnds', 2);
  rig.setConnection(0, 'mechanism', NUMBERS.MECHANISM_NETWORK);
  rig.setConnection(0, 'reason', NUMBERS.REASON_PEER_NOT_ATTACHED);
  const address = rig.offset + rig.geometry.connections + CONNECTION.at.remoteAddress;
  rig.segment.store(address + 8, 0xffff);
  rig.segment.store(address + 12, 0xc0000207);
  const sockets = decodeSockets(rig.segment);
  t.is(sockets.length, 1);
  t.like(sockets[0], {
    mechanism: 'tcp',
    reason: 'peer not attached',
    remoteAddress: '192.0.2.7',
    state: 'ESTABLISHED',
    localHost: 11,
    peerHost: null,
  });
});

test('an end counts as producer of one direction and consumer of the other', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.set(0, 0, 'producerCounts', 5);
  rig.set(0, 1, 'consumerCounts', 2);
  rig.set(0, 0, 'consumerCounts', 40);
  const [near, far] = sides(rig);
  t.deepEqual([near.wakesSent, far.wakesSent], [7, 40]);
});

test('pages are accounted to connections and hosts, by their owner words and lists', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.set(0, 0, 'pages', 8);
  const own = (page: number, word: number): void =>
    rig.segment.store(rig.offset + rig.geometry.owners + page * 4, word);
  own(7, ((NUMBERS.OWNER_CONNECTION << 30) | (1 << 16)) >>> 0);
  /* Member 1, generation 1; and what an earlier member in its place has left. */
  for (const page of [1, 2]) own(page, ((NUMBERS.OWNER_MEMBER << 30) | (1 << 16) | 1) >>> 0);
  own(3, ((NUMBERS.OWNER_MEMBER << 30) | (9 << 16) | 1) >>> 0);
  const { hosts, stgs } = figuresOf(rig);
  t.like(stgs[0], { pagesUsed: 4, pagesOfConnections: 1, pagesOfHosts: 3 });
  t.deepEqual(
    hosts.map(({ id, sendPages, heldPages }) => [id, sendPages, heldPages]),
    [
      [11, 1, 0],
      [12, 0, 2],
    ],
  );
});

test('boards, hosts and STGs have their counters', (t) => {
  const rig = arrayRig();
  rig.connect(0);
  rig.connect(1);
  rig.set(0, 1, 'bytesProduced', 100);
  rig.set(1, 1, 'bytesProduced', 11);
  const board = rig.offset + rig.geometry.boards + 2 * BOARD.bytes; /* number 4 of the array */
  rig.segment.storeCounter(board + BOARD.at.accesses, 2 ** 32 + 7);
  rig.segment.storeCounter(board + BOARD.at.bytes, 1000);
  rig.segment.storeCounter(board + BOARD.at.bypassedBytes, 1);
  rig.segment.store(board + BOARD.at.steals, 3);
  const member = rig.offset + rig.geometry.members + MEMBER.bytes;
  rig.segment.store(member + MEMBER.at.wakesSent, 8);
  rig.segment.store(member + MEMBER.at.safetyFirings, 1);
  for (const page of [2, 6, 7]) rig.segment.store(rig.offset + rig.geometry.owners + page * 4, 1);
  const { boards, hosts, stgs, array, directors } = figuresOf(rig);
  t.is(boards.length, 6);
  t.like(boards[4], {
    number: 4,
    stg: 'demo',
    accesses: 2 ** 32 + 7,
    bytesMoved: 1001,
    steals: 3,
    pagesUsed: 2,
  });
  t.like(boards[3], { stg: null, accesses: 0, pagesUsed: 0 });
  t.deepEqual(
    hosts.map(({ id, sockets, bytesSent, wakesSent }) => [id, sockets, bytesSent, wakesSent]),
    [
      [11, 2, 0, 0],
      [12, 2, 111, 8],
    ],
  );
  t.like(stgs[0], {
    name: 'demo',
    pagesUsed: 3,
    pagesTotal: 64,
    connectionsUsed: 2,
    connectionsMax: 16,
    portsMax: PORTS_MAX,
    hosts: 2,
    bytesMoved: 1001,
  });
  t.like(array, { instance: 'ab'.repeat(16), state: 'serving', pid: 4711, boardsUsed: 4 });
  t.is(directors.length, 1);
  t.is(directors[0]?.cpuMs, null, 'a thread that never ran');
});

test('whatever hosts write into an STG, figures are figures', (t) => {
  const seed = Number(process.env.STPD_SEED ?? Date.now() % 2 ** 31);
  t.log(`STPD_SEED=${seed}`);
  const next = random(seed);
  const rig = arrayRig();
  const { geometry } = rig;
  for (let round = 0; round < 40; round++) {
    const control = rig.segment.u32.subarray(rig.offset / 4, (rig.offset + geometry.memory) / 4);
    for (let i = 0; i < control.length; i++) {
      const dice = next();
      control[i] = dice < 0.2 ? 0xffffffff : dice < 0.5 ? dice * 10 : dice * 2 ** 32;
    }
    const figures = figuresOf(rig);
    t.notThrows(() => JSON.stringify(figures));
    t.true(figures.sockets.length <= 2 * geometry.connectionCount);
    for (const socket of figures.sockets) {
      t.true(socket.sendQueueBytes <= WINDOW_BYTES && socket.receiveQueueBytes <= WINDOW_BYTES);
      t.true(socket.localPort <= 65535 && (socket.remotePort ?? 0) <= 65535);
      t.true(socket.sendPages <= 64);
      t.regex(socket.openedAt ?? '', /^[+\d]\d+-\d\d-\d\dT/);
      t.true([null, 11, 12].includes(socket.localHost), 'members are the register’s word');
    }
    t.true(figures.stgs.every(({ pagesUsed, pagesTotal }) => pagesUsed <= pagesTotal));
    t.deepEqual(
      figures.hosts.map(({ id, uid, name }) => [id, uid, name]),
      [
        [11, 1000, 'client'],
        [12, 1001, 'server'],
      ],
    );
  }
});

test('a directory entry that contradicts itself is left out', (t) => {
  const broken: [keyof typeof STG_ENTRY.at, number][] = [
    ['generation', 6],
    ['boardCount', 5],
    ['boardCount', 0xffffffff],
    ['connectionCount', 0xffffffff],
    ['memberCount', 0xffffffff],
    ['offset', 0x7ffff000],
    ['bytes', 4096],
    ['name', 0],
  ];
  for (const [field, value] of broken) {
    const rig = arrayRig();
    const at = SUPERBLOCK.at.directory + 2 * STG_ENTRY.bytes + STG_ENTRY.at[field];
    rig.segment.store(at, value);
    t.deepEqual(figuresOf(rig).stgs, [], field);
  }
});

test('a register that is noise names no STG outside of the segment', (t) => {
  const rig = arrayRig();
  const { arrayRegister, arrayRegisterBytes } = SEGMENT_MAP;
  rig.segment.u8.fill(0xff, arrayRegister, arrayRegister + arrayRegisterBytes);
  for (let entry = 0; entry < STG_DIRECTORY_ENTRIES; entry++) {
    const at = SUPERBLOCK.at.directory + entry * STG_ENTRY.bytes;
    rig.segment.store(at + STG_ENTRY.at.generation, 0xffffffff);
    rig.segment.store(at + STG_ENTRY.at.state, NUMBERS.STG_LIVE);
  }
  t.deepEqual(figuresOf(rig).stgs, []);
});

test('times that are none', (t) => {
  t.is(isoTime(0), '1970-01-01T00:00:00.000Z');
  t.is(isoTime(2 ** 63), '1970-01-01T00:00:00.000Z');
  t.is(isoTime(Number.NaN), '1970-01-01T00:00:00.000Z');
});
