// PostgreSQL through an STP port. Beside the server runs
//   stpctl forward stp:demo:5432 unix:/var/run/postgresql/.s.PGSQL.5432
import pg from 'pg';
import { attach } from 'stpd';
import { pgStream } from './over-stp.mjs';

const stg = process.env.STG ?? 'demo';
const host = await attach({ stg, name: 'pg example' });
const client = new pg.Client({
  user: process.env.PGUSER ?? 'postgres',
  database: process.env.PGDATABASE ?? 'postgres',
  host: stg,
  port: Number(process.env.STP_PORT ?? 5432),
  stream: pgStream(host),
});
await client.connect();
const { rows } = await client.query(
  "SELECT split_part(version(), ' ', 1) AS name, 6 * 7 AS answer",
);
console.log(rows[0]);
await client.end();
await host.close();
