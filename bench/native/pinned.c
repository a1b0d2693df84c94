/*
 * pinned CPU COMMAND [ARGUMENT...]: runs a command on one CPU. What `taskset -c` does; here so that
 * the benchmark needs nothing but a C compiler.
 */
#include "two_processes.h"

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: pinned CPU COMMAND [ARGUMENT...]\n");
    return 2;
  }
  pin_to_cpu(atoi(argv[1]));
  execvp(argv[2], argv + 2);
  die(argv[2]);
}
