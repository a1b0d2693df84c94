/**
 * Where STP is not as `node:net`, and why. The comparison demands each of these and no other; the
 * table in docs/sockets.md is made of them.
 */

export interface Edit {
  readonly lane: string;
  /** Neighbouring lines over `node:net`. */
  readonly net: readonly string[];
  /** What stands in their place over STP. */
  readonly stp: readonly string[];
}

export interface Difference {
  /** Title of the situation that shows it. */
  readonly situation: string;
  readonly net: string;
  readonly stp: string;
  readonly why: string;
  /** Below this major version of Node; from it on, both do the same. */
  readonly before?: number;
  readonly edits: readonly Edit[];
}

export const differences: readonly Difference[] = [
  {
    situation: 'a peer that is killed',
    net: "'end', as if it had said so",
    stp: 'ECONNRESET, once everything that had arrived is read',
    why: 'a torso must not pass for the whole',
    edits: [
      {
        lane: 'server',
        net: ['accepted: end', 'accepted: prefinish', 'accepted: finish', 'accepted: close false'],
        stp: ['accepted: error Error ECONNRESET read', 'accepted: close true'],
      },
    ],
  },
  {
    situation: 'a write to a peer that has closed',
    net: 'the first write succeeds, a later one fails with EPIPE',
    stp: 'the first write fails with EPIPE',
    why: 'the peer is seen to be gone in memory, nothing has to be sent to learn it',
    edits: [
      {
        lane: 'client',
        net: [
          'returns true',
          'write one()',
          'destroyed false',
          'write two() Error EPIPE write',
          'client: error Error EPIPE write',
          'client: close true',
        ],
        stp: [
          'returns false',
          'write one() Error EPIPE write',
          'client: error Error EPIPE write',
          'client: close true',
          'destroyed true',
        ],
      },
    ],
  },
  {
    situation: 'listen without a host: when address() is known',
    net: '`listening` and `address()` at once',
    stp: "from 'listening' on, as `net` has it where a host is given",
    why: 'another process, the director, gives out ports; the event loop does not block for it',
    edits: [
      {
        lane: 'client',
        net: ['listening true, address true'],
        stp: ['listening false, address false'],
      },
    ],
  },
  {
    situation: 'ports after close',
    net: '`localPort`, `address()` and what was never asked before are gone',
    stp: '`localPort`, `remotePort`, `address()` and `peer` stay',
    why: 'a log line about the end of a connection needs them',
    edits: [
      {
        lane: 'client',
        net: ['remotePort undefined, localPort undefined', 'remoteAddress undefined, '],
        stp: ['remotePort number, localPort number', 'remoteAddress string, address,family,port'],
      },
    ],
  },
  {
    situation: 'a signal that was aborted before',
    net: "'error', 'close', and then it connects all the same",
    stp: "'error', 'close', and it does not connect",
    why: 'an aborted connect connects nothing',
    edits: [
      { lane: 'client', net: ['client: connect', 'client: ready'], stp: [] },
      { lane: 'server', net: ['server: connection socket'], stp: [] },
    ],
  },
  {
    situation: 'end of a socket that was never connected',
    net: 'waits to be connected',
    stp: "'finish' at once, as newer Nodes have it",
    why: 'there is nothing to wait for',
    before: 22,
    edits: [
      {
        lane: 'client',
        net: [
          'client is readOnly, pending, readable, writableEnded, flowing null, errored null, read 0, written 0, unsent 0, unread 0, timeout undefined',
        ],
        stp: [
          'client: prefinish',
          'end()',
          'client: finish',
          'client is readOnly, pending, readable, writableEnded, writableFinished, flowing null, errored null, read 0, written 0, unsent 0, unread 0, timeout undefined',
        ],
      },
    ],
  },
  {
    situation: 'destroy with writes waiting',
    net: 'the callback of the write under way tells of no error',
    stp: 'ECANCELED, as newer Nodes have it',
    why: 'the bytes were not sent',
    before: 22,
    edits: [
      {
        lane: 'client',
        net: [
          'write one()',
          'write two() Error ERR_STREAM_DESTROYED',
          'end() Error ERR_STREAM_DESTROYED',
        ],
        stp: [
          'write one() Error ECANCELED write',
          'write two() Error ECANCELED write',
          'end() Error ECANCELED write',
        ],
      },
    ],
  },
  {
    situation: 'destroy with an error, with writes waiting',
    net: 'the callback of the write under way tells of no error',
    stp: 'ECANCELED, as newer Nodes have it',
    why: 'the bytes were not sent',
    before: 22,
    edits: [{ lane: 'client', net: ['write one()'], stp: ['write one() Error ECANCELED write'] }],
  },
  {
    situation: 'a reset right behind data that nobody has read yet',
    net: "'end' behind the data",
    stp: 'ECONNRESET behind the data, as newer Nodes have it',
    why: 'a torso must not pass for the whole',
    before: 24,
    edits: [
      {
        lane: 'server',
        net: ['accepted: end', 'accepted: prefinish', 'accepted: finish', 'accepted: close false'],
        stp: ['accepted: error Error ECONNRESET read', 'accepted: close true'],
      },
    ],
  },
  {
    situation: 'resetAndDestroy with writes waiting',
    net: "'end' behind the data",
    stp: 'ECONNRESET behind the data, as newer Nodes have it',
    why: 'a torso must not pass for the whole',
    before: 24,
    edits: [
      {
        lane: 'server',
        net: ['accepted: end', 'accepted: prefinish', 'accepted: finish', 'accepted: close false'],
        stp: ['accepted: error Error ECONNRESET read', 'accepted: close true'],
      },
    ],
  },
  {
    situation: 'data and a reset with the connection: for await',
    net: "'end' behind the data",
    stp: 'ECONNRESET behind the data, as newer Nodes have it',
    why: 'a torso must not pass for the whole',
    before: 24,
    edits: [
      {
        lane: 'server',
        net: ['accepted: end', 'has all', 'accepted: close false'],
        stp: [
          'accepted: error Error ECONNRESET read',
          'rejects Error ECONNRESET read',
          'accepted: close true',
        ],
      },
    ],
  },
  {
    situation: 'maxConnections 0',
    net: 'no bound',
    stp: 'drops every connection, as newer Nodes have it',
    why: '0 is a number',
    before: 22,
    edits: [
      {
        lane: 'client',
        net: ['client: close false'],
        stp: ['client: end', 'client: prefinish', 'client: finish', 'client: close false'],
      },
      {
        lane: 'server',
        net: [
          'server: connection socket',
          'accepted: end',
          'accepted: prefinish',
          'accepted: finish',
          'accepted: close false',
        ],
        stp: ['server: drop from P1 to P2'],
      },
    ],
  },
];
