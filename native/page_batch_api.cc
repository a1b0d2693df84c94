/*
 * Calls of page rings that do several things at once: many buffers, an answer with its question,
 * pages in place, whole pages. One native call costs as much as copying a kilobyte.
 */
#include <errno.h>

#include <vector>

#include "page_ring_api.h"
#include "segment.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lengths of records travel so");

namespace stpd {

namespace {

/* Buffers of one native call; whoever has more calls again. As IOV_MAX. */
constexpr uint32_t kPartsMax = 1024;
/* Views of one native call: half a window. */
constexpr uint32_t kSpansMax = 32;

thread_local std::vector<iovec> parts;
/* Lengths of records, little-endian as they travel; in place before `parts` points to them. */
thread_local std::vector<uint32_t> lengths;

using Moves = int64_t (PageRing::*)(const iovec*, uint64_t, uint32_t);

/* Moves the parts but for their first `skip` bytes. */
napi_value moveParts(napi_env env, PageRing* ring, Moves call, uint64_t skip, uint32_t sliceMs) {
  size_t index = 0;
  while (index < parts.size() && skip >= parts[index].iov_len) skip -= parts[index++].iov_len;
  const iovec* first = parts.data() + index;
  if (index < parts.size()) {
    parts[index].iov_base = static_cast<uint8_t*>(parts[index].iov_base) + skip;
    parts[index].iov_len -= skip;
  }
  uint64_t bytes = 0;
  for (; index < parts.size(); index++) bytes += parts[index].iov_len;
  return result(env, (ring->*call)(first, bytes, sliceMs));
}

/* Makes records of the parts: each gets its length in front. */
void frameParts() {
  const size_t count = parts.size();
  lengths.resize(count);
  parts.resize(2 * count);
  for (size_t i = count; i-- > 0;) {
    lengths[i] = uint32_t(parts[i].iov_len);
    parts[2 * i + 1] = parts[i];
    parts[2 * i] = {&lengths[i], sizeof(uint32_t)};
  }
}

/* (ring, buffers: Uint8Array[], from, skip, sliceMs): the buffers from index `from` on, without
 * their first `skip` bytes. */
template <Moves Call, bool Framed>
napi_value Vector(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  uint32_t count = 0;
  if (napi_get_array_length(env, args.value[1], &count) != napi_ok) {
    napi_throw_type_error(env, "EINVAL", "EINVAL: an array of Uint8Arrays is needed");
    return nullptr;
  }
  const uint32_t from = u32(env, args, 2);
  parts.clear();
  for (uint32_t i = from; i < count && i - from < kPartsMax; i++) {
    napi_value element;
    Bytes data;
    if (napi_get_element(env, args.value[1], i, &element) != napi_ok ||
        !bytesOf(env, element, &data)) {
      return nullptr;
    }
    parts.push_back({data.at, data.bytes});
  }
  if (Framed) frameParts();
  return moveParts(env, ring, Call, uint64_t(number(env, args, 3)), u32(env, args, 4));
}

/* (ring, bytes: Uint8Array, spans: Uint32Array, count, skip, sliceMs): `count` pairs of offset and
 * length within one buffer. */
template <Moves Call, bool Framed>
napi_value Flat(napi_env env, napi_callback_info info) {
  ArgsOf<6> args;
  PageRing* ring = ringArgs(env, info, &args);
  Bytes data;
  if (ring == nullptr || !bytesOf(env, args.value[1], &data)) return nullptr;
  void* spansData = nullptr;
  size_t spansLength = 0;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, args.value[2], &type, &spansLength, &spansData, nullptr,
                               nullptr) != napi_ok ||
      type != napi_uint32_array) {
    napi_throw_type_error(env, "EINVAL", "EINVAL: a Uint32Array of offsets and lengths is needed");
    return nullptr;
  }
  const uint32_t count = u32(env, args, 3);
  if (uint64_t(count) * 2 > spansLength) {
    napi_throw_range_error(env, "ERANGE", "ERANGE: there are fewer spans than that");
    return nullptr;
  }
  const uint32_t* spans = static_cast<const uint32_t*>(spansData);
  parts.clear();
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t offset = spans[2 * i], length = spans[2 * i + 1];
    if (offset + length > data.bytes) {
      napi_throw_range_error(env, "ERANGE", "ERANGE: a span lies outside the buffer");
      return nullptr;
    }
    parts.push_back({data.at + offset, length});
  }
  if (Framed) frameParts();
  return moveParts(env, ring, Call, uint64_t(number(env, args, 4)), u32(env, args, 5));
}

/* (tx, bytes, offset, length, rx, into, sliceMs): writes all, then reads what comes. kNotNow: it did
 * not fit, and nothing was done. What is read is looked up while the message is on its way. */
napi_value RingCall(napi_env env, napi_callback_info info) {
  ArgsOf<7> args;
  PageRing* tx = ringArgs(env, info, &args);
  Bytes data, into;
  if (tx == nullptr || !bytesArgs(env, args, 1, &data)) return nullptr;
  PageRing* rx = ringOf(u32(env, args, 4));
  bool typed = false;
  napi_is_typedarray(env, args.value[5], &typed);
  if (!typed || rx == nullptr || rx->busy() || !tx->fits(data.bytes)) return result(env, kNotNow);
  const int64_t sent = tx->write(data.at, data.bytes, 1);
  if (sent != int64_t(data.bytes)) return result(env, sent < 0 ? sent : int64_t(kBroken));
  if (!bytesOf(env, args.value[5], &into)) return nullptr;
  return result(env, rx->read(into.at, into.bytes, u32(env, args, 6)));
}

/* Offset and length of a view in one number: segment offset * 2^17 + length (at most 2^16). */
int64_t packView(const PageRing& ring, const Span& span) {
  uint64_t segmentBytes = 0;
  const uint8_t* base = segmentBase(ring.stg().segment, &segmentBytes);
  return (int64_t(span.at - base) << 17) + span.bytes;
}

/* The bytes that were used in place before, if any: false with the reason why not. */
template <int64_t (PageRing::*Done)(uint32_t), size_t N>
bool doneFirst(napi_env env, PageRing& ring, const ArgsOf<N>& args, size_t index, int64_t* why) {
  double bytes = -1;
  if (index < args.count) napi_get_value_double(env, args.value[index], &bytes);
  if (!(bytes >= 0)) return true;
  *why = (ring.*Done)(bytes > UINT32_MAX ? UINT32_MAX : uint32_t(bytes));
  return *why >= 0;
}

/* (ring, sliceMs, done or -1): one view, packed. */
template <int64_t (PageRing::*Call)(Span*, uint32_t*, uint32_t), int64_t (PageRing::*Done)(uint32_t)>
napi_value View(napi_env env, napi_callback_info info) {
  ArgsOf<3> args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  int64_t got = 0;
  if (!doneFirst<Done>(env, *ring, args, 2, &got)) return result(env, got);
  Span span;
  uint32_t count = 1;
  got = (ring->*Call)(&span, &count, u32(env, args, 1));
  return result(env, got > 0 ? packView(*ring, span) : got);
}

/* (ring, views: Float64Array, count, sliceMs, done or -1): packed views; how many. */
template <int64_t (PageRing::*Call)(Span*, uint32_t*, uint32_t), int64_t (PageRing::*Done)(uint32_t)>
napi_value Views(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  void* out = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, args.value[1], &type, &length, &out, nullptr, nullptr) !=
          napi_ok ||
      type != napi_float64_array) {
    napi_throw_type_error(env, "EINVAL", "EINVAL: a Float64Array is needed");
    return nullptr;
  }
  int64_t got = 0;
  if (!doneFirst<Done>(env, *ring, args, 4, &got)) return result(env, got);
  uint32_t count = u32(env, args, 2);
  if (count > kSpansMax) count = kSpansMax;
  if (count > length) count = uint32_t(length);
  Span spans[kSpansMax];
  got = (ring->*Call)(spans, &count, u32(env, args, 3));
  if (got <= 0) return result(env, got);
  for (uint32_t i = 0; i < count; i++) {
    static_cast<double*>(out)[i] = double(packView(*ring, spans[i]));
  }
  return result(env, count);
}

/* (rx, sliceMs): (page * 2 + exchanged) * 2^17 + bytes, 0 for nothing yet. */
napi_value RingTakePage(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  uint32_t page = 0;
  bool exchanged = false;
  const int64_t got = ring->takePage(&page, &exchanged, u32(env, args, 1));
  if (got <= 0) return result(env, got);
  return result(env, ((int64_t(page) * 2 + (exchanged ? 1 : 0)) << 17) + got);
}

/* (tx, page, rx, sliceMs): `rx` holds the page. 1 given, 0 nothing yet. */
napi_value RingGivePage(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  PageRing* holder = ringOf(u32(env, args, 2));
  if (holder == nullptr) return result(env, int64_t(kErrno) - EBADF);
  return result(env, ring->givePage(u32(env, args, 1), *holder, u32(env, args, 3)));
}

/* (rx): a page that the ring holds from now on, or kNoPage. */
napi_value RingClaimPage(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  return ring == nullptr ? nullptr : result(env, ring->claimHeld());
}

/* (rx, page): 1, or 0 if the ring does not hold it. */
napi_value RingReleasePage(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  return ring == nullptr ? nullptr : result(env, ring->releaseHeld(u32(env, args, 1)) ? 1 : 0);
}

/* (ring, page): where the page lies in the segment, or EINVAL for a number outside the STG. */
napi_value RingPageOffset(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  const uint32_t page = u32(env, args, 1);
  if (page >= ring->stg().pageCount) return result(env, int64_t(kErrno) - EINVAL);
  uint64_t segmentBytes = 0;
  return result(env, ring->stg().page(page) - segmentBase(ring->stg().segment, &segmentBytes));
}

/* (ring): its counters, in the order of RingCounters. */
Napi::Value RingCountersOf(const Napi::CallbackInfo& info) {
  const PageRing* ring = ringOf(info[0].ToNumber().Uint32Value());
  if (ring == nullptr) throwRangeError(info.Env(), "no such ring on this thread");
  const RingCounters& c = ring->counters();
  Napi::Object out = Napi::Object::New(info.Env());
  auto set = [&](const char* name, uint64_t value) { out.Set(name, double(value)); };
  set("wakesSent", c.wakesSent);
  set("wakesSuppressed", c.wakesSuppressed);
  set("pollHits", c.pollHits);
  set("pollMisses", c.pollMisses);
  set("waits", c.waits);
  set("safetyFirings", c.safetyFirings);
  return out;
}

/* (ring): how often a call on it has slept. */
Napi::Value RingWaits(const Napi::CallbackInfo& info) {
  const PageRing* ring = ringOf(info[0].ToNumber().Uint32Value());
  if (ring == nullptr) throwRangeError(info.Env(), "no such ring on this thread");
  return Napi::Number::New(info.Env(), double(ring->counters().waits));
}

}  // namespace

void registerPageBatch(Napi::Env env, Napi::Object exports) {
  hot(env, exports, "ringWriteVector", Vector<&PageRing::writeParts, false>);
  hot(env, exports, "ringReadVector", Vector<&PageRing::readParts, false>);
  hot(env, exports, "ringWriteFlat", Flat<&PageRing::writeParts, false>);
  hot(env, exports, "ringReadFlat", Flat<&PageRing::readParts, false>);
  hot(env, exports, "ringWriteRecords", Vector<&PageRing::writeParts, true>);
  hot(env, exports, "ringWriteFlatRecords", Flat<&PageRing::writeParts, true>);
  hot(env, exports, "ringCall", RingCall);
  hot(env, exports, "ringReserve", View<&PageRing::reserve, &PageRing::commit>);
  hot(env, exports, "ringPeek", View<&PageRing::peek, &PageRing::consume>);
  hot(env, exports, "ringReservePages", Views<&PageRing::reserve, &PageRing::commit>);
  hot(env, exports, "ringPeekPages", Views<&PageRing::peek, &PageRing::consume>);
  hot(env, exports, "ringTakePage", RingTakePage);
  hot(env, exports, "ringGivePage", RingGivePage);
  hot(env, exports, "ringClaimPage", RingClaimPage);
  hot(env, exports, "ringReleasePage", RingReleasePage);
  hot(env, exports, "ringPageOffset", RingPageOffset);
  exports.Set("ringWaits", Napi::Function::New(env, RingWaits));
  exports.Set("ringCounters", Napi::Function::New(env, RingCountersOf));
}

}  // namespace stpd
