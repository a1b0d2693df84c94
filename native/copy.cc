#include "copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <atomic>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "layout.h"
#include "stg.h"

namespace stpd {

CopyWish copyWish() {
  static const CopyWish wish = [] {
    const char* text = getenv("STPD_COPY");
    if (text == nullptr || *text == 0 || strcmp(text, "auto") == 0) return CopyWish::automatic;
    if (strcmp(text, "cached") == 0) return CopyWish::cached;
    if (strcmp(text, "streaming") == 0) return CopyWish::streaming;
    return CopyWish::unknown;
  }();
  return wish;
}

#if defined(__x86_64__)

static void streamCopy(uint8_t* into, const uint8_t* from, uint64_t bytes) {
  const uint64_t lead = (64 - (uintptr_t(into) & 63)) & 63;
  memcpy(into, from, lead);
  into += lead;
  from += lead;
  bytes -= lead;
  const uint64_t blocks = bytes / 64;
  for (uint64_t i = 0; i < blocks; i++, into += 64, from += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from);
    auto* target = reinterpret_cast<__m128i*>(into);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  _mm_sfence(); /* before the cursor is published */
  memcpy(into, from, bytes % 64);
}

static std::atomic<uint32_t> chosen{
    uint32_t(copyWish() == CopyWish::streaming ? CopyMode::streaming : CopyMode::cached)};

/* ---- the probe ----------------------------------------------------------------------------- */

/* Two threads of this process move pieces as a producer and a consumer do, over a window of the
 * array's size, in each way twice, in turn. */
namespace {

constexpr uint32_t kPiece = STP_PAGE_BYTES;
constexpr uint64_t kTrialNs = 800'000;
constexpr uint32_t kTrials = 4;
/* A trial that moved less was not run by two cores at the same time: it says nothing. */
constexpr uint64_t kTrialBytesMin = 4 * kPiece;
/* Streaming must be so much better: its readers fetch from memory what caches had kept. */
constexpr double kMargin = 1.25;

struct Bench {
  uint8_t* ring = nullptr;
  alignas(128) std::atomic<uint64_t> tail{0};
  alignas(128) std::atomic<uint64_t> head{0};
  alignas(128) std::atomic<bool> over{false};
};

void consume(Bench* bench, uint8_t* into) {
  uint64_t head = 0;
  while (!bench->over.load(std::memory_order_relaxed)) {
    if (bench->tail.load(std::memory_order_acquire) == head) {
      relax();
      continue;
    }
    memcpy(into, bench->ring + head % STP_WINDOW_BYTES, kPiece);
    head += kPiece;
    bench->head.store(head, std::memory_order_release);
  }
}

/* Bytes a nanosecond, or 0 if the trial says nothing. */
double trial(Bench* bench, const uint8_t* from, bool streaming) {
  const uint64_t start = nowNs(), first = bench->head.load();
  uint64_t tail = bench->tail.load(), now = start;
  do {
    while (tail - bench->head.load(std::memory_order_acquire) > STP_WINDOW_BYTES - kPiece) {
      relax();
      if (nowNs() - start > kTrialNs) break;
    }
    if (tail - bench->head.load() <= STP_WINDOW_BYTES - kPiece) {
      uint8_t* into = bench->ring + tail % STP_WINDOW_BYTES;
      if (streaming) streamCopy(into, from, kPiece);
      else memcpy(into, from, kPiece);
      tail += kPiece;
      bench->tail.store(tail, std::memory_order_release);
    }
    now = nowNs();
  } while (now - start < kTrialNs);
  const uint64_t moved = bench->head.load() - first;
  return moved < kTrialBytesMin ? 0 : double(moved) / double(now - start);
}

std::atomic<bool> probing{false};
std::atomic<uint32_t> probes{0};
std::atomic<double> cachedRate{0}, streamingRate{0}, tookMs{0};
std::atomic<uint64_t> probedAt{0};
/* The best rate that copies have shown since the probe, and how many in a row had less than half. */
std::atomic<uint32_t> bestMBs{0}, slowInARow{0};

void probe() {
  const uint64_t start = nowNs();
  const size_t bytes = STP_WINDOW_BYTES + 2 * kPiece;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory != MAP_FAILED) {
    Bench bench;
    bench.ring = static_cast<uint8_t*>(memory);
    uint8_t* into = bench.ring + STP_WINDOW_BYTES;
    double best[2] = {0, 0};
    try {
      std::thread consumer(consume, &bench, into);
      for (uint32_t i = 0; i < kTrials; i++) {
        const double rate = trial(&bench, into + kPiece, i % 2 != 0);
        if (rate > best[i % 2]) best[i % 2] = rate;
      }
      bench.over.store(true);
      consumer.join();
    } catch (const std::system_error&) {
      /* No thread to be had: it stays as it is. */
    }
    munmap(memory, bytes);
    if (best[0] > 0 && best[1] > 0) {
      const bool streaming = best[1] > best[0] * kMargin;
      chosen.store(uint32_t(streaming ? CopyMode::streaming : CopyMode::cached));
    }
    cachedRate.store(best[0]);
    streamingRate.store(best[1]);
  }
  tookMs.store(double(nowNs() - start) / 1e6);
  bestMBs.store(0);
  slowInARow.store(0);
  probedAt.store(nowNs());
  probes.fetch_add(1);
  probing.store(false);
}

void startProbe() {
  if (copyWish() != CopyWish::automatic || usableCores() < 2) return;
  if (probing.exchange(true)) return;
  try {
    std::thread(probe).detach();
  } catch (const std::system_error&) {
    probing.store(false);
  }
}

/* ---- has it become slow? ------------------------------------------------------------------- */

/* One of so many copies is timed. */
constexpr uint32_t kTimed = 32;
/* So many timed copies in a row at less than half of the best speed ask for a new probe, ... */
constexpr uint32_t kSlowMax = 32;
/* ... but not more often. */
constexpr uint64_t kProbeEveryNs = 10'000'000'000;

thread_local uint32_t untimed = 0;

void observe(uint64_t bytes, uint64_t ns) {
  const uint32_t rate = uint32_t(bytes * 1000 / (ns == 0 ? 1 : ns));
  const uint32_t best = bestMBs.load(std::memory_order_relaxed);
  if (rate > best) bestMBs.store(rate, std::memory_order_relaxed);
  if (rate >= best / 2) return slowInARow.store(0, std::memory_order_relaxed);
  if (slowInARow.fetch_add(1, std::memory_order_relaxed) < kSlowMax) return;
  slowInARow.store(0, std::memory_order_relaxed);
  if (nowNs() - probedAt.load() > kProbeEveryNs) startProbe();
}

}  // namespace

static void copyLarge(uint8_t* into, const uint8_t* from, uint64_t bytes) {
  if (chosen.load(std::memory_order_relaxed) == uint32_t(CopyMode::streaming)) {
    streamCopy(into, from, bytes);
  } else {
    memcpy(into, from, bytes);
  }
}

void copyToShared(uint8_t* into, const uint8_t* from, uint64_t bytes) {
  if (bytes < kStreamingMin) {
    memcpy(into, from, bytes);
  } else if (++untimed < kTimed) {
    copyLarge(into, from, bytes);
  } else {
    untimed = 0;
    const uint64_t start = nowNs();
    copyLarge(into, from, bytes);
    observe(bytes, nowNs() - start);
  }
}

void probeCopies() {
  static std::atomic<bool> asked{false};
  if (!asked.exchange(true)) startProbe();
}

CopyChoice copyChoice() {
  return {CopyMode(chosen.load()), probes.load(), cachedRate.load(), streamingRate.load(),
          tookMs.load()};
}

#else

void copyToShared(uint8_t* into, const uint8_t* from, uint64_t bytes) {
  memcpy(into, from, bytes);
}
void probeCopies() {}
CopyChoice copyChoice() { return {CopyMode::cached, 0, 0, 0, 0}; }

#endif

}  // namespace stpd
