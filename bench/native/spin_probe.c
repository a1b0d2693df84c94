/*
 * spin_probe [serve] [CPU_A CPU_B]: how far apart are two CPUs now?
 *
 * Two processes pass one word of shared memory to and fro, both spinning. A hop is one store of one
 * process seen by the other; 20,000 hops are timed in 100 groups and the median group is printed in
 * nanoseconds a hop, so that a group in which somebody was descheduled does not count. With `serve`
 * each line on standard input asks for one probe; between probes both processes sleep.
 */
#include "two_processes.h"

#include <stdatomic.h>

enum { GROUPS = 100, ROUND_TRIPS = 100, HOPS = GROUPS * ROUND_TRIPS * 2 };
_Static_assert(HOPS == 20000, "performance.md, rule 1");

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void answer(_Atomic uint32_t *word) {
  uint32_t turns = 0;
  for (uint32_t i = 1; i < HOPS; i += 2) {
    while (atomic_load_explicit(word, memory_order_acquire) != i) spin_turn(&turns);
    atomic_store_explicit(word, i + 1, memory_order_release);
  }
}

static double probe(_Atomic uint32_t *word) {
  double ns[GROUPS];
  uint32_t i = 1, turns = 0;
  for (int g = 0; g < GROUPS; g++) {
    uint64_t start = monotonic_ns();
    for (int k = 0; k < ROUND_TRIPS; k++, i += 2) {
      atomic_store_explicit(word, i, memory_order_release);
      while (atomic_load_explicit(word, memory_order_acquire) != i + 1) spin_turn(&turns);
    }
    ns[g] = (double)(monotonic_ns() - start) / (2 * ROUND_TRIPS);
  }
  qsort(ns, GROUPS, sizeof ns[0], compare);
  return (ns[GROUPS / 2 - 1] + ns[GROUPS / 2]) / 2;
}

int main(int argc, char **argv) {
  int serve = argc > 1 && strcmp(argv[1], "serve") == 0;
  int first = serve ? 2 : 1;
  int cpu_a = argc > first + 1 ? atoi(argv[first]) : -1;
  int cpu_b = argc > first + 1 ? atoi(argv[first + 1]) : -1;
  _Atomic uint32_t *word = shared_memory("stpd-bench-probe", 4096);
  int to_child[2], from_child[2];
  if (pipe(to_child) != 0 || pipe(from_child) != 0) die("pipe");

  char go = 'g';
  if (!fork_pinned(cpu_a, cpu_b)) {
    close(to_child[1]);
    for (;;) {
      read_all(to_child[0], &go, 1);
      write_all(from_child[1], &go, 1);
      answer(word);
    }
  }
  close(to_child[0]);
  char line[64];
  while (!serve || fgets(line, sizeof line, stdin) != NULL) {
    atomic_store(word, 0);
    write_all(to_child[1], &go, 1);
    read_all(from_child[0], &go, 1);
    printf("{\"nsPerHop\":%.1f}\n", probe(word));
    fflush(stdout);
    if (!serve) break;
  }
  end_child();
  return 0;
}
