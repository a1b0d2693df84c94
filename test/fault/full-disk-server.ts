/**
 * Whole backups by real processes, the server's with the shim of full-disk-shim.ts: each call on its
 * disk fails in turn. After each: whoever asked is told the reason, nothing half-made is listed,
 * nothing lies in `tmp`, earlier sets are whole, and the same backup works once the disk does.
 */
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkLibrary } from '../../src/library/check-library.js';
import { Library } from '../../src/library/library.js';
import { SPREAD_BYTES_MIN } from '../../src/library/spread.js';
import { until } from '../support/array.js';
import { makeSmallTree, portrait, restored } from '../unit/library/flips.js';
import { lockFile } from '../unit/library/stand-ins.js';
import { compileShim, type Fault, FaultControl } from './full-disk-shim.js';
import { KillsHouse } from './kills-house.js';

export interface FullServerReport {
  /** Calls on the disk that one backup makes, and how many were made to fail. */
  readonly calls: number;
  readonly tried: number;
  readonly wrong: readonly string[];
}

/** A server has told before it has tidied up. */
const TMP_TIMEOUT_MS = 30_000;
/** What the reason of a failed call says; a message may say it in words. */
const REASONS: Readonly<Record<Fault['code'], RegExp>> = {
  ENOSPC: /ENOSPC|no space left|disk .* is full/,
  EDQUOT: /EDQUOT|quota/,
  EIO: /EIO|i\/o error|disk failed/,
};

/** @param step every how many calls one fails: 1 for all */
export async function tryFullServer(
  mode: Fault['mode'],
  code: Fault['code'],
  step: number,
): Promise<FullServerReport> {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'stpd-full-')));
  const under = join(base, 'under');
  mkdirSync(under);
  const control = new FaultControl(join(base, 'control'));
  const shim = FaultControl.environment(compileShim(base), control.path, under);
  let house: KillsHouse | null = null;
  try {
    house = await KillsHouse.start(under, '1MiB', shim);
    const rounds = new FullServerRounds(house, control, { mode, code });
    return await rounds.run(step);
  } finally {
    await house?.destroy(true);
    control.close();
    rmSync(base, { recursive: true, force: true });
  }
}

class FullServerRounds {
  readonly #wrong: string[] = [];
  readonly #library: Library;
  readonly #good: string;

  constructor(
    private readonly house: KillsHouse,
    private readonly control: FaultControl,
    private readonly fault: Pick<Fault, 'mode' | 'code'>,
  ) {
    const { source, library } = house;
    makeSmallTree(source);
    for (const name of ['large-a', 'large-b'])
      writeFileSync(join(source, name), Buffer.alloc(SPREAD_BYTES_MIN, name));
    this.#library = Library.open(library, { lockFile });
    this.#good = portrait(source);
  }

  async run(step: number): Promise<FullServerReport> {
    await this.#backUp();
    const [first] = this.#listed();
    for (let at = 1; ; at += step) {
      this.control.arm({ ...this.fault, at });
      const { code, stderr } = await this.#backUp();
      const { calls, failed, first: call } = this.control.disarm();
      if (at > calls) return { calls, tried: Math.ceil((at - 1) / step), wrong: this.#wrong };
      const problems = await this.#judge(code === 0 ? null : stderr, failed, first as string);
      this.#wrong.push(...problems.map((problem) => `call ${at} (${call}): ${problem}`));
      for (const id of this.#listed()) if (id !== first) this.#remove(id);
    }
  }

  #backUp(): Promise<{ readonly code: number | null; readonly stderr: string }> {
    const { source, serverConfig } = this.house;
    const how = ['--streams', '2', '--config', serverConfig];
    return this.house.begin('stpbackup', 'fs', `host1:${source}`, ...how).ended;
  }

  async #judge(reason: string | null, failed: number, first: string): Promise<string[]> {
    const wrong: string[] = [];
    const { mode, code } = this.fault;
    const left = () => readdirSync(join(this.house.library, 'tmp'));
    await until('tmp is empty', () => left().length === 0, TMP_TIMEOUT_MS).catch(() => {
      wrong.push(`left in tmp: ${left().join()}`);
    });
    const made = this.#listed().filter((id) => id !== first);
    if (reason === null) {
      if (failed > 0 && mode !== 'short') wrong.push('it says that all is well');
      if (made.length !== 1) wrong.push(`it made ${made.length} sets`);
    } else {
      if (mode === 'short') wrong.push('a short write is no failure');
      if (!REASONS[code].test(reason)) wrong.push(`its reason does not name ${code}: ${reason}`);
      if (made.length > 0) wrong.push(`it failed and made ${made.join()}`);
      const again = await this.#backUp();
      if (again.code !== 0) wrong.push(`afterwards it fails, too: ${again.stderr}`);
    }
    const onProblem = ({ message }: { message: string }) => void wrong.push(message);
    checkLibrary(this.#library, [], { kind: 'data' }, { onProblem });
    for (const id of this.#listed()) {
      const found = restored(this.#library, id, join(this.house.base, 'r'), this.house.source);
      if (found !== this.#good) wrong.push(`set ${id} does not restore as it was`);
    }
    return wrong;
  }

  #listed(): string[] {
    const { sets, damaged } = this.#library.list();
    return [...sets, ...damaged].map(({ id }) => id);
  }

  #remove(id: string): void {
    rmSync(join(this.house.library, 'sets', id), { recursive: true });
  }
}
