// TLS over an STP port: node:https as server, and a plain TLS client.
// Needs a key and a certificate: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256
//   -nodes -subj /CN=demo -days 1 -keyout key.pem -out cert.pem
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { attach } from 'stpd';
import { listenOverStp, tlsOverStp } from './over-stp.mjs';

const [key, cert] = [readFileSync('key.pem'), readFileSync('cert.pem')];
const host = await attach({ stg: process.env.STG ?? 'demo', name: 'https example' });

const server = https.createServer({ key, cert }, (request, response) => {
  response.end(`${request.url} over ${request.socket.getProtocol()}\n`);
});
const listener = listenOverStp(server, host, 8443);
await once(listener, 'listening');

const socket = tlsOverStp(host, 8443, { ca: cert, servername: 'demo' });
await once(socket, 'secureConnect');
socket.end('GET /secret HTTP/1.0\r\nHost: demo\r\n\r\n');
console.log((await text(socket)).split('\r\n').at(-1).trim());

listener.close();
server.closeAllConnections();
await host.close();
