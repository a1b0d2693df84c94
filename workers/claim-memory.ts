/**
 * Thread entry: claims the space of an STG's file and maps it. The kernel zeroes every page, one to
 * three seconds a GiB, so that neither the control API nor a director stands still meanwhile.
 */
import { native } from '../src/native.js';

export interface ClaimTask {
  readonly segment: number;
  readonly fd: number;
  readonly offset: number;
  readonly bytes: number;
}

export default function run({ segment, fd, offset, bytes }: ClaimTask): void {
  native().claim(fd, bytes);
  native().map(segment, offset, fd, bytes, true);
}
