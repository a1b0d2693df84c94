/*
 * The machine's own ceiling: what a C program reaches with the array's window and page size.
 *
 *   memcpy_2p MODE SIZE SECONDS [CPU_A CPU_B]   one round
 *   memcpy_2p serve [CPU_A CPU_B]               a round for each line "MODE SIZE SECONDS VERIFY"
 *
 * Modes:
 *   copy       two processes, one ring of shared memory (4 MiB, pieces end at 64 KiB pages, cursors
 *              on lines of their own): one copies SIZE bytes in from a private buffer for each
 *              message, the other copies what is there, up to a page's end, to a private buffer
 *   sum        the same ring: one fills in place, the other sums 64-bit words in place
 *   ping-pong  two processes, one message each way at a time, copied in and out on both sides
 *   memcpy     one process, one thread: from a private buffer of SIZE bytes into 4 MiB, in turn
 *
 * A round ends at the first block boundary after SECONDS; its time ends when the consumer is
 * through, taken by the producer's clock alone. Prints a JSON line: bytes, messages, seconds, CPU
 * seconds of both processes, and a digest of what arrived beside the one that should have:
 * copy, memcpy: d = 31 d + byte over every 4093rd byte; sum: the sum; ping-pong: sum of the numbers
 * that came back. VERIFY 1 compares every byte as well. SIZE is a power of two, 64 and more.
 *
 * Content, as in pattern.ts: byte i of a message is (167 i + 13 (i >> 8)) mod 256; in mode sum all
 * bytes of block k, a block being 256 KiB or one message, are 1 + k mod 127.
 */
#include "two_processes.h"

#include <stdatomic.h>

enum {
  WINDOW = 4 << 20,
  PAGE = 64 << 10,
  BLOCK = 256 << 10,
  SAMPLE = 4093,
  LINE = 128,
  /* Latencies: bins of 1 ns up to 4 us, of 64 ns up to 262 us, of 4 us up to 16 ms. */
  BINS = 4096,
};
#define NOT_YET UINT64_MAX

enum mode { MODE_COPY, MODE_SUM, MODE_PING_PONG, MODE_MEMCPY, MODE_COUNT };
static const char *const mode_names[MODE_COUNT] = {"copy", "sum", "ping-pong", "memcpy"};

struct command {
  enum mode mode;
  int verify;
  uint64_t size;
  double seconds;
};

struct outcome {
  uint64_t digest;
  double cpu;
  int equal;
};

/* One writer a line: tail and end by the producer, head by the consumer. */
struct shared {
  _Alignas(LINE) _Atomic uint32_t ready;
  _Alignas(LINE) _Atomic uint64_t tail;
  _Alignas(LINE) _Atomic uint64_t head;
  _Alignas(LINE) _Atomic uint64_t end;
  _Alignas(LINE) _Atomic uint64_t ping;
  _Alignas(LINE) _Atomic uint64_t pong;
  _Alignas(PAGE) unsigned char ring[WINDOW];
};

static struct shared *shared;
static uint32_t bins[3][BINS];

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

static unsigned char content(uint64_t i) { return (unsigned char)(i * 167 + (i >> 8) * 13); }
static unsigned char block_value(uint64_t block) { return (unsigned char)(1 + block % 127); }

static unsigned char *private_buffer(uint64_t bytes) {
  unsigned char *p = aligned_alloc(PAGE, max_u64(bytes, PAGE));
  if (p == NULL) die("aligned_alloc");
  return p;
}

static unsigned char *message(uint64_t size) {
  unsigned char *p = private_buffer(size);
  for (uint64_t i = 0; i < size; i++) p[i] = content(i);
  return p;
}

typedef uint64_t words8 __attribute__((vector_size(64), may_alias));

/*
 * Sum of 64-bit words modulo 2^64. Vectors are spelled out and there are four sums: what a compiler
 * made of the plain loop was slower than the memory, and this is here to show the memory's speed.
 */
static uint64_t sum_words(const unsigned char *p, uint64_t bytes) {
  const words8 *w = __builtin_assume_aligned(p, 64);
  uint64_t count = bytes / sizeof *w, i = 0, sum = 0;
  words8 sums[4] = {{0}};
  for (; i + 4 <= count; i += 4) {
    for (int k = 0; k < 4; k++) sums[k] += w[i + k];
  }
  for (; i < count; i++) sums[0] += w[i];
  sums[0] += sums[1] + sums[2] + sums[3];
  for (int lane = 0; lane < 8; lane++) sum += sums[0][lane];
  return sum;
}

/* The digest of bytes first to last of the stream, taken from memory where byte p lies at at(p). */
struct sampler {
  uint64_t next;
  uint32_t digest;
};

static inline void sample(struct sampler *s, const unsigned char *piece, uint64_t start,
                          uint64_t bytes) {
  for (; s->next < start + bytes; s->next += SAMPLE) {
    s->digest = s->digest * 31 + piece[s->next - start];
  }
}

static uint64_t expected_samples(uint64_t first, uint64_t last, uint64_t size) {
  uint32_t digest = 0;
  uint64_t p = (first + SAMPLE - 1) / SAMPLE * SAMPLE;
  for (; p < last; p += SAMPLE) digest = digest * 31 + content(p & (size - 1));
  return digest;
}

static uint64_t expected_sum(uint64_t bytes, uint64_t block_bytes) {
  uint64_t sum = 0;
  for (uint64_t block = 0; block < bytes / block_bytes; block++) {
    sum += block_bytes / 8 * (block_value(block) * 0x0101010101010101u);
  }
  return sum;
}

/* True if the piece, which starts at byte `start` of the stream, holds what it should. */
static int equals(const unsigned char *piece, uint64_t start, uint64_t bytes,
                  const struct command *c, const unsigned char *source) {
  if (c->mode == MODE_SUM) {
    unsigned char value = block_value(start / max_u64(BLOCK, c->size));
    for (uint64_t i = 0; i < bytes; i++) {
      if (piece[i] != value) return 0;
    }
    return 1;
  }
  for (uint64_t done = 0; done < bytes;) {
    uint64_t at = (start + done) & (c->size - 1);
    uint64_t n = min_u64(bytes - done, c->size - at);
    if (memcmp(piece + done, source + at, n) != 0) return 0;
    done += n;
  }
  return 1;
}

/* --- the ring ------------------------------------------------------------------------------- */

static uint64_t produce(const struct command *c, const unsigned char *source) {
  const uint64_t block_bytes = max_u64(BLOCK, c->size);
  const double deadline = monotonic_seconds() + c->seconds;
  uint64_t tail = 0, head = 0;
  uint32_t turns = 0;
  for (uint64_t block = 0; block == 0 || monotonic_seconds() < deadline; block++) {
    const unsigned char value = block_value(block);
    for (uint64_t sent = 0; sent < block_bytes; sent += c->size) {
      for (uint64_t done = 0; done < c->size;) {
        uint64_t room;
        while ((room = WINDOW - (tail - head)) == 0) {
          /* SYNC: acquire, pairs with the consumer's release of head */
          head = atomic_load_explicit(&shared->head, memory_order_acquire);
          if (tail - head == WINDOW) spin_turn(&turns);
        }
        uint64_t n = min_u64(min_u64(c->size - done, room), PAGE - tail % PAGE);
        unsigned char *to = shared->ring + tail % WINDOW;
        if (c->mode == MODE_SUM) memset(to, value, n);
        else memcpy(to, source + done, n);
        done += n;
        tail += n;
        /* SYNC: release, pairs with the consumer's acquire of tail */
        atomic_store_explicit(&shared->tail, tail, memory_order_release);
      }
    }
  }
  atomic_store_explicit(&shared->end, tail, memory_order_release);
  while (atomic_load_explicit(&shared->head, memory_order_acquire) != tail) spin_turn(&turns);
  return tail;
}

static void consume(const struct command *c, unsigned char *into, const unsigned char *source,
                    struct outcome *out) {
  /* What a receiver hands to its receive call: at least a page, at most 1 MiB. */
  const uint64_t into_bytes = min_u64(max_u64(c->size, PAGE), 1 << 20);
  struct sampler s = {0, 0};
  uint64_t tail = 0, head = 0, sum = 0;
  uint32_t turns = 0;
  for (;;) {
    if (tail == head) {
      /* SYNC: acquire, pairs with the producer's release of tail */
      tail = atomic_load_explicit(&shared->tail, memory_order_acquire);
      if (tail == head) {
        if (atomic_load_explicit(&shared->end, memory_order_acquire) == head) break;
        spin_turn(&turns);
        continue;
      }
    }
    uint64_t n = min_u64(tail - head, PAGE - head % PAGE);
    const unsigned char *piece = shared->ring + head % WINDOW;
    if (c->mode == MODE_SUM) {
      sum += sum_words(piece, n);
    } else {
      unsigned char *to = into + head % into_bytes;
      memcpy(to, piece, n);
      piece = to;
      sample(&s, piece, head, n);
    }
    if (c->verify && !equals(piece, head, n, c, source)) out->equal = 0;
    head += n;
    /* SYNC: release, pairs with the producer's acquire of head */
    atomic_store_explicit(&shared->head, head, memory_order_release);
  }
  out->digest = c->mode == MODE_SUM ? sum : s.digest;
}

/* --- ping-pong ------------------------------------------------------------------------------ */

static void record(uint64_t ns) {
  if (ns < BINS) bins[0][ns]++;
  else if (ns / 64 < BINS) bins[1][ns / 64]++;
  else bins[2][min_u64(ns / 4096, BINS - 1)]++;
}

/* Messages travel in the ring's first half there and in its second half back. */
static uint64_t ping(const struct command *c, unsigned char *buffer, uint64_t *digest) {
  const double deadline = monotonic_seconds() + c->seconds;
  unsigned char *there = shared->ring, *back = shared->ring + WINDOW / 2;
  uint64_t i = 0, start = monotonic_ns();
  uint32_t turns = 0;
  do {
    for (int k = 0; k < 64; k++) {
      i++;
      memcpy(buffer, &i, sizeof i);
      memcpy(there, buffer, c->size);
      atomic_store_explicit(&shared->ping, i, memory_order_release);
      while (atomic_load_explicit(&shared->pong, memory_order_acquire) != i) spin_turn(&turns);
      memcpy(buffer, back, c->size);
      uint64_t now = monotonic_ns(), number;
      memcpy(&number, buffer, sizeof number);
      *digest += number;
      record(now - start);
      start = now;
    }
  } while (monotonic_seconds() < deadline);
  atomic_store_explicit(&shared->ping, NOT_YET, memory_order_release);
  return i;
}

static void pong(const struct command *c, unsigned char *buffer) {
  const unsigned char *there = shared->ring;
  unsigned char *back = shared->ring + WINDOW / 2;
  uint32_t turns = 0;
  for (uint64_t i = 0;;) {
    uint64_t seen = atomic_load_explicit(&shared->ping, memory_order_acquire);
    if (seen == NOT_YET) return;
    if (seen == i) {
      spin_turn(&turns);
      continue;
    }
    i = seen;
    memcpy(buffer, there, c->size);
    memcpy(back, buffer, c->size);
    atomic_store_explicit(&shared->pong, i, memory_order_release);
  }
}

/* --- one thread ----------------------------------------------------------------------------- */

static uint64_t copy_alone(const struct command *c, const unsigned char *source) {
  const uint64_t block_bytes = max_u64(BLOCK, c->size);
  const double deadline = monotonic_seconds() + c->seconds;
  uint64_t total = 0;
  do {
    for (uint64_t end = total + block_bytes; total < end;) {
      uint64_t n = min_u64(c->size, WINDOW);
      memcpy(shared->ring + total % WINDOW, source + (total & (c->size - 1)), n);
      __asm__ volatile("" ::: "memory");
      total += n;
    }
  } while (monotonic_seconds() < deadline);
  return total;
}

/* What lies in the ring after it: the last 4 MiB of the stream. */
static void check_alone(const struct command *c, const unsigned char *source, uint64_t total,
                        uint64_t *digest, uint64_t *expected, int *equal) {
  uint64_t first = total > WINDOW ? total - WINDOW : 0;
  struct sampler s = {(first + SAMPLE - 1) / SAMPLE * SAMPLE, 0};
  for (uint64_t p = first; p < total;) {
    uint64_t n = min_u64(total - p, WINDOW - p % WINDOW);
    sample(&s, shared->ring + p % WINDOW, p, n);
    if (c->verify && !equals(shared->ring + p % WINDOW, p, n, c, source)) *equal = 0;
    p += n;
  }
  *digest = s.digest;
  *expected = expected_samples(first, total, c->size);
}

/* --- rounds --------------------------------------------------------------------------------- */

static void consumer_process(int commands, int outcomes) {
  struct command c;
  for (;;) {
    read_all(commands, &c, sizeof c);
    unsigned char *source = message(c.size);
    unsigned char *into = private_buffer(max_u64(c.size, PAGE));
    memset(into, 0, max_u64(c.size, PAGE));
    struct outcome out = {0, cpu_seconds(), 1};
    atomic_store_explicit(&shared->ready, 1, memory_order_release);
    if (c.mode == MODE_PING_PONG) pong(&c, into);
    else consume(&c, into, source, &out);
    out.cpu = cpu_seconds() - out.cpu;
    write_all(outcomes, &out, sizeof out);
    free(source);
    free(into);
  }
}

static void print_histogram(void) {
  static const unsigned unit[3] = {1, 64, 4096};
  const char *comma = "";
  printf(",\"histogram\":[");
  for (int r = 0; r < 3; r++) {
    for (unsigned i = 0; i < BINS; i++) {
      if (bins[r][i] == 0) continue;
      printf("%s[%u,%u]", comma, i * unit[r] + unit[r] / 2, bins[r][i]);
      comma = ",";
    }
  }
  printf("]");
}

static void run_round(const struct command *c, int commands, int outcomes) {
  const int alone = c->mode == MODE_MEMCPY;
  struct outcome other = {0, 0, 1};
  uint64_t bytes, messages, digest = 0, expected = 0;
  unsigned char *source = message(c->size);
  uint32_t turns = 0;
  memset(bins, 0, sizeof bins);
  atomic_store(&shared->tail, 0);
  atomic_store(&shared->head, 0);
  atomic_store(&shared->end, NOT_YET);
  atomic_store(&shared->ping, 0);
  atomic_store(&shared->pong, 0);
  atomic_store(&shared->ready, 0);
  if (!alone) {
    write_all(commands, c, sizeof *c);
    while (atomic_load_explicit(&shared->ready, memory_order_acquire) == 0) spin_turn(&turns);
  }

  double cpu = cpu_seconds(), start = monotonic_seconds();
  if (c->mode == MODE_PING_PONG) {
    messages = ping(c, source, &digest);
    bytes = messages * c->size * 2;
  } else {
    bytes = alone ? copy_alone(c, source) : produce(c, source);
    messages = bytes / c->size;
  }
  double seconds = monotonic_seconds() - start;
  cpu = cpu_seconds() - cpu;

  if (!alone) read_all(outcomes, &other, sizeof other);
  if (alone) check_alone(c, source, bytes, &digest, &expected, &other.equal);
  else if (c->mode == MODE_PING_PONG) expected = messages % 2 ? (messages + 1) / 2 * messages
                                                            : messages / 2 * (messages + 1);
  else {
    digest = other.digest;
    expected = c->mode == MODE_SUM ? expected_sum(bytes, max_u64(BLOCK, c->size))
                                   : expected_samples(0, bytes, c->size);
  }
  free(source);
  printf("{\"bytes\":%llu,\"messages\":%llu,\"seconds\":%.9f,\"cpu\":%.6f,"
         "\"digest\":\"%016llx\",\"expected\":\"%016llx\",\"equal\":%s",
         (unsigned long long)bytes, (unsigned long long)messages, seconds, cpu + other.cpu,
         (unsigned long long)digest, (unsigned long long)expected,
         other.equal ? "true" : "false");
  if (c->mode == MODE_PING_PONG) print_histogram();
  printf("}\n");
  fflush(stdout);
}

static struct command parse(const char *mode, const char *size, const char *seconds, int verify) {
  struct command c = {MODE_COUNT, verify, strtoull(size, NULL, 10), strtod(seconds, NULL)};
  for (int m = 0; m < MODE_COUNT; m++) {
    if (strcmp(mode, mode_names[m]) == 0) c.mode = (enum mode)m;
  }
  int power_of_two = c.size >= 64 && (c.size & (c.size - 1)) == 0;
  if (c.mode == MODE_COUNT || !power_of_two || c.seconds < 0 ||
      (c.mode == MODE_PING_PONG && c.size > WINDOW / 2)) {
    fprintf(stderr, "memcpy_2p: bad round: %s %s %s\n", mode, size, seconds);
    exit(2);
  }
  return c;
}

int main(int argc, char **argv) {
  int serve = argc > 1 && strcmp(argv[1], "serve") == 0;
  int at = serve ? 2 : 4;
  if (argc < at) {
    fprintf(stderr, "usage: memcpy_2p copy|sum|ping-pong|memcpy SIZE SECONDS [CPU_A CPU_B]\n"
                    "       memcpy_2p serve [CPU_A CPU_B]\n");
    return 2;
  }
  int cpu_a = argc > at + 1 ? atoi(argv[at]) : -1;
  int cpu_b = argc > at + 1 ? atoi(argv[at + 1]) : -1;
  shared = shared_memory("stpd-bench-ring", sizeof *shared);
  int commands[2], outcomes[2];
  if (pipe(commands) != 0 || pipe(outcomes) != 0) die("pipe");
  if (!fork_pinned(cpu_a, cpu_b)) {
    close(commands[1]);
    consumer_process(commands[0], outcomes[1]);
  }
  close(commands[0]);
  if (!serve) {
    struct command c = parse(argv[1], argv[2], argv[3], 0);
    run_round(&c, commands[1], outcomes[0]);
    end_child();
    return 0;
  }
  printf("{\"pids\":[%d,%d]}\n", (int)getpid(), (int)peer_pid);
  fflush(stdout);
  char line[128], mode[32], size[32], seconds[32];
  while (fgets(line, sizeof line, stdin) != NULL) {
    int verify = 0;
    if (sscanf(line, "%31s %31s %31s %d", mode, size, seconds, &verify) < 3) return 2;
    struct command c = parse(mode, size, seconds, verify);
    run_round(&c, commands[1], outcomes[0]);
  }
  end_child();
  return 0;
}
