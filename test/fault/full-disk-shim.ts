/**
 * Disks that fail on demand: a library for LD_PRELOAD that counts the calls of a process that change
 * the file system below one directory, and fails the n-th. What to do is in a file that the process
 * maps, so that one process can be told again and again, and so that several count together.
 *
 *   0  u32  armed: 1 while calls are counted
 *   4  u32  calls counted since then
 *   8  u32  which one fails, from 1 on
 *  12  u32  errno
 *  16  u32  mode: 0 that one fails; 1 that one and all after it that need room; 2 it writes half
 *  20  u32  calls that failed or wrote half
 *  64       the first of them: its name and its path
 */
import { closeSync, constants as fsConstants, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { compile } from '../native/compiler.js';

const { O_RDWR, O_CREAT } = fsConstants;
const CONTROL_BYTES = 4096;
const CALL_OFFSET = 64;

export const modes = { once: 0, full: 1, short: 2 } as const;
export type Mode = keyof typeof modes;

const text = String.raw`
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
  uint32_t armed, count, at, error, mode, failed;
  char pad[40];
  char call[4032];
};
static struct control* control;
static const char* under;

__attribute__((constructor)) static void setUp(void) {
  under = getenv("STPD_TEST_FULL_UNDER");
  const char* path = getenv("STPD_TEST_FULL_CONTROL");
  if (!under || !path) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* at = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at != MAP_FAILED) control = at;
  close(fd);
}

static int isUnder(const char* path) {
  size_t n = strlen(under);
  return strncmp(path, under, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static int fdPath(int fd, char* into) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, into, PATH_MAX - 1);
  if (n < 0) return 0;
  into[n] = 0;
  return 1;
}

/* The path without a descriptor of /proc in front, or relative to dirfd. */
static void resolvePath(int dirfd, const char* path, char* into) {
  int fd, used = 0;
  char base[PATH_MAX];
  if (sscanf(path, "/proc/self/fd/%d%n", &fd, &used) == 1 && used > 0 && fdPath(fd, base))
    snprintf(into, 2 * PATH_MAX, "%s%s", base, path + used);
  else if (path[0] != '/' && dirfd != AT_FDCWD && fdPath(dirfd, base))
    snprintf(into, 2 * PATH_MAX, "%s/%s", base, path);
  else
    snprintf(into, 2 * PATH_MAX, "%s", path);
}

/* 0: go on; 1: fail, errno is set; 2: write half. */
static int judge(const char* call, const char* path, int grows) {
  if (!isUnder(path)) return 0;
  uint32_t n = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
  int hit = n == control->at || (control->mode == 1 && n > control->at && grows);
  if (!hit || control->at == 0) return 0;
  if (control->mode == 1 && !grows) {
    /* A full disk stops nothing that needs no room: the next one that does is the first. */
    __atomic_add_fetch(&control->at, 1, __ATOMIC_SEQ_CST);
    return 0;
  }
  if (control->mode == 2 && strncmp(call, "write", 5) != 0) return 0;
  if (__atomic_fetch_add(&control->failed, 1, __ATOMIC_SEQ_CST) == 0)
    snprintf(control->call, sizeof control->call, "%s %s", call, path);
  if (control->mode == 2) return 2;
  errno = (int)control->error;
  return 1;
}

static int judgeFd(const char* call, int fd, int grows) {
  if (!control || !control->armed) return 0;
  char path[PATH_MAX];
  int saved = errno;
  int found = fdPath(fd, path);
  errno = saved;
  return found ? judge(call, path, grows) : 0;
}

static int judgePath(const char* call, int dirfd, const char* path, int grows, int isNew) {
  if (!control || !control->armed) return 0;
  char whole[2 * PATH_MAX];
  int saved = errno;
  resolvePath(dirfd, path, whole);
  struct stat st;
  int there = isNew && lstat(whole, &st) == 0;
  errno = saved;
  return there ? 0 : judge(call, whole, grows);
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void* data, size_t n) {
  REAL(write);
  int j = judgeFd("write", fd, 1);
  return j == 1 ? -1 : real(fd, data, j == 2 && n > 1 ? n / 2 : n);
}
#define PWRITE(name, offset) \
  ssize_t name(int fd, const void* data, size_t n, offset at) { \
    REAL(name); \
    int j = judgeFd("write", fd, 1); \
    return j == 1 ? -1 : real(fd, data, j == 2 && n > 1 ? n / 2 : n, at); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec* v, int n) {
  REAL(writev);
  int j = judgeFd("writev", fd, 1);
  return j == 1 ? -1 : real(fd, v, j == 2 && n > 1 ? n / 2 : n);
}
#define PWRITEV(name, offset) \
  ssize_t name(int fd, const struct iovec* v, int n, offset at) { \
    REAL(name); \
    int j = judgeFd("writev", fd, 1); \
    return j == 1 ? -1 : real(fd, v, j == 2 && n > 1 ? n / 2 : n, at); \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)
#define ON_FD(name, call, grows, parameters, ...) \
  int name parameters { \
    REAL(name); \
    return judgeFd(call, fd, grows) == 1 ? -1 : real(__VA_ARGS__); \
  }
ON_FD(fsync, "fsync", 0, (int fd), fd)
ON_FD(fdatasync, "fsync", 0, (int fd), fd)
ON_FD(ftruncate, "ftruncate", 0, (int fd, off_t size), fd, size)
ON_FD(ftruncate64, "ftruncate", 0, (int fd, off64_t size), fd, size)
ON_FD(fallocate, "fallocate", 1, (int fd, int mode, off_t at, off_t size), fd, mode, at, size)
ON_FD(fallocate64, "fallocate", 1, (int fd, int mode, off64_t at, off64_t size), fd, mode, at, size)
ON_FD(fsetxattr, "setxattr", 1,
      (int fd, const char* name, const void* value, size_t size, int flags), fd, name, value, size, flags)
#define ON_PATH(name, call, grows, isNew, dirfd, path, parameters, ...) \
  int name parameters { \
    REAL(name); \
    return judgePath(call, dirfd, path, grows, isNew) == 1 ? -1 : real(__VA_ARGS__); \
  }
ON_PATH(rename, "rename", 0, 0, AT_FDCWD, to, (const char* from, const char* to), from, to)
ON_PATH(renameat, "rename", 0, 0, tofd, to, (int fromfd, const char* from, int tofd, const char* to),
        fromfd, from, tofd, to)
ON_PATH(mkdir, "mkdir", 1, 1, AT_FDCWD, path, (const char* path, mode_t mode), path, mode)
ON_PATH(mkdirat, "mkdir", 1, 1, fd, path, (int fd, const char* path, mode_t mode), fd, path, mode)
ON_PATH(link, "link", 1, 1, AT_FDCWD, to, (const char* from, const char* to), from, to)
ON_PATH(linkat, "link", 1, 1, tofd, to,
        (int fromfd, const char* from, int tofd, const char* to, int flags), fromfd, from, tofd, to, flags)
ON_PATH(symlink, "symlink", 1, 1, AT_FDCWD, path, (const char* to, const char* path), to, path)
ON_PATH(mknod, "mknod", 1, 1, AT_FDCWD, path, (const char* path, mode_t mode, dev_t dev), path, mode, dev)
ON_PATH(lsetxattr, "setxattr", 1, 0, AT_FDCWD, path,
        (const char* path, const char* name, const void* value, size_t size, int flags),
        path, name, value, size, flags)
#define OPEN(name) \
  int name(const char* path, int flags, ...) { \
    REAL(name); \
    va_list list; \
    va_start(list, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0; \
    va_end(list); \
    if ((flags & O_CREAT) && judgePath("open", AT_FDCWD, path, 1, 1) == 1) return -1; \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
  int name(int fd, const char* path, int flags, ...) { \
    REAL(name); \
    va_list list; \
    va_start(list, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0; \
    va_end(list); \
    if ((flags & O_CREAT) && judgePath("open", fd, path, 1, 1) == 1) return -1; \
    return real(fd, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)
`;

/** Compiles the library in `directory`; its path. */
export const compileShim = (directory: string): string =>
  compile(directory, 'full-disk.so', 'c', text, ['-shared', '-fPIC', '-O1', '-w', '-ldl']);

export interface Fault {
  readonly mode: Mode;
  /** Which call, from 1 on; 0: none, they are only counted. */
  readonly at: number;
  readonly code: 'ENOSPC' | 'EIO' | 'EDQUOT';
}

/** Tells the shim of the processes that have it. */
export class FaultControl {
  readonly #fd: number;

  constructor(readonly path: string) {
    // Never made shorter: processes have mapped it.
    this.#fd = openSync(path, O_RDWR | O_CREAT, 0o600);
    writeSync(this.#fd, Buffer.alloc(CONTROL_BYTES), 0, CONTROL_BYTES, 0);
  }

  /** What a process needs to have the shim. */
  static environment(shim: string, control: string, under: string): Record<string, string> {
    return {
      LD_PRELOAD: shim,
      STPD_TEST_FULL_CONTROL: control,
      STPD_TEST_FULL_UNDER: under,
    };
  }

  arm({ mode, at, code }: Fault): void {
    const bytes = Buffer.alloc(CONTROL_BYTES);
    const fields = [1, 0, at, constants.errno[code], modes[mode], 0];
    for (const [i, value] of fields.entries()) bytes.writeUInt32LE(value, i * 4);
    writeSync(this.#fd, bytes, 0, bytes.length, 0);
  }

  /** @returns how many calls there were, how many of them failed, and which was the first of these */
  disarm(): { calls: number; failed: number; first: string } {
    const bytes = Buffer.alloc(CONTROL_BYTES);
    readSync(this.#fd, bytes, 0, bytes.length, 0);
    writeSync(this.#fd, Buffer.alloc(4), 0, 4, 0);
    const end = bytes.indexOf(0, CALL_OFFSET);
    return {
      calls: bytes.readUInt32LE(4),
      failed: bytes.readUInt32LE(20),
      first: bytes.toString('utf8', CALL_OFFSET, end),
    };
  }

  close(): void {
    closeSync(this.#fd);
  }
}

export const shimIn = (directory: string): string => join(directory, 'full-disk.so');
