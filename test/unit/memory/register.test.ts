/** What a director writes down, and what a reader makes of it while it is being written. */
import test from 'ava';
import { registerGeometry } from '../../../src/layout/geometry.js';
import { CONTROL_EVENT_ENTRIES, STG_REGISTER } from '../../../src/layout/tables.js';
import { noControlEvent, StgRegister } from '../../../src/memory/register.js';
import { Segment } from '../../../src/memory/segment.js';

function rig() {
  const geometry = registerGeometry(4, 2);
  const segment = new Segment({ number: 0, buffer: new SharedArrayBuffer(geometry.bytes) });
  const writer = new StgRegister(segment, 0, geometry);
  writer.open(3);
  return { segment, writer, reader: new StgRegister(segment, 0, geometry) };
}

const member = { generation: 1, host: 9, uid: 1, gid: 2, pid: 3, attachedAt: 2 ** 50, name: 'ä' };

test('a member is who it was set to, until it is cleared', (t) => {
  const { writer, reader } = rig();
  writer.setMember(2, member);
  t.deepEqual(reader.member(2), member);
  t.is(reader.member(1), undefined);
  t.is(reader.member(4), undefined, 'there are four');
  writer.clearMember(2);
  t.is(reader.member(2), undefined);
});

test('a long name is cut between characters, and a shorter one leaves nothing of it', (t) => {
  const { writer, reader } = rig();
  writer.setMember(0, { ...member, name: `x${'ä'.repeat(255)}` });
  t.is(reader.member(0)?.name, `x${'ä'.repeat(111)}`);
  writer.setMember(0, { ...member, name: 'short' });
  t.is(reader.member(0)?.name, 'short');
});

test('ports come and go; one too many is not shown', (t) => {
  const { writer, reader } = rig();
  const port = { member: 1, listening: true, backlog: 5, waiting: 0, pending: 0 };
  const first = writer.addPort({ ...port, port: 1 });
  writer.addPort({ ...port, port: 2 });
  const none = writer.addPort({ ...port, port: 3 });
  writer.updatePort(first, { listening: true, backlog: 5, waiting: 4, pending: 6 });
  writer.updatePort(none, port);
  writer.removePort(none);
  t.deepEqual(reader.ports(), [
    { ...port, port: 1, waiting: 4, pending: 6 },
    { ...port, port: 2 },
  ]);
  writer.removePort(first);
  writer.addPort({ ...port, port: 4 });
  t.deepEqual(
    reader.ports().map((p) => p.port),
    [4, 2],
  );
});

test('events are read in order, each once', (t) => {
  const { writer, reader } = rig();
  const write = (port: number): void => writer.writeEvent({ ...noControlEvent, port, at: 2 ** 51 });
  write(1);
  write(2);
  const first = reader.events(reader.eventsFrom);
  t.deepEqual(
    first.events.map(({ number, port, at }) => [number, port, at]),
    [
      [0, 1, 2 ** 51],
      [1, 2, 2 ** 51],
    ],
  );
  t.deepEqual(reader.events(first.next), { next: 2, lost: 0, events: [] });
  write(3);
  t.deepEqual(
    reader.events(first.next).events.map(({ port }) => port),
    [3],
  );
});

test('a reader that comes too late is told how much it has missed', (t) => {
  const { writer, reader } = rig();
  const written = CONTROL_EVENT_ENTRIES + 100;
  for (let port = 0; port < written; port++) writer.writeEvent({ ...noControlEvent, port });
  const { events, lost, next } = reader.events(0);
  t.is(next, written);
  t.is(lost + events.length, written);
  t.true(lost >= 100 && lost < 120);
  t.deepEqual(
    events.map(({ port }) => port),
    Array.from({ length: events.length }, (_, i) => lost + i),
  );
  t.is(reader.events(reader.eventsFrom).lost, 0, 'who starts now has missed nothing');
});

test('the number of an event wraps', (t) => {
  const { segment, reader } = rig();
  segment.store(STG_REGISTER.at.eventTail, 2);
  const { events, lost } = reader.events(0xfffffffd);
  t.is(lost, 0);
  t.deepEqual(
    events.map(({ number }) => number),
    [0xfffffffd, 0xfffffffe, 0xffffffff, 0, 1],
  );
});
