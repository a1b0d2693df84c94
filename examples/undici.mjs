// undici over an STP port: its Agent gets a connector, and fetch may use it too.
import { once } from 'node:events';
import http from 'node:http';
import { attach } from 'stpd';
import { Agent, fetch } from 'undici';
import { listenOverStp, undiciConnector } from './over-stp.mjs';

const host = await attach({ stg: process.env.STG ?? 'demo', name: 'undici example' });

const server = http.createServer((request, response) => request.pipe(response));
const listener = listenOverStp(server, host, 8081);
await once(listener, 'listening');

const dispatcher = new Agent({ connect: undiciConnector(host) });
const response = await fetch('http://demo:8081/', { method: 'POST', body: 'echo', dispatcher });
console.log(response.status, await response.text());

await dispatcher.close();
listener.close();
server.closeAllConnections();
await host.close();
