// WebSockets over an STP port, with the package ws.
import { once } from 'node:events';
import http from 'node:http';
import { attach } from 'stpd';
import { WebSocket, WebSocketServer } from 'ws';
import { listenOverStp, wsConnection } from './over-stp.mjs';

const host = await attach({ stg: process.env.STG ?? 'demo', name: 'ws example' });

const server = http.createServer();
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket) => {
  socket.on('message', (message, binary) => socket.send(message, { binary }));
});
const listener = listenOverStp(server, host, 8082);
await once(listener, 'listening');

const client = new WebSocket('ws://demo:8082/', { createConnection: wsConnection(host) });
await once(client, 'open');
client.send('echo');
const [message] = await once(client, 'message');
console.log(String(message));
client.close(1000, 'enough');
console.log(...(await once(client, 'close')).map(String));

listener.close();
await host.close();
