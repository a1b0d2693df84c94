#include "copy.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace stpd {

/* STPD_COPY=streaming, for machines whose cores share no cache. Read once a process. */
static CopyMode copyMode() {
  static const CopyMode mode = [] {
    const char* wish = getenv("STPD_COPY");
    const bool streaming = wish != nullptr && strcmp(wish, "streaming") == 0;
    return streaming ? CopyMode::streaming : CopyMode::cached;
  }();
  return mode;
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
#endif

void copyToShared(uint8_t* into, const uint8_t* from, uint64_t bytes) {
#if defined(__x86_64__)
  if (bytes >= kStreamingMin && copyMode() == CopyMode::streaming) {
    streamCopy(into, from, bytes);
    return;
  }
#endif
  memcpy(into, from, bytes);
}

}  // namespace stpd
