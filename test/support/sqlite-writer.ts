/**
 * A program that writes an SQLite database until it is told to stop: each transaction moves an
 * amount between two of its accounts and notes it, so that at any moment the sum of all accounts is
 * 0 and equals what the notes add up to. argv: file, journal mode, seed.
 */
import { DatabaseSync } from '@photostructure/sqlite';
import { Dice } from './random.js';

const [, , file = '', mode = 'wal', seed = '1'] = process.argv;
const dice = new Dice(Number(seed));
const db = new DatabaseSync(file, { timeout: 60_000 });
db.exec(`PRAGMA journal_mode=${mode}; PRAGMA synchronous=OFF`);
db.exec('CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, balance INTEGER, pad BLOB)');
db.exec(
  'CREATE TABLE IF NOT EXISTS note(id INTEGER PRIMARY KEY, source INT, target INT, amount INT)',
);
const fill = db.prepare('INSERT OR IGNORE INTO account VALUES (?, 0, zeroblob(400))');
for (let id = 0; id < 200; id++) fill.run(id);
const change = db.prepare('UPDATE account SET balance = balance + ? WHERE id = ?');
const note = db.prepare('INSERT INTO note(source, target, amount) VALUES (?, ?, ?)');

let running = true;
process.once('SIGTERM', () => {
  running = false;
});
process.stdout.write('writing\n');
while (running) {
  const [source, target] = [dice.whole(0, 199), dice.whole(0, 199)];
  const amount = dice.whole(0, 999);
  db.exec('BEGIN IMMEDIATE');
  change.run(-amount, source);
  change.run(amount, target);
  note.run(source, target, amount);
  db.exec('COMMIT');
  // Some hundred a second: a database that grows slowly, however long a test takes.
  await new Promise((resolve) => setTimeout(resolve, 3));
}
db.close();
