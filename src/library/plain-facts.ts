/** Members of media that were no files: streams, and what a database sends. Any thread. */
import type { TarMember } from './pax.js';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const whoRuns = (): Owner => ({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });

/** Facts of a member that no file system has: nothing but a name, and now. */
export function plainFacts(
  path: string,
  size: number,
  { uid, gid }: Owner = whoRuns(),
): TarMember & { ctimeNs: bigint; ino: bigint; dev: bigint } {
  const mtimeNs = BigInt(Date.now()) * 1_000_000n;
  return {
    path: Buffer.from(path),
    type: 'file',
    mode: 0o600,
    uid,
    gid,
    size,
    mtimeNs,
    ctimeNs: mtimeNs,
    ino: 0n,
    dev: 0n,
    link: null,
    major: 0,
    minor: 0,
  };
}
