/**
 * stpd without a free descriptor: it lets nobody in for the while, and lives.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach } from '../../src/index.js';
import { native } from '../../src/native.js';
import { startArray, until } from '../support/array.js';

test('knocks that find no descriptor do not end stpd', async (t) => {
  const array = await startArray(t);
  const { pid } = array.stpd;
  const limit = readdirSync(`/proc/${pid}/fd`).length + 4;
  const set = (soft: number): void => {
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
  };
  set(limit);
  const path = join(array.runDirectory, 'attach.sock');
  const visitors = Array.from({ length: 20 }, () => native().unixConnect(path));
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.is(array.stpd.exitCode, null);
  for (const fd of visitors) native().closeDescriptor(fd);
  set(4096);
  const host = await until('stpd lets hosts in again', () =>
    attach({ runDirectory: array.runDirectory, stg: 'test' }).catch(() => undefined),
  );
  await host.close();
});
