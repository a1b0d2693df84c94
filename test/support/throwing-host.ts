/**
 * A program that goes on after an uncaught exception. Arguments: run directory, number of
 * connections; says how many it got although the first one's callback threw.
 */
import { once } from 'node:events';
import { attach } from '../../src/index.js';

const [, , runDirectory = '', count = '0'] = process.argv;
let thrown = 0;
process.on('uncaughtException', () => {
  thrown++;
});
const host = await attach({ runDirectory, stg: 'test' });
const client = await attach({ runDirectory, stg: 'test' });
const server = host.createServer();
let connections = 0;
let received = 0;
server.on('connection', (socket) => {
  const first = connections++ === 0;
  socket.on('data', (data) => {
    received += data.length;
    if (first) throw new Error('in a data callback');
  });
  if (first) throw new Error('in a connection callback');
});
server.listen({ port: 5000 });
await once(server, 'listening');
const sockets = Array.from({ length: Number(count) }, () => client.connect({ port: 5000 }));
for (const socket of sockets) socket.write('x');
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
await new Promise((resolve) => setTimeout(resolve, 600));
process.send?.({ thrown, connections, received });
process.disconnect();
process.exit(0);
