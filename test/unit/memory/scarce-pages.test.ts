/**
 * A stream that must do with the pages it has, because the pool has no others.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../../src/native.js';
import { ringRig } from './rig.js';

test('a file goes through unharmed when no second page is to be had', (t) => {
  const { geometry, stg, tx, rx } = ringRig();
  /* Others hold all but the reserve, from which a stream without pages gets one. */
  for (let i = 0; i < geometry.pageCount - geometry.pageCount / 8; i++) {
    native().pageClaim(stg, 0x40010003, i);
  }
  const directory = mkdtempSync(join(tmpdir(), 'stpd-ring-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const content = randomBytes(400_000);
  const path = join(directory, 'file');
  writeFileSync(path, content);
  const fd = openSync(path, 'r');
  t.teardown(() => closeSync(fd));
  const into = Buffer.alloc(content.length);
  for (let sent = 0; sent < content.length; ) {
    const moved = native().ringFillFromFile(tx, fd, sent, content.length - sent, 0);
    if (moved <= 0) return t.fail(`fill said ${moved}`);
    for (let got = 0; got < moved; ) {
      const read = native().ringRead(rx, into, sent + got, moved - got, 0);
      if (read <= 0) return t.fail(`read said ${read}`);
      got += read;
    }
    sent += moved;
  }
  t.true(into.equals(content));
});
