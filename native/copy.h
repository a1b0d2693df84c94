/*
 * Copies into shared pages: through the caches, or past them with non-temporal stores. Which one is
 * faster depends on how far the cores of producer and consumer are apart, so the process tries both
 * once (`probeCopies`) and again when copies have become slow. Any thread.
 */
#pragma once
#include <cstdint>

namespace stpd {

enum class CopyMode : uint32_t { cached, streaming };

/* Below this a copy fits between two cache misses; streaming stores never pay. */
constexpr uint64_t kStreamingMin = 16384;

void copyToShared(uint8_t* into, const uint8_t* from, uint64_t bytes);

/* What STPD_COPY asks for. */
enum class CopyWish : uint32_t { automatic, cached, streaming, unknown };
CopyWish copyWish();

struct CopyChoice {
  CopyMode mode;
  uint32_t probes; /* that have come to an end */
  double cachedGBs, streamingGBs, tookMs; /* of the last one; 0 before */
};
CopyChoice copyChoice();

/* Starts the first probe of the process on a thread of its own, where there is a choice. It should
 * take less than 5 ms on two cores that have nothing else to do: `tookMs` says what it took. Later
 * calls do nothing. */
void probeCopies();

}  // namespace stpd
