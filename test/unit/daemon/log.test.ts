import { appendFileSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { DaemonLog, readableLine } from '../../../src/daemon/log.js';
import { temporaryDirectory } from './workbench.js';

test('each line is one JSON object with time, level, PID and message', (t) => {
  const file = join(temporaryDirectory(t), 'log');
  const { log } = new DaemonLog({ level: 'info', file });
  log.info({ stg: 'a' }, 'one');
  log.debug('not this one');
  log.error({ err: new Error('broken') }, 'two');
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  const [first, second] = lines.map((line) => JSON.parse(line));
  t.is(lines.length, 2);
  t.like(first, { level: 'info', pid: process.pid, msg: 'one', stg: 'a' });
  t.regex(first.time, /^\d{4}-\d\d-\d\dT.*Z$/);
  t.is(second.err.message, 'broken');
  t.is(statSync(file).mode & 0o137, 0);
});

test('a log is appended to', (t) => {
  const file = join(temporaryDirectory(t), 'log');
  appendFileSync(file, 'before\n');
  new DaemonLog({ level: 'info', file }).log.info('after');
  t.regex(readFileSync(file, 'utf8'), /^before\n.*after/);
});

test('information is no event, a warning is', (t) => {
  const file = join(temporaryDirectory(t), 'log');
  appendFileSync(file, 'what an earlier daemon wrote\n');
  const daemonLog = new DaemonLog({ level: 'info', file });
  daemonLog.log.info('é is two bytes');
  t.true(daemonLog.uneventful);
  daemonLog.log.warn('look');
  t.false(daemonLog.uneventful);
});

test('what others write to the file is an event', (t) => {
  const file = join(temporaryDirectory(t), 'log');
  const daemonLog = new DaemonLog({ level: 'info', file });
  appendFileSync(file, 'FATAL ERROR: out of memory\n');
  t.false(daemonLog.uneventful);
});

test('a warning is an event also where its level is not logged', (t) => {
  const file = join(temporaryDirectory(t), 'log');
  const daemonLog = new DaemonLog({ level: 'error', file });
  daemonLog.log.error('x');
  t.false(daemonLog.uneventful);
});

test('close removes the file only if it is told to', (t) => {
  for (const remove of [false, true]) {
    const file = join(temporaryDirectory(t), 'log');
    const daemonLog = new DaemonLog({ level: 'info', file });
    daemonLog.close({ remove });
    t.is(existsSync(file), !remove);
  }
});

test('a log that cannot be written counts the line and goes on', (t) => {
  const daemonLog = new DaemonLog({ level: 'info', file: '/dev/full' });
  t.notThrows(() => daemonLog.log.info('nowhere to go'));
  t.is(daemonLog.lostLines, 1);
  t.false(daemonLog.uneventful);
});

test('a readable line has time, level, message, values, and a stack below', (t) => {
  const line = readableLine(
    JSON.stringify({
      level: 'info',
      time: '2026-01-31T12:00:00.000Z',
      pid: 7,
      boards: 8,
      stg: 'a b',
      msg: 'made',
    }),
  );
  t.is(line, '2026-01-31T12:00:00.000Z INFO  made boards=8 stg=a b\n');
  t.regex(readableLine('{"level":"error","msg":"m","err":{"stack":"S\\n at"}}'), /m\nS\n at\n$/);
});
