/** An array without memory: what the control API, the daemon and the tools are tested with. */
import { createHash } from 'node:crypto';
import type {
  ArrayControl,
  ArrayOptions,
  ArrayReport,
  BoardReport,
  GrowRequest,
  HostReport,
  StgReport,
  StgRequest,
} from '../../../src/daemon/reports.js';
import { stpError } from '../../../src/errors.js';
import type { Figures, SocketReport } from '../../../src/view/figures.js';
import type { TraceReading } from '../../../src/view/trace.js';

const PAGE_BYTES = 65536;

export class FakeArray implements ArrayControl {
  readonly requests: StgRequest[] = [];
  /** A creation waits for this; two at once are an error. */
  beforeCreate: Promise<unknown> = Promise.resolve();
  changesNow = 0;
  started = false;
  stopped = false;
  hosts: HostReport[] = [];
  sockets: SocketReport[] = [];
  samples = 0;
  readonly #stgs = new Map<string, StgReport>();
  #generation = 0;

  constructor(readonly options: Pick<ArrayOptions, 'configuration' | 'runDirectory'>) {}

  async start(): Promise<void> {
    this.started = true;
  }

  async stop(): Promise<void> {
    this.stopped = true;
  }

  async arrayReport(): Promise<ArrayReport> {
    const { configuration, runDirectory } = this.options;
    return {
      instance: '00112233445566778899aabbccddeeff',
      state: 'serving',
      pid: process.pid,
      version: '0.1.0',
      layoutVersion: 1,
      layoutHash: createHash('sha256').digest('hex'),
      startedAt: '2026-01-31T12:00:00.000Z',
      uptimeSeconds: 3723,
      runDirectory,
      boardsTotal: configuration.boards,
      boardsUsed: this.#boards().filter((board) => board.stg !== null).length,
      boardBytes: configuration.boardBytes,
      memoryBytes: 65536,
      directors: [{ number: 0, state: 'running', load: 0.125, stgs: [], commands: 7 }],
      hosts: this.hosts.length,
      stgs: this.#stgs.size,
      sockets: this.sockets.length,
    };
  }

  async boardReports(): Promise<BoardReport[]> {
    return this.#boards();
  }

  #boards(): BoardReport[] {
    const { boards, boardBytes } = this.options.configuration;
    const owners = [...this.#stgs.values()];
    return Array.from({ length: boards }, (_, number) => ({
      number,
      stg: owners.find((stg) => stg.boards.includes(number))?.name ?? null,
      bytes: boardBytes,
      pages: boardBytes / PAGE_BYTES,
      pagesUsed: 0,
      accesses: 0,
      contended: 0,
      bypassed: 0,
      bytesMoved: 0,
      steals: 0,
    }));
  }

  async createStg(request: StgRequest): Promise<StgReport> {
    this.requests.push(request);
    this.changesNow += 1;
    try {
      if (this.changesNow > 1) throw new Error('two changes at once');
      await this.beforeCreate;
      return this.#create(request);
    } finally {
      this.changesNow -= 1;
    }
  }

  #create(request: StgRequest): StgReport {
    const { name, boardCount, ports, allowUids, allowGids } = request;
    if (this.#stgs.has(name)) throw stpError('EEXIST', `there is an STG ${name} already`);
    const free = this.#boards().filter((board) => board.stg === null);
    if (free.length < boardCount) {
      throw stpError('ENOSPC', `${boardCount} boards are asked for, ${free.length} are free`);
    }
    this.#generation += 1;
    const pagesTotal = (boardCount * this.options.configuration.boardBytes) / PAGE_BYTES;
    const stg: StgReport = {
      name,
      generation: this.#generation,
      state: 'live',
      director: 0,
      boards: free.slice(0, boardCount).map((board) => board.number),
      memoryBytes: boardCount * this.options.configuration.boardBytes,
      pagesTotal,
      pagesFree: pagesTotal,
      pagesOfConnections: 0,
      pagesOfHosts: 0,
      hostPages: [],
      connectionPages: [],
      portsUsed: 0,
      portsMax: ports,
      connectionsUsed: 0,
      connectionsMax: request.connections ?? 0,
      members: [],
      membersBehind: [],
      allowUids,
      allowGids,
    };
    this.#stgs.set(name, stg);
    return stg;
  }

  async growStg(name: string, { boardCount, connections }: GrowRequest): Promise<StgReport> {
    const stg = await this.stgReport(name);
    const free = this.#boards().filter((board) => board.stg === null);
    if (free.length < boardCount) {
      throw stpError('ENOSPC', `${boardCount} boards are asked for, ${free.length} are free`);
    }
    const more = free.slice(0, boardCount).map((board) => board.number);
    const grown = {
      ...stg,
      boards: [...stg.boards, ...more],
      connectionsMax: stg.connectionsMax + connections,
    };
    this.#stgs.set(name, grown);
    return grown;
  }

  async stgReports(): Promise<StgReport[]> {
    return [...this.#stgs.values()];
  }

  async stgReport(name: string): Promise<StgReport> {
    const stg = this.#stgs.get(name);
    if (stg === undefined) throw stpError('ENOENT', `there is no STG ${name}`);
    return stg;
  }

  async deleteStg(name: string, force: boolean): Promise<void> {
    const stg = await this.stgReport(name);
    if (this.hosts.some((host) => host.stgs.includes(name)) && !force) {
      throw stpError('EBUSY', `STG ${name} is in use; delete it with --force`);
    }
    this.#stgs.delete(stg.name);
  }

  async hostReports(): Promise<HostReport[]> {
    return this.hosts;
  }

  async socketReports(): Promise<SocketReport[]> {
    return this.sockets;
  }

  /** Each sample is a second after the one before it; every socket has moved a KiB out meanwhile. */
  async figures(): Promise<Figures> {
    const sample = this.samples++;
    const { configuration } = this.options;
    return {
      takenMs: sample * 1000,
      takenAt: new Date(sample * 1000).toISOString(),
      intervalMs: null,
      array: {
        instance: '00112233445566778899aabbccddeeff',
        state: 'serving',
        pid: process.pid,
        startedAt: '2026-01-31T12:00:00.000Z',
        boardBytes: configuration.boardBytes,
        boardsTotal: configuration.boards,
        boardsUsed: 0,
      },
      boards: [],
      stgs: [],
      sockets: this.sockets.map((s) => ({ ...s, bytesSent: s.bytesSent + sample * 1024 })),
      hosts: [],
      directors: [],
    };
  }

  async trace(name: string, since = 0): Promise<TraceReading> {
    await this.stgReport(name);
    return { next: since, lost: 0, events: [], takenUs: 0, connection: null, hosts: [] };
  }
}

export const exampleHost: HostReport = {
  id: 3,
  pid: 4711,
  uid: 1000,
  gid: 1000,
  name: 'evil\x1b[2Jname',
  stgs: ['backup'],
  sockets: 2,
  sendPages: 5,
  heldPages: 1,
  attachedAt: '2026-01-31T12:00:01.000Z',
};

export const exampleSocket: SocketReport = {
  id: 'backup/17.2',
  stg: 'backup',
  mechanism: 'stp',
  reason: null,
  remoteAddress: null,
  state: 'ESTABLISHED',
  end: 0,
  localPort: 40000,
  localHost: 3,
  localName: 'evil\x1b[2Jname',
  localPid: 4711,
  localUid: 1000,
  remotePort: 7398,
  peerHost: 4,
  peerName: null,
  peerPid: 4712,
  peerUid: 0,
  sendQueueBytes: 65536,
  receiveQueueBytes: 0,
  bytesSent: 5 * 2 ** 30,
  bytesReceived: 1536,
  sendBytesPerSecond: null,
  receiveBytesPerSecond: null,
  sendWaits: 12,
  receiveWaits: 0,
  wakesSent: 3,
  wakesSuppressed: 70,
  pollHits: 0,
  pollMisses: 0,
  safetyFirings: 0,
  sendPages: 1,
  receivePages: 0,
  waiting: null,
  backlog: null,
  pending: null,
  openedAt: '2026-01-31T12:00:02.000Z',
};

export const exampleListener: SocketReport = {
  ...exampleSocket,
  id: 'backup:40000',
  state: 'LISTEN',
  end: null,
  remotePort: null,
  peerHost: null,
  peerName: null,
  peerPid: null,
  peerUid: null,
  waiting: 2,
  backlog: 16,
  pending: 0,
  openedAt: null,
};
