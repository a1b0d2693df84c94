/**
 * Every byte that two parties share is declared here, once.
 *
 * Valid if and only if the reader's `layoutHash` equals the superblock's. All numbers are
 * little-endian. Words of 32 bits that change are accessed atomically. What a host reads here is
 * hostile input (another host of the STG may have written it): load once, clamp, then use.
 */
import { defineStruct } from './define.js';

/** Raised whenever the meaning of a shared byte changes, also where no offset does. */
export const LAYOUT_VERSION = 1;

/** "STPDSEG1", read as a little-endian 64-bit number. */
export const SUPERBLOCK_MAGIC = 0x3147455344505453n;

/** Bytes of one page: the unit of ownership, of exchange, and the longest single board access. */
export const PAGE_BYTES = 65536;

/** Entries of one direction's page list; with PAGE_BYTES it bounds the window to 4 MiB. */
export const PAGE_LIST_ENTRIES = 64;

/** The window: bytes that may be in flight in one direction. A power of two, far below 2^31. */
export const WINDOW_BYTES = PAGE_BYTES * PAGE_LIST_ENTRIES;

export const COMMAND_RING_ENTRIES = 128;
export const EVENT_RING_ENTRIES = 256;
export const STG_NAME_BYTES = 64;
export const STG_DIRECTORY_ENTRIES = 64;
/**
 * Files of one STG: the first, and one for each time that it grew. Their descriptors come in one
 * message at attach, their places stand in its directory entry.
 */
export const STG_EXTENTS_MAX = 16;
/** Boards of one array; the superblock has a byte for each. */
export const BOARDS_MAX = 1024;
/** Channel directors of one array; the register has a record for each. */
export const DIRECTORS_MAX = 16;
/** Control events that an STG's register remembers. Divides 2^32: their number wraps. */
export const CONTROL_EVENT_ENTRIES = 4096;

export const STG_EXTENT = defineStruct('stg_extent', 16, 'One file of an STG, for display.', {
  offset: { type: 'u64', writer: 'stpd', doc: 'where it is mapped in every segment, bytes' },
  boardCount: { type: 'u32', writer: 'stpd', doc: 'boards in it' },
  connectionCount: { type: 'u32', writer: 'stpd', doc: 'connection slots in it' },
});

export const STG_ENTRY = defineStruct('stg_entry', 512, 'One STG in the superblock directory.', {
  state: { type: 'u32', writer: 'stpd', doc: '0 free, 1 live, 2 being deleted; published last' },
  generation: { type: 'u32', writer: 'stpd', doc: 'distinguishes STGs that used this entry' },
  offset: { type: 'u64', writer: 'stpd', doc: 'where the STG is mapped in every segment, bytes' },
  bytes: { type: 'u64', writer: 'stpd', doc: 'bytes of all its files' },
  boardBytes: { type: 'u64', writer: 'stpd', doc: 'bytes of one of its boards' },
  boardCount: { type: 'u32', writer: 'stpd', doc: 'boards, all files together' },
  director: { type: 'u32', writer: 'stpd', doc: 'number of the channel director that serves it' },
  connectionCount: { type: 'u32', writer: 'stpd', doc: 'connection slots, all files together' },
  memberCount: { type: 'u32', writer: 'stpd', doc: 'member slots' },
  name: { type: 'u8', count: STG_NAME_BYTES, writer: 'stpd', doc: 'UTF-8, zero padded' },
  extentCount: { type: 'u32', writer: 'stpd', doc: 'files: 1, and one for each time it grew' },
  reserved: { type: 'u32', writer: 'nobody', doc: 'zero' },
  extents: {
    type: 'u8',
    count: STG_EXTENT.bytes * STG_EXTENTS_MAX,
    line: true,
    writer: 'stpd',
    doc: 'stg_extent[16]; the first says where the STG file is',
  },
});

export const SUPERBLOCK = defineStruct(
  'superblock',
  65536,
  'Start of the segment. Written by stpd only; hosts map it read-only.',
  {
    magic: { type: 'u64', writer: 'stpd', doc: 'SUPERBLOCK_MAGIC; published last' },
    layoutVersion: { type: 'u32', writer: 'stpd', doc: 'LAYOUT_VERSION' },
    state: { type: 'u32', writer: 'stpd', doc: '1 serving, 2 stopping, 3 stopped' },
    layoutHash: { type: 'u8', count: 32, writer: 'stpd', doc: 'SHA-256 of these tables' },
    instance: { type: 'u8', count: 16, writer: 'stpd', doc: 'random identity of this segment' },
    segmentBytes: { type: 'u64', writer: 'stpd', doc: 'bytes of the reserved range' },
    boardBytes: { type: 'u64', writer: 'stpd', doc: 'bytes of a board' },
    boardCount: { type: 'u32', writer: 'stpd', doc: 'boards of the array' },
    directorCount: { type: 'u32', writer: 'stpd', doc: 'channel directors' },
    pid: { type: 'u32', writer: 'stpd', doc: 'for display only: a PID is not an identity' },
    reserved: { type: 'u32', writer: 'nobody', doc: 'zero' },
    directory: {
      type: 'u8',
      count: STG_ENTRY.bytes * STG_DIRECTORY_ENTRIES,
      line: true,
      writer: 'stpd',
      doc: 'stg_entry[64]',
    },
    boardStgs: {
      type: 'u8',
      count: BOARDS_MAX,
      line: true,
      writer: 'stpd',
      doc: 'for each board of the array: 1 + directory entry of its STG, or 0',
    },
  },
);

export const STG_HEADER = defineStruct(
  'stg_header',
  256,
  'Start of an STG file. Advisory counters only: nothing here is trusted.',
  {
    pagesClaimed: {
      type: 'u32',
      writer: 'any host, atomic add',
      doc: 'pages with an owner; corrected by the director from the owner words',
    },
    pageWants: {
      type: 'u32',
      writer: 'any host, atomic add',
      doc: 'times that a stream without a page found none, wrapping: who sees it change gives back what its peer has read',
    },
    pollers: { type: 'u32', line: true, writer: 'any host', doc: 'threads polling now; advisory' },
  },
);

export const BOARD = defineStruct(
  'board',
  256,
  'Lock and counters of one memory board. The counters of the first line change only under the lock.',
  {
    lock: {
      type: 'u64',
      writer: 'lock holder, thief',
      doc: '0 free, else member + 1 (16 bits), its thread (16), generation (32)',
    },
    accesses: { type: 'u64', writer: 'lock holder', doc: 'copies and exchanges under the lock' },
    bytes: { type: 'u64', writer: 'lock holder', doc: 'bytes of these copies' },
    contended: { type: 'u64', writer: 'lock holder', doc: 'accesses that found the lock taken' },
    steals: { type: 'u32', writer: 'lock holder', doc: 'locks taken over from a dead holder' },
    bypassed: {
      type: 'u64',
      line: true,
      writer: 'any host, atomic add',
      doc: 'pages used in place or moved by a file: owned, not accessed',
    },
    bypassedBytes: { type: 'u64', writer: 'any host, atomic add', doc: 'bytes of these' },
  },
);

export const MEMBER = defineStruct(
  'member',
  384,
  'One host in one STG: its event loop’s sleep word, and its counters.',
  {
    sleep: {
      type: 'u32',
      writer: 'its event loop sets, a ringer clears',
      doc: '1 while the event loop sleeps: whoever changes it to 0 rings the bell',
    },
    wakesSent: { type: 'u32', line: true, writer: 'the member', doc: 'bells it rang, wrapping' },
    wakesSuppressed: { type: 'u32', writer: 'the member', doc: 'bells not needed: peer was awake' },
    pollHits: { type: 'u32', writer: 'the member', doc: 'polls that found work before sleeping' },
    pollMisses: { type: 'u32', writer: 'the member', doc: 'polls that ended in sleep' },
    safetyFirings: { type: 'u32', writer: 'the member', doc: 'wake-ups the safety timer found' },
    extents: {
      type: 'u32',
      line: true,
      writer: 'director',
      doc: 'files of the STG that it has mapped, from the first on: only their pages go into its lists',
    },
  },
);

/** Counters of one end of one direction: the COUNT_ numbers. */
const COUNTS = 5;

export const DIRECTION = defineStruct(
  'direction',
  640,
  'One direction of a connection: two cursor lines, the wake line and the page list.',
  {
    tail: { type: 'u32', writer: 'producer', doc: 'bytes produced, wrapping at 2^32' },
    fin: { type: 'u32', writer: 'producer', doc: '1: tail is final. Read before tail' },
    reset: { type: 'u32', writer: 'producer', doc: '1: connection aborted by this end' },
    producerWaits: { type: 'u32', writer: 'producer', doc: 'times it found no empty page' },
    bytesProduced: { type: 'u64', writer: 'producer', doc: 'for display' },
    finishedAt: {
      type: 'u64',
      writer: 'producer',
      doc: 'when fin or reset was set, microseconds since 1970; for display',
    },
    producerCounts: {
      type: 'u32',
      count: COUNTS,
      writer: 'producer',
      doc: 'of the producer, by COUNT_ number, wrapping; for display',
    },
    head: { type: 'u32', line: true, writer: 'consumer', doc: 'bytes consumed, wrapping at 2^32' },
    consumerWaits: { type: 'u32', writer: 'consumer', doc: 'times it found no full page' },
    bytesConsumed: { type: 'u64', writer: 'consumer', doc: 'for display' },
    closedAt: {
      type: 'u64',
      writer: 'consumer',
      doc: 'when closed was set, microseconds since 1970; for display',
    },
    consumerCounts: {
      type: 'u32',
      count: COUNTS,
      writer: 'consumer',
      doc: 'of the consumer, by COUNT_ number, wrapping; for display',
    },
    consumerWait: {
      type: 'u32',
      line: true,
      writer: 'consumer arms, producer clears',
      doc: '0 nobody, 1 a thread in futex, 2 an event loop; seq-cst with tail',
    },
    producerWait: {
      type: 'u32',
      writer: 'producer arms, consumer clears',
      doc: 'the same for head',
    },
    closed: {
      type: 'u32',
      writer: 'consumer',
      doc: '1: consumes no more, 2: and aborted. Beside the wait words because the producer looks at each publication',
    },
    pages: {
      type: 'u32',
      count: PAGE_LIST_ENTRIES,
      line: true,
      writer: 'producer; the consumer during an exchange of an entry the producer has left',
      doc: 'page number + 1, or 0 for none. Entry of byte b: (b / 65536) mod 64',
    },
  },
);

export const CONNECTION = defineStruct(
  'connection',
  1408,
  'One connection slot. Direction e carries what end e sends. The header is for display: a host acts on what its director told it.',
  {
    state: { type: 'u32', writer: 'director', doc: '0 free, 1 established, 2 closing' },
    generation: {
      type: 'u32',
      writer: 'director',
      doc: 'uses of this slot, 1 to 16383, then from 1 again',
    },
    members: {
      type: 'u32',
      count: 2,
      writer: 'director',
      doc: 'member of end 0 (connected), 1 (accepted)',
    },
    ports: { type: 'u32', count: 2, writer: 'director', doc: 'port of each end' },
    hosts: {
      type: 'u32',
      count: 2,
      writer: 'director',
      doc: 'host number of each end; 0: an end outside of the array',
    },
    mechanism: {
      type: 'u32',
      writer: 'director',
      doc: 'MECHANISM_STORAGE; or MECHANISM_NETWORK: a TCP connection of end 0, listed only',
    },
    reason: {
      type: 'u32',
      writer: 'director',
      doc: 'why it goes over the network, a REASON_ number; 0 for storage',
    },
    remoteAddress: {
      type: 'u32',
      count: 4,
      writer: 'director',
      doc: 'network: the peer’s IPv6 address, most significant word first, IPv4 as ::ffff:a.b.c.d; 0: not known',
    },
    openedAt: {
      type: 'u64',
      writer: 'director',
      doc: 'when the connection was made, microseconds since 1970',
    },
    closedEnds: {
      type: 'u32',
      writer: 'director',
      doc: 'bit e: the host of end e has let go of it',
    },
    directions: {
      type: 'u8',
      count: DIRECTION.bytes * 2,
      line: true,
      writer: 'see direction',
      doc: 'direction[2]',
    },
  },
);

export const COMMAND = defineStruct('command', 64, 'One command of a host to its director.', {
  op: { type: 'u32', writer: 'host', doc: 'an OP_ number' },
  seq: { type: 'u32', writer: 'host', doc: 'repeated in the event that answers' },
  socket: { type: 'u32', writer: 'host', doc: 'the host’s own number for the socket' },
  port: {
    type: 'u32',
    writer: 'host',
    doc: 'local port of BIND and LISTEN, remote of CONNECT and NETWORK_OPEN',
  },
  backlog: {
    type: 'u32',
    writer: 'host',
    doc: 'LISTEN: connections that may wait; CLOSE: the end, 0 or 1',
  },
  connection: {
    type: 'u32',
    writer: 'host',
    doc: 'ACCEPT, CLOSE: the slot; GREW: files of the STG that are mapped',
  },
  generation: { type: 'u32', writer: 'host', doc: 'ACCEPT, CLOSE: its generation' },
  localPort: {
    type: 'u32',
    writer: 'host',
    doc: 'CONNECT: bound local port, or 0; NETWORK_OPEN: local TCP port',
  },
  reason: { type: 'u32', writer: 'host', doc: 'NETWORK_OPEN: a REASON_ number' },
  address0: { type: 'u32', writer: 'host', doc: 'NETWORK_OPEN: as remoteAddress, first word' },
  address1: { type: 'u32', writer: 'host', doc: 'second word' },
  address2: { type: 'u32', writer: 'host', doc: 'third word' },
  address3: { type: 'u32', writer: 'host', doc: 'fourth word' },
  reserved: { type: 'u32', count: 3, writer: 'nobody', doc: 'zero' },
});

export const EVENT = defineStruct('event', 64, 'One answer or notice of a director to a host.', {
  kind: { type: 'u32', writer: 'director', doc: 'an EVENT_ number' },
  seq: { type: 'u32', writer: 'director', doc: 'of the command, or 0 for a notice' },
  status: { type: 'u32', writer: 'director', doc: '0, or a POSIX error number' },
  socket: {
    type: 'u32',
    writer: 'director',
    doc: 'the host’s number: of the command, or the listener’s',
  },
  connection: {
    type: 'u32',
    writer: 'director',
    doc: 'slot; with a status: how many of what it lacks are in use',
  },
  generation: { type: 'u32', writer: 'director', doc: 'of the slot; with a status: of how many' },
  end: {
    type: 'u32',
    writer: 'director',
    doc: '0 connected, 1 accepted; with a status: what it lacks, a LACK_ number',
  },
  cable: { type: 'u32', writer: 'director', doc: 'number of the doorbell shared with the peer' },
  localPort: { type: 'u32', writer: 'director', doc: '1 to 65535' },
  remotePort: { type: 'u32', writer: 'director', doc: '1 to 65535' },
  peerMember: { type: 'u32', writer: 'director', doc: 'member slot of the peer' },
  peerHost: { type: 'u32', writer: 'director', doc: 'host number of the peer' },
  peerUid: { type: 'u32', writer: 'director', doc: 'as the kernel attested it at attach' },
  peerGid: { type: 'u32', writer: 'director', doc: 'as the kernel attested it at attach' },
  peerPid: { type: 'u32', writer: 'director', doc: 'for display' },
  reason: {
    type: 'u32',
    writer: 'director',
    doc: 'CONNECTED with a status: what the array lacks for it, a REASON_ number',
  },
});

export const MEMBER_RING = defineStruct(
  'member_ring',
  32768,
  'Command and event ring between one host and the director of one STG. Mapped by these two only.',
  {
    commandTail: { type: 'u32', writer: 'host', doc: 'commands written, wrapping' },
    eventHead: { type: 'u32', writer: 'host', doc: 'events read, wrapping' },
    commandHead: { type: 'u32', line: true, writer: 'director', doc: 'commands read, wrapping' },
    eventTail: { type: 'u32', writer: 'director', doc: 'events written, wrapping' },
    directorSleep: {
      type: 'u32',
      line: true,
      writer: 'director sets, host clears',
      doc: '1 while the director sleeps: whoever changes it to 0 rings',
    },
    hurry: {
      type: 'u32',
      line: true,
      writer: 'director',
      doc: '1 while connects wait for a place in a backlog of this host: then ACCEPT rings too',
    },
    commands: {
      type: 'u8',
      count: COMMAND.bytes * COMMAND_RING_ENTRIES,
      line: true,
      writer: 'host',
      doc: 'command[128]',
    },
    events: {
      type: 'u8',
      count: EVENT.bytes * EVENT_RING_ENTRIES,
      line: true,
      writer: 'director',
      doc: 'event[256]',
    },
  },
);

export const DIRECTOR = defineStruct('director', 128, 'What one channel director has done.', {
  thread: {
    type: 'u32',
    writer: 'the director',
    doc: 'its thread’s number in stpd’s PID namespace',
  },
  pollHits: { type: 'u32', writer: 'the director', doc: 'polls that found work before sleeping' },
  pollMisses: { type: 'u32', writer: 'the director', doc: 'polls that ended in sleep' },
  safetyFirings: {
    type: 'u32',
    writer: 'the director',
    doc: 'wake-ups that only the safety timer found',
  },
  commands: { type: 'u64', writer: 'the director', doc: 'commands of hosts it has carried out' },
  loops: { type: 'u64', writer: 'the director', doc: 'turns of its event loop' },
  wakesSent: { type: 'u32', writer: 'the director', doc: 'hosts it rang for an event, wrapping' },
  wakesSuppressed: { type: 'u32', writer: 'the director', doc: 'bells not needed: awake already' },
});

export const REGISTERED_STG = defineStruct(
  'registered_stg',
  128,
  'Where a reader of stpd’s descriptors finds one STG. Same place as its directory entry.',
  {
    generation: { type: 'u32', writer: 'stpd', doc: 'of the STG; 0 none. Published last' },
    registerFile: { type: 'u32', writer: 'stpd', doc: 'descriptor of its register in stpd' },
    portsMax: { type: 'u32', writer: 'stpd', doc: 'listeners and binds it may have' },
    reserved: { type: 'u32', writer: 'nobody', doc: 'zero' },
    offset: { type: 'u64', writer: 'stpd', doc: 'where the register is mapped in stpd, bytes' },
    files: {
      type: 'u32',
      count: STG_EXTENTS_MAX,
      writer: 'stpd',
      doc: 'descriptors of the STG’s files in stpd',
    },
  },
);

export const ARRAY_REGISTER = defineStruct(
  'array_register',
  16384,
  'What stpd writes down for people about the array. Mapped by stpd, and by who may read its descriptors; never by hosts.',
  {
    instance: { type: 'u8', count: 16, writer: 'stpd', doc: 'that of the superblock' },
    startedAt: { type: 'u64', writer: 'stpd', doc: 'microseconds since 1970' },
    directors: {
      type: 'u8',
      count: DIRECTOR.bytes * DIRECTORS_MAX,
      line: true,
      writer: 'see director',
      doc: 'director[16]',
    },
    stgs: {
      type: 'u8',
      count: REGISTERED_STG.bytes * STG_DIRECTORY_ENTRIES,
      line: true,
      writer: 'stpd',
      doc: 'registered_stg[64]',
    },
    boardIndexes: {
      type: 'u32',
      count: BOARDS_MAX,
      line: true,
      writer: 'stpd',
      doc: 'for each board of the array: its number in its STG',
    },
  },
);

export const STG_REGISTER = defineStruct(
  'stg_register',
  256,
  'Start of an STG’s register: what its director writes down for people. Registered members, ports and control events follow it. Never mapped by hosts, so what stands here is the director’s word.',
  {
    generation: { type: 'u32', writer: 'director', doc: 'of the STG' },
    members: { type: 'u32', writer: 'director', doc: 'registered_member[members] follow' },
    ports: { type: 'u32', writer: 'director', doc: 'registered_port[ports] follow these' },
    eventTail: {
      type: 'u32',
      line: true,
      writer: 'director',
      doc: 'control events written, wrapping: published after the event',
    },
  },
);

export const REGISTERED_MEMBER = defineStruct(
  'registered_member',
  256,
  'Who a member is, as the kernel told stpd at attach.',
  {
    generation: {
      type: 'u32',
      writer: 'director',
      doc: 'of the member; 0 nobody. Published last',
    },
    host: { type: 'u32', writer: 'director', doc: 'number of the host' },
    uid: { type: 'u32', writer: 'director', doc: 'attested' },
    gid: { type: 'u32', writer: 'director', doc: 'attested' },
    pid: { type: 'u32', writer: 'director', doc: 'attested; for display: a PID is no identity' },
    nameBytes: { type: 'u32', writer: 'director', doc: 'bytes of the name' },
    attachedAt: { type: 'u64', writer: 'director', doc: 'microseconds since 1970' },
    name: {
      type: 'u8',
      count: 224,
      writer: 'director',
      doc: 'what the host calls itself, UTF-8, cut',
    },
  },
);

export const REGISTERED_PORT = defineStruct('registered_port', 32, 'A listener or a bound port.', {
  port: { type: 'u32', writer: 'director', doc: '1 to 65535; 0 none. Published last' },
  member: { type: 'u32', writer: 'director', doc: 'its holder' },
  listening: { type: 'u32', writer: 'director', doc: '1 listener, 0 bound only' },
  backlog: { type: 'u32', writer: 'director', doc: 'connections that may wait for accept' },
  waiting: { type: 'u32', writer: 'director', doc: 'connections that wait for accept' },
  pending: { type: 'u32', writer: 'director', doc: 'connects that wait for a place there' },
  reserved: { type: 'u32', count: 2, writer: 'nobody', doc: 'zero' },
});

export const CONTROL_EVENT = defineStruct(
  'control_event',
  64,
  'Something that happened to a port or a connection, in a ring of an STG’s register.',
  {
    at: { type: 'u64', writer: 'director', doc: 'microseconds since 1970' },
    kind: { type: 'u32', writer: 'director', doc: 'a CONTROL_ number' },
    connection: { type: 'u32', writer: 'director', doc: 'slot, where there is one' },
    generation: { type: 'u32', writer: 'director', doc: 'of the slot, or 0: no connection' },
    end: { type: 'u32', writer: 'director', doc: 'whose doing it was: 0 connected, 1 accepted' },
    port: { type: 'u32', writer: 'director', doc: 'local port of that end, or the listener’s' },
    remotePort: { type: 'u32', writer: 'director', doc: 'the other end’s port, or 0' },
    host: { type: 'u32', writer: 'director', doc: 'number of the host whose doing it was' },
    peerHost: { type: 'u32', writer: 'director', doc: 'number of the other host, or 0' },
    status: { type: 'u32', writer: 'director', doc: '0, or the POSIX error number of a refusal' },
    flags: { type: 'u32', writer: 'director', doc: 'CONTROL_FLAG_ bits that it found' },
    sent: { type: 'u64', writer: 'director', doc: 'bytes that the end had produced' },
    received: { type: 'u64', writer: 'director', doc: 'bytes that the end had consumed' },
  },
);

/** All tables, in the order in which they appear in the header and the document. */
export const STRUCTS = [
  STG_EXTENT,
  STG_ENTRY,
  SUPERBLOCK,
  STG_HEADER,
  BOARD,
  MEMBER,
  DIRECTION,
  CONNECTION,
  COMMAND,
  EVENT,
  MEMBER_RING,
  DIRECTOR,
  REGISTERED_STG,
  ARRAY_REGISTER,
  STG_REGISTER,
  REGISTERED_MEMBER,
  REGISTERED_PORT,
  CONTROL_EVENT,
] as const;

/** Numbers with a meaning on both sides of the language border. */
export const NUMBERS = {
  WAIT_NONE: 0,
  WAIT_FUTEX: 1,
  WAIT_LOOP: 2,
  /** Where cursors start: every stream crosses 2^32 in its first megabyte, so the wrap is no rarity. */
  CURSOR_START: 0xfff00000,
  CLOSED_ORDERLY: 1,
  CLOSED_RESET: 2,
  OP_BIND: 1,
  OP_LISTEN: 2,
  OP_CONNECT: 3,
  OP_ACCEPT: 4,
  OP_CLOSE: 5,
  OP_UNBIND: 6,
  OP_NETWORK_OPEN: 7,
  /** Tells how many files of the STG the host has mapped. */
  OP_GREW: 8,
  EVENT_BOUND: 1,
  EVENT_LISTENING: 2,
  EVENT_CONNECTED: 3,
  EVENT_INCOMING: 4,
  EVENT_CLOSED: 5,
  EVENT_UNBOUND: 6,
  EVENT_NETWORK_OPENED: 7,
  /** Bells and futex calls; publications that needed none. */
  COUNT_WAKES_SENT: 0,
  COUNT_WAKES_SUPPRESSED: 1,
  /** Of threads that wait: looks that found what they waited for, and those that ended in sleep. */
  COUNT_POLL_HITS: 2,
  COUNT_POLL_MISSES: 3,
  /** Sleeps that only the end of a slice has ended although there was work. */
  COUNT_SAFETY_FIRINGS: 4,
  CONTROL_LISTENING: 1,
  CONTROL_BOUND: 2,
  CONTROL_UNBOUND: 3,
  CONTROL_OPENED: 4,
  CONTROL_ACCEPTED: 5,
  CONTROL_CLOSED: 6,
  CONTROL_HOST_GONE: 7,
  CONTROL_FREED: 8,
  CONTROL_QUEUED: 9,
  CONTROL_REFUSED: 10,
  /** What the director found in the directions when an end let go. */
  CONTROL_FLAG_FIN: 1,
  CONTROL_FLAG_RESET: 2,
  CONTROL_FLAG_PEER_FIN: 4,
  CONTROL_FLAG_PEER_RESET: 8,
  CONTROL_FLAG_UNREAD: 16,
  /** A connection over the network, listed only; the event's status is its REASON_ number. */
  CONTROL_FLAG_NETWORK: 32,
  STG_LIVE: 1,
  STG_DELETING: 2,
  CONNECTION_FREE: 0,
  CONNECTION_ESTABLISHED: 1,
  CONNECTION_CLOSING: 2,
  MECHANISM_STORAGE: 0,
  MECHANISM_NETWORK: 1,
  /** Why a connection goes over the network: texts in src/connect/reason.ts. */
  REASON_NONE: 0,
  REASON_ASKED: 1,
  REASON_NO_STPD: 2,
  REASON_NO_STG: 3,
  REASON_NO_ACCESS: 4,
  REASON_PEER_NOT_ATTACHED: 5,
  REASON_PEER_NOT_LISTENING: 6,
  REASON_STG_FULL: 7,
  REASON_NO_ANSWER: 8,
  REASON_OTHER_VERSION: 9,
  REASON_NOT_HERE: 10,
  REASON_PEER_CAME: 11,
  /** What there was no more of, in a refusal. */
  LACK_NOTHING: 0,
  /** Listeners and binds of the STG. */
  LACK_PORTS: 1,
  LACK_DYNAMIC_PORTS: 2,
  LACK_SLOTS: 3,
  /** A doorbell for the two hosts: no descriptor in stpd, or a channel that is full. */
  LACK_CABLE: 4,
  /** Places for connects that wait for a place in a listener's backlog. */
  LACK_BACKLOG: 5,
  OWNER_FREE: 0,
  /** Top two bits of a page's owner word; below them 14 bits of generation, 16 of index. */
  OWNER_MEMBER: 1,
  OWNER_CONNECTION: 2,
} as const;
