/*
 * How this process copies, and bytes of the segment produced and read natively, in place: what a benchmark, or a program that
 * fills and checks whole pages, does with the views of reserve and peek. Any thread.
 */
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "addon.h"
#include "copy.h"
#include "segment.h"

namespace stpd {

static uint8_t* spanOf(const Napi::CallbackInfo& info, uint64_t* bytes) {
  uint64_t segmentBytes = 0;
  uint8_t* base = segmentBase(info[0].ToNumber().Uint32Value(), &segmentBytes);
  const double offset = info[1].ToNumber().DoubleValue();
  const double length = info[2].ToNumber().DoubleValue();
  if (base == nullptr || !(offset >= 0) || !(length >= 0) ||
      offset + length > double(segmentBytes)) {
    throw Napi::RangeError::New(info.Env(), "the span lies outside the segment");
  }
  *bytes = uint64_t(length);
  return base + uint64_t(offset);
}

/* fillBytes(segment, offset, bytes, value): every byte is produced once. */
static void FillBytes(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  uint8_t* at = spanOf(info, &bytes);
  memset(at, int(info[3].ToNumber().Uint32Value() & 0xff), bytes);
}

#if defined(__x86_64__)
/* Twice as fast between cores as what the compiler makes of the loop below for any x86-64. */
__attribute__((target("avx2"))) static uint64_t sumLines(const uint8_t* at, uint64_t lines) {
  __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
  const auto* from = reinterpret_cast<const __m256i*>(at);
  for (; lines >= 2; lines -= 2, from += 4) {
    for (int i = 0; i < 4; i++) sum[i] = _mm256_add_epi64(sum[i], _mm256_loadu_si256(from + i));
  }
  for (; lines > 0; lines--, from += 2) {
    for (int i = 0; i < 2; i++) sum[i] = _mm256_add_epi64(sum[i], _mm256_loadu_si256(from + i));
  }
  uint64_t lanes[16];
  memcpy(lanes, sum, sizeof(lanes));
  uint64_t total = 0;
  for (uint64_t lane : lanes) total += lane;
  return total;
}
#endif

static uint64_t sumLinesPlain(const uint8_t* at, uint64_t lines) {
  uint64_t lanes[8] = {0};
  for (; lines > 0; lines--, at += 64) {
    uint64_t words[8];
    memcpy(words, at, 64);
    for (int lane = 0; lane < 8; lane++) lanes[lane] += words[lane];
  }
  uint64_t total = 0;
  for (uint64_t lane : lanes) total += lane;
  return total;
}

static uint64_t sumOf(const uint8_t* at, uint64_t bytes) {
  const uint64_t lines = bytes / 64;
#if defined(__x86_64__)
  static const bool wide = __builtin_cpu_supports("avx2");
  uint64_t sum = wide ? sumLines(at, lines) : sumLinesPlain(at, lines);
#else
  uint64_t sum = sumLinesPlain(at, lines);
#endif
  uint64_t i = lines * 64;
  for (; i + 8 <= bytes; i += 8) {
    uint64_t word;
    memcpy(&word, at + i, 8);
    sum += word;
  }
  for (; i < bytes; i++) sum += at[i];
  return sum;
}

/* sumBytes(segment, offset, bytes): sum of the little-endian 64-bit words, modulo 2^64; a tail of
 * less than 8 bytes is summed byte by byte. Every byte is read once, in place. */
static Napi::Value SumBytes(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  const uint8_t* at = spanOf(info, &bytes);
  return Napi::BigInt::New(info.Env(), sumOf(at, bytes));
}

/*
 * copyBytes(from, start, end, to, at): as TypedArray.set, which goes byte by byte where one of the
 * two is shared memory.
 */
static void CopyBytes(const Napi::CallbackInfo& info) {
  auto from = info[0].As<Napi::Uint8Array>();
  auto to = info[3].As<Napi::Uint8Array>();
  const size_t end = size_t(wholeNumber(info, 2, "end", from.ByteLength()));
  const size_t start = size_t(wholeNumber(info, 1, "start", end));
  const size_t at = size_t(wholeNumber(info, 4, "at", to.ByteLength()));
  if (end - start > to.ByteLength() - at) throwRangeError(info.Env(), "there is no room for it");
  memmove(to.Data() + at, from.Data() + start, end - start);
}

/* copyProbe(): starts the first probe of the process. False if STPD_COPY is no choice. */
static Napi::Value CopyProbe(const Napi::CallbackInfo& info) {
  if (copyWish() == CopyWish::unknown) return Napi::Boolean::New(info.Env(), false);
  probeCopies();
  return Napi::Boolean::New(info.Env(), true);
}

/* copyChoice(): {mode, probes, cachedGBs, streamingGBs, tookMs}. */
static Napi::Value CopyChoiceNow(const Napi::CallbackInfo& info) {
  const CopyChoice choice = copyChoice();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("mode", choice.mode == CopyMode::streaming ? "streaming" : "cached");
  out.Set("probes", choice.probes);
  out.Set("cachedGBs", choice.cachedGBs);
  out.Set("streamingGBs", choice.streamingGBs);
  out.Set("tookMs", choice.tookMs);
  return out;
}

void registerTouch(Napi::Env env, Napi::Object exports) {
  exports.Set("copyProbe", Napi::Function::New(env, CopyProbe));
  exports.Set("copyChoice", Napi::Function::New(env, CopyChoiceNow));
  exports.Set("fillBytes", Napi::Function::New(env, FillBytes));
  exports.Set("copyBytes", Napi::Function::New(env, CopyBytes));
  exports.Set("sumBytes", Napi::Function::New(env, SumBytes));
}

}  // namespace stpd
