/**
 * The numbers of STG views come back, but never under a ring that is still open.
 */
import test from 'ava';
import { stgGeometry } from '../../../src/layout/geometry.js';
import { native } from '../../../src/native.js';
import { ringRig } from './rig.js';

/** More than a process may have open at once. */
const MANY = 5000;

test('views that were closed do not count', (t) => {
  const { segment, geometry } = ringRig();
  for (let i = 0; i < MANY; i++) native().stgClose(native().stgOpen(segment.number, 0, geometry));
  t.pass();
});

test('a closed view serves the rings that are open on it', (t) => {
  const rig = ringRig();
  native().stgClose(rig.stg);
  const other = native().stgOpen(
    rig.segment.number,
    0,
    stgGeometry({ boardCount: 4, boardBytes: 1 << 20, connectionCount: 8, memberCount: 2 }),
  );
  t.not(other, rig.stg);
  t.is(native().ringWrite(rig.tx, Buffer.from('still'), 0, 5, 0), 5);
  const into = Buffer.alloc(5);
  t.is(native().ringRead(rig.rx, into, 0, 5, 0), 5);
  t.is(into.toString(), 'still');
});
