/*
 * What the two-process programs of the benchmark share: a pinned pair of processes, a monotonic
 * clock, CPU seconds, and a spin that notices when the other process is gone.
 */
#ifndef STPD_BENCH_TWO_PROCESSES_H
#define STPD_BENCH_TWO_PROCESSES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#define CPU_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_RELAX() __asm__ volatile("yield")
#else
#define CPU_RELAX() __asm__ volatile("" ::: "memory")
#endif

static inline void die(const char *what) {
  fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Runs the calling process on one CPU only; a negative number leaves it free. */
static inline void pin_to_cpu(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) die("sched_setaffinity");
}

static inline double monotonic_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline uint64_t monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Memory of an anonymous file, seen by both processes, with every page in place. */
static inline void *shared_memory(const char *name, size_t bytes) {
  int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) die("memfd_create");
  if (ftruncate(fd, (off_t)bytes) != 0) die("ftruncate");
  if (posix_fallocate(fd, 0, (off_t)bytes) != 0) die("posix_fallocate");
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (p == MAP_FAILED) die("mmap");
  close(fd);
  return p;
}

/* The other process: for the child its parent, for the parent its child. */
static pid_t peer_pid;
static int peer_is_child;

/*
 * One turn of a spin. Every 16,384 turns it looks whether the peer lives and gives the CPU away,
 * so that a machine with one CPU gets on and a killed peer leaves no process burning.
 */
static inline void spin_turn(uint32_t *turns) {
  CPU_RELAX();
  if ((++*turns & 0x3fff) != 0) return;
  if (peer_is_child ? waitpid(peer_pid, NULL, WNOHANG) != 0 : getppid() != peer_pid) {
    fprintf(stderr, "bench: the other process is gone\n");
    exit(1);
  }
  sched_yield();
}

/* Forks; the parent runs on cpu_a, the child on cpu_b and dies with its parent. */
static inline int fork_pinned(int cpu_a, int cpu_b) {
  pid_t parent = getpid();
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    peer_pid = parent;
    peer_is_child = 0;
    pin_to_cpu(cpu_b);
    return 0;
  }
  peer_pid = child;
  peer_is_child = 1;
  pin_to_cpu(cpu_a);
  return 1;
}

/* For the parent, before it ends: in a container nobody else may collect the child. */
static inline void end_child(void) {
  kill(peer_pid, SIGKILL);
  waitpid(peer_pid, NULL, 0);
}

static inline void read_all(int fd, void *into, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = read(fd, (char *)into + done, bytes - done);
    if (n == 0) exit(0);
    if (n < 0 && errno != EINTR) die("read");
    if (n > 0) done += (size_t)n;
  }
}

static inline void write_all(int fd, const void *from, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = write(fd, (const char *)from + done, bytes - done);
    if (n < 0 && errno != EINTR) die("write");
    if (n > 0) done += (size_t)n;
  }
}

#endif
