/** The lines of a connection's life, from records and looks at memory that a test makes up. */
import test from 'ava';
import { NUMBERS, WINDOW_BYTES } from '../../../src/layout/tables.js';
import {
  type ControlEvent,
  type NumberedEvent,
  noControlEvent,
} from '../../../src/memory/register.js';
import { decodeSockets } from '../../../src/view/decode.js';
import { stgPlaces } from '../../../src/view/places.js';
import {
  findTarget,
  parseTraceName,
  readTrace,
  type TraceReading,
  Tracer,
} from '../../../src/view/trace.js';
import { type ArrayRig, arrayRig, OPENED_AT } from './rig.js';

const TARGET = { stg: 'demo', slot: 0, generation: 1 };

/** An array with a connection in slot 0, a director's hand, and a trace of it. */
function traced(target: ConstructorParameters<typeof Tracer>[0] = TARGET) {
  const rig = arrayRig();
  rig.connect(0);
  const tracer = new Tracer(target);
  let next: number | undefined;
  let now = OPENED_AT;
  const reading = (): TraceReading => {
    const [place] = stgPlaces(rig.segment);
    if (place === undefined) throw new Error('the rig has an STG');
    now += 10_000;
    const read = readTrace(rig.segment, place, now, next, 0);
    next = read.next;
    return read;
  };
  return {
    rig,
    tracer,
    event: (kind: number, rest: Partial<ControlEvent> = {}): void =>
      rig.register.writeEvent({
        ...noControlEvent,
        at: now + 5000,
        connection: 0,
        generation: 1,
        ...rest,
        kind,
      }),
    feed: (withData = true) => tracer.feed(reading(), withData),
    kinds: () => tracer.feed(reading(), true).map(({ kind }) => kind),
  };
}

const opened = { end: 0, port: 40000, remotePort: 7000, host: 11, peerHost: 12 };

function move(rig: ArrayRig, end: 0 | 1, produced: number, consumed: number): void {
  rig.set(0, end, 'bytesProduced', produced);
  rig.set(0, end, 'bytesConsumed', consumed);
  rig.set(0, end, 'tail', (NUMBERS.CURSOR_START + produced) >>> 0);
  rig.set(0, end, 'head', (NUMBERS.CURSOR_START + consumed) >>> 0);
}

test('a life: opened, accepted, data, half-close, closed, freed', (t) => {
  const { rig, tracer, event, feed, kinds } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  event(NUMBERS.CONTROL_ACCEPTED, { ...opened, end: 1, host: 12 });
  t.deepEqual(kinds(), ['opened', 'accepted']);
  move(rig, 0, 1000, 400);
  rig.set(0, 0, 'consumerWaits', 2);
  const [data] = feed();
  t.like(data, {
    kind: 'data',
    sampled: true,
    connection: 'demo/0.1',
    end: 0,
    host: 11,
    bytesFrom: 0,
    bytesTo: 1000,
    queuedBytes: 600,
    sendWaits: 0,
    receiveWaits: 2,
  });
  t.deepEqual(kinds(), [], 'nothing has moved');
  rig.set(0, 0, 'fin', 1);
  t.deepEqual(kinds(), ['fin']);
  move(rig, 1, 50, 50);
  event(NUMBERS.CONTROL_CLOSED, { end: 0, host: 11, sent: 1000, received: 50 });
  t.deepEqual(kinds(), ['closed', 'data']);
  rig.setConnection(0, 'state', NUMBERS.CONNECTION_FREE);
  event(NUMBERS.CONTROL_CLOSED, { end: 1, host: 12, sent: 50, received: 1000 });
  event(NUMBERS.CONTROL_FREED);
  t.false(tracer.done);
  t.deepEqual(kinds(), ['closed', 'freed']);
  t.true(tracer.done);
});

test('what no look has found is told by the record of the end that let go', (t) => {
  const { rig, event, feed } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  rig.setConnection(0, 'state', NUMBERS.CONNECTION_FREE);
  const flags = NUMBERS.CONTROL_FLAG_RESET | NUMBERS.CONTROL_FLAG_UNREAD;
  event(NUMBERS.CONTROL_CLOSED, { end: 0, host: 11, sent: 77, flags });
  const finned = { end: 1, host: 12, sent: 0, flags: NUMBERS.CONTROL_FLAG_FIN };
  event(NUMBERS.CONTROL_CLOSED, finned);
  event(NUMBERS.CONTROL_FREED);
  const lines = feed();
  t.deepEqual(
    lines.map(({ kind, end }) => [kind, end]),
    [
      ['opened', 0],
      ['data', 0],
      ['reset', 0],
      ['closed', 0],
      ['fin', 1],
      ['closed', 1],
      ['freed', null],
    ],
  );
  t.like(lines[1], { bytesFrom: 0, bytesTo: 77, sampled: false });
  t.regex(lines[2]?.text ?? '', /unread/);
});

test('a full window, and room again', (t) => {
  const { rig, event, feed, kinds } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  feed();
  move(rig, 0, WINDOW_BYTES, 0);
  rig.set(0, 0, 'producerWait', NUMBERS.WAIT_LOOP);
  const [data, full] = feed();
  t.like(data, { kind: 'data', queuedBytes: WINDOW_BYTES });
  t.like(full, { kind: 'full', end: 0 });
  t.regex(full?.text ?? '', /its event loop waits for an empty page/);
  t.deepEqual(kinds(), [], 'said once');
  move(rig, 0, WINDOW_BYTES, WINDOW_BYTES);
  rig.set(0, 0, 'producerWait', NUMBERS.WAIT_NONE);
  t.deepEqual(kinds(), ['woken']);
});

test('data waits for its interval, unless something else happens', (t) => {
  const { rig, event, feed } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  feed();
  move(rig, 0, 10, 10);
  t.deepEqual(feed(false), []);
  rig.set(0, 0, 'fin', 1);
  t.deepEqual(
    feed(false).map(({ kind }) => kind),
    ['data', 'fin'],
  );
});

test('stamps of hosts count where they can be true', (t) => {
  const { rig, event, feed } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  feed();
  move(rig, 0, 5, 5);
  rig.set(0, 0, 'finishedAt', OPENED_AT + 11_000);
  rig.set(0, 0, 'fin', 1);
  rig.set(0, 1, 'closedAt', 2 ** 60);
  rig.set(0, 1, 'closed', NUMBERS.CLOSED_RESET);
  const lines = feed();
  t.deepEqual(
    lines.map(({ kind, atUs }) => [kind, atUs - OPENED_AT]),
    [
      ['data', 11_000],
      ['fin', 11_000],
      ['reads-no-more', 20_000],
    ],
  );
});

test('a trace that comes late says from where on it counts', (t) => {
  const { rig, feed } = traced();
  move(rig, 0, 5000, 5000);
  const [joined] = feed();
  t.like(joined, { kind: 'joined', port: 40000, remotePort: 7000 });
  t.regex(joined?.text ?? '', /5000 bytes 0 -> 1/);
  move(rig, 0, 5001, 5000);
  t.like(feed()[0], { kind: 'data', bytesFrom: 5000, bytesTo: 5001 });
});

test('the next connection of the slot is another one', (t) => {
  const { rig, event, kinds } = traced();
  event(NUMBERS.CONTROL_OPENED, opened);
  t.deepEqual(kinds(), ['opened']);
  rig.connect(0, 2);
  move(rig, 0, 9, 9);
  event(NUMBERS.CONTROL_OPENED, { ...opened, generation: 2 });
  t.deepEqual(kinds(), []);
});

test('lost records are not hidden', (t) => {
  const tracer = new Tracer(TARGET);
  const none = { next: 9, lost: 3, events: [], takenUs: 1, connection: null, hosts: [] };
  const [line] = tracer.feed(none, true);
  t.is(line?.kind, 'lost');
  t.regex(line?.text ?? '', /^3 control events were overwritten/);
});

test('a listener’s trace has its connections, and those that were refused', (t) => {
  const { event, feed } = traced({ stg: 'demo', port: 7000 });
  const none = { connection: 0, generation: 0 };
  event(NUMBERS.CONTROL_LISTENING, { ...none, port: 7000, host: 12 });
  event(NUMBERS.CONTROL_LISTENING, { ...none, port: 7001, host: 12 });
  event(NUMBERS.CONTROL_OPENED, opened);
  event(NUMBERS.CONTROL_OPENED, { ...opened, connection: 1, remotePort: 7001 });
  event(NUMBERS.CONTROL_QUEUED, { ...none, remotePort: 7000, host: 11 });
  event(NUMBERS.CONTROL_REFUSED, { ...none, remotePort: 7000, host: 11, status: 111 });
  event(NUMBERS.CONTROL_CLOSED, { end: 0 });
  event(NUMBERS.CONTROL_CLOSED, { end: 0, connection: 1 });
  event(NUMBERS.CONTROL_UNBOUND, { ...none, port: 7000, host: 12 });
  const lines = feed();
  t.deepEqual(
    lines.map(({ kind, connection }) => [kind, connection]),
    [
      ['listening', null],
      ['opened', 'demo/0.1'],
      ['queued', null],
      ['refused', null],
      ['closed', 'demo/0.1'],
      ['unbound', null],
    ],
  );
  t.is(lines[3]?.text, 'host 11 gets ECONNREFUSED');
});

test('noise in a slot gives lines, not errors', (t) => {
  const { rig, feed } = traced();
  for (let round = 0; round < 50; round++) {
    for (const end of [0, 1] as const) {
      for (const field of ['bytesProduced', 'finishedAt', 'closedAt'] as const) {
        rig.set(0, end, field, Math.random() * 2 ** 63);
      }
      for (const field of ['tail', 'head', 'fin', 'reset', 'closed', 'producerWait'] as const) {
        rig.set(0, end, field, Math.random() * 2 ** 32);
      }
    }
    t.notThrows(() => JSON.stringify(feed()));
  }
});

const names: [string, ReturnType<typeof parseTraceName>][] = [
  ['demo:7000', { stg: 'demo', port: 7000 }],
  ['a.b-c_d/17.3', { stg: 'a.b-c_d', slot: 17, generation: 3 }],
  ['demo/17', { stg: 'demo', slot: 17 }],
  ['demo', undefined],
  ['demo:', undefined],
  ['../x:1', undefined],
  ['demo/1.2.3', undefined],
];
for (const [text, name] of names) {
  test(`a name: ${text}`, (t) => t.deepEqual(parseTraceName(text), name));
}

test('a port means its listener, or the connection that has it, or had it last', (t) => {
  const rig = arrayRig();
  rig.connect(3, 9);
  const port = { member: 1, backlog: 1, waiting: 0, pending: 0 };
  rig.register.addPort({ ...port, port: 7000, listening: true });
  const sockets = decodeSockets(rig.segment);
  const past: NumberedEvent[] = [
    { ...noControlEvent, ...opened, number: 0, kind: 4, connection: 5, generation: 2 },
  ];
  const find = (text: string) => findTarget(parseTraceName(text) ?? { stg: '' }, sockets, past);
  t.deepEqual(find('demo:7000'), { stg: 'demo', port: 7000 });
  t.deepEqual(find('demo:40003'), { stg: 'demo', slot: 3, generation: 9 });
  t.deepEqual(find('demo:40000'), { stg: 'demo', slot: 5, generation: 2 });
  t.deepEqual(find('demo/3'), { stg: 'demo', slot: 3, generation: 9 });
  t.deepEqual(find('demo/5'), { stg: 'demo', slot: 5, generation: 2 });
  t.is(find('demo:1'), undefined);
  t.is(find('demo/6'), undefined);
});
