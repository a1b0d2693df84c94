/**
 * What connects programs you know to an STP port. Copy what you need.
 *
 * `host` is what `attach({ stg })` gives. Where a URL has a port, it is the STP port; its host name
 * only goes into the Host header.
 */
import { Agent } from 'node:http';
import tls from 'node:tls';

/** A server of node:http, node:https or node:tls takes its connections from an STP port. */
export function listenOverStp(server, host, port) {
  const listener = host.createServer({ allowHalfOpen: true }, (socket) => {
    server.emit('connection', socket);
  });
  listener.once('listening', () => server.emit('listening')); // node:http starts its time-outs
  listener.on('error', (error) => server.emit('error', error));
  return listener.listen(port);
}

/** http.request({ agent: new StpAgent(host) }), with the same connection for the next request. */
export class StpAgent extends Agent {
  #host;
  constructor(host, options) {
    super({ keepAlive: true, ...options });
    this.#host = host;
  }
  createConnection({ port }) {
    return this.#host.connect({ port: Number(port) });
  }
}

/** tls.connect over an STP port. */
export function tlsOverStp(host, port, options) {
  return tls.connect({ ...options, socket: host.connect({ port, allowHalfOpen: true }) });
}

/** new undici.Agent({ connect: undiciConnector(host) }) */
export function undiciConnector(host) {
  return ({ port }, callback) => {
    const socket = host.connect({ port: Number(port) });
    socket.once('error', callback);
    socket.once('connect', () => {
      socket.off('error', callback);
      callback(null, socket);
    });
  };
}

/** new WebSocket(url, { createConnection: wsConnection(host) }) */
export function wsConnection(host) {
  return ({ port }) => host.connect({ port: Number(port) });
}

/** new pg.Client({ stream: pgStream(host), host: STG, port: 5432, ... }), and so a pg.Pool */
export function pgStream(host) {
  return () => new host.Socket();
}
