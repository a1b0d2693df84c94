/** Which stored paths are below which. Any thread; no state. */

const SLASH = 0x2f;

/** `.` stands for everything. */
export const isAtOrBelow = (path: Buffer, top: Buffer): boolean =>
  (top.length === 1 && top[0] === 0x2e) ||
  (path.length >= top.length &&
    path.compare(top, 0, top.length, 0, top.length) === 0 &&
    (path.length === top.length || path[top.length] === SLASH));
