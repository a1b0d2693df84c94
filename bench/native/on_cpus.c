/*
 * on_cpus CPU[,CPU...] COMMAND [ARGUMENT...]: runs a command on these CPUs only. What `taskset -c`
 * does; here so that the benchmark needs nothing but a C compiler.
 */
#include "two_processes.h"

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: on_cpus CPU[,CPU...] COMMAND [ARGUMENT...]\n");
    return 2;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  for (char *cpu = strtok(argv[1], ","); cpu != NULL; cpu = strtok(NULL, ",")) {
    CPU_SET(atoi(cpu), &set);
  }
  if (sched_setaffinity(0, sizeof set, &set) != 0) die("sched_setaffinity");
  execvp(argv[2], argv + 2);
  die(argv[2]);
}
