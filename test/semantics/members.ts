/**
 * What `node:net` has and a host has not. Whatever this Node adds must be given a place: in the
 * library, or in the list below with its reason.
 */
import net from 'node:net';
import { type Host, StpServer, StpSocket } from '../../src/index.js';

export interface Absent {
  readonly names: readonly string[];
  readonly why: string;
}

/** As `net.NAME`, `Socket.NAME` (a method or property), `Server.NAME`. */
export const absent: readonly Absent[] = [
  {
    names: ['net.isIP', 'net.isIPv4', 'net.isIPv6', 'net.BlockList', 'net.SocketAddress'],
    why: 'an STG has ports and no addresses; for those of the network take them from `node:net`',
  },
  {
    names: [
      'net.getDefaultAutoSelectFamily',
      'net.setDefaultAutoSelectFamily',
      'net.getDefaultAutoSelectFamilyAttemptTimeout',
      'net.setDefaultAutoSelectFamilyAttemptTimeout',
      'Socket.autoSelectFamilyAttemptedAddresses',
    ],
    why: 'no names are looked up and no addresses tried',
  },
  { names: ['net.Stream'], why: 'the old name of `Socket`' },
  { names: ['net.BoundSocket'], why: '`host.bind(port)` reserves a port' },
  {
    names: ['Socket.setTypeOfService', 'Socket.getTypeOfService'],
    why: 'there are no packets to mark',
  },
];

const isPublic = (name: string): boolean => !name.startsWith('_') && name !== 'constructor';

/** Names of an object and of its class, without those that every object of `Base` has. */
function namesOf(instance: object, Base: new () => object): string[] {
  const inherited = new Base();
  const own = [
    ...Object.keys(instance),
    ...Object.getOwnPropertyNames(Object.getPrototypeOf(instance)),
  ];
  return own.filter((name) => isPublic(name) && !(name in inherited));
}

/** Names of `net` that a host lacks and nobody has given a reason for; and reasons for nothing. */
export async function unexplained(host: Host): Promise<string[]> {
  const { Duplex } = await import('node:stream');
  const { EventEmitter } = await import('node:events');
  const socket = new host.Socket();
  const lacking = [
    ...Object.keys(net)
      .filter((name) => isPublic(name) && !(name in host))
      .map((name) => `net.${name}`),
    ...namesOf(new net.Socket(), Duplex as new () => object)
      .filter((name) => !(name in socket))
      .map((name) => `Socket.${name}`),
    ...namesOf(net.createServer(), EventEmitter)
      .filter((name) => !(name in host.createServer()))
      .map((name) => `Server.${name}`),
  ];
  const explained = absent.flatMap(({ names }) => names);
  const has = (name: string): boolean => {
    const [of, key = ''] = name.split('.');
    if (of === 'net') return key in host;
    return key in (of === 'Socket' ? StpSocket.prototype : StpServer.prototype);
  };
  return [
    ...lacking.filter((name) => !explained.includes(name)),
    ...explained.filter(has).map((name) => `${name} is there`),
  ];
}
