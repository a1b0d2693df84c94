// node:http over an STP port: server and client in one program, as they would be in two.
import { once } from 'node:events';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { attach } from 'stpd';
import { listenOverStp, StpAgent } from './over-stp.mjs';

const host = await attach({ stg: process.env.STG ?? 'demo', name: 'http example' });

const server = http.createServer((request, response) => {
  const { hostId, uid } = request.socket.peer; // attested by stpd
  response.end(`${request.method} ${request.url} from host ${hostId}, uid ${uid}\n`);
});
const listener = listenOverStp(server, host, 8080);
await once(listener, 'listening');

const agent = new StpAgent(host);
for (const path of ['/first', '/second']) {
  const request = http.get(`http://demo:8080${path}`, { agent });
  const [response] = await once(request, 'response');
  const body = await text(response);
  console.log(
    response.statusCode,
    body.trim(),
    request.reusedSocket ? '- same connection' : '- new',
  );
}

agent.destroy();
listener.close();
server.closeAllConnections();
await host.close();
