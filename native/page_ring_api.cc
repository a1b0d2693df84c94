/*
 * Page rings for JavaScript. Plain Node-API on the hot calls: one call a message, no exception, no
 * allocation; a ring is a small number in a table of the calling thread.
 */
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "addon.h"
#include "page_ring.h"
#include "page_ring_api.h"
#include "segment.h"

namespace stpd {

static thread_local std::vector<std::unique_ptr<PageRing>> rings;
static thread_local std::vector<uint32_t> freeRings;

/* What is shorter has a place of its own, so that a kept message keeps little. */
constexpr uint64_t kBriefBytes = 4096;

PageRing* ringOf(uint32_t handle) {
  return handle < rings.size() ? rings[handle].get() : nullptr;
}

/* (ring, bytes: Uint8Array, offset, length, sliceMs) */
template <typename Call>
static napi_value move(napi_env env, napi_callback_info info, Call call) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  Bytes data;
  if (!bytesArgs(env, args, 1, &data)) return nullptr;
  return result(env, call(ring, data.at, data.bytes, u32(env, args, 4)));
}

static napi_value RingWrite(napi_env env, napi_callback_info info) {
  return move(env, info, [](PageRing* ring, uint8_t* at, uint64_t bytes, uint32_t slice) {
    return ring->write(at, bytes, slice);
  });
}

/* (ring, bytes: Buffer or another view, as bytes): ringWrite of the whole, without waiting; what short
 * writes call. napi_get_typedarray_info would first find out what is in the view, at twice the price. */
static napi_value RingPut(napi_env env, napi_callback_info info) {
  ArgsOf<2> args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  bool isView = false;
  void* data = nullptr;
  size_t length = 0;
  if (args.count < 2 || napi_is_buffer(env, args.value[1], &isView) != napi_ok || !isView ||
      napi_get_buffer_info(env, args.value[1], &data, &length) != napi_ok) {
    napi_throw_type_error(env, "EINVAL", "EINVAL: a Uint8Array is needed");
    return nullptr;
  }
  return result(env, ring->write(static_cast<uint8_t*>(data), length, 0));
}

static napi_value RingRead(napi_env env, napi_callback_info info) {
  return move(env, info, [](PageRing* ring, uint8_t* at, uint64_t bytes, uint32_t slice) {
    return ring->read(at, bytes, slice);
  });
}

/* (ring, bytes: Uint8Array, offset, length): twice the bytes read, and 1 more if it is armed. */
static napi_value RingTake(napi_env env, napi_callback_info info) {
  return move(env, info, [](PageRing* ring, uint8_t* at, uint64_t bytes, uint32_t) {
    bool armed = false;
    const int64_t got = ring->take(at, bytes, &armed);
    return got < 0 ? got : got * 2 + (armed ? 1 : 0);
  });
}

/* Where this thread's event loop reads to: see src/socket/receive-slabs.ts. */
struct Places {
  Bytes slab, brief;
};
static thread_local Places places;

/* receivePlaces(slab: Uint8Array, brief: Uint8Array): for ringReceive, until the next call. The caller
 * keeps them alive, and passes no offset of one that was detached. */
static napi_value ReceivePlaces(napi_env env, napi_callback_info info) {
  ArgsOf<2> args;
  if (napi_get_cb_info(env, info, &args.count, args.value, nullptr, nullptr) != napi_ok) {
    return nullptr;
  }
  Places next;
  if (bytesOf(env, args.value[0], &next.slab) && bytesOf(env, args.value[1], &next.brief)) {
    places = next;
  }
  return nullptr;
}

/* (ring, slabAt, briefAt, bytes): ringTake of `bytes` at most, into the brief place where what is there
 * is short and fits, else into the slab: four times the bytes read, 2 more if they lie in the brief
 * place, and 1 more if it is armed. */
static napi_value RingReceive(napi_env env, napi_callback_info info) {
  ArgsOf<4> args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  const uint32_t slabAt = u32(env, args, 1), briefAt = u32(env, args, 2);
  if (slabAt > places.slab.bytes || briefAt > places.brief.bytes) {
    napi_throw_range_error(env, "ERANGE", "ERANGE: the offset lies outside the buffer");
    return nullptr;
  }
  const uint64_t briefRoom = std::min<uint64_t>(places.brief.bytes - briefAt, kBriefBytes);
  const int64_t there = ring->state();
  const bool brief = there > 0 && uint64_t(there) < briefRoom;
  bool armed = false;
  const int64_t got =
      brief ? ring->take(places.brief.at + briefAt, briefRoom, &armed)
            : ring->take(places.slab.at + slabAt,
                         std::min<uint64_t>(places.slab.bytes - slabAt, u32(env, args, 3)), &armed);
  return result(env, got < 0 ? got : got * 4 + (brief ? 2 : 0) + (armed ? 1 : 0));
}

/* Calls of the form (ring, number) -> number. */
template <int64_t (*Call)(PageRing&, uint32_t)>
static napi_value Simple(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  return ring == nullptr ? nullptr : result(env, Call(*ring, u32(env, args, 1)));
}

static int64_t Commit(PageRing& ring, uint32_t bytes) { return ring.commit(bytes); }
static int64_t Consume(PageRing& ring, uint32_t bytes) { return ring.consume(bytes); }
static int64_t Exchange(PageRing& ring, uint32_t page) { return ring.exchange(page); }
static int64_t Arm(PageRing& ring, uint32_t) { return ring.arm(); }
static int64_t State(PageRing& ring, uint32_t) { return ring.state(); }
static int64_t WasReset(PageRing& ring, uint32_t) { return ring.wasReset() ? 1 : 0; }
static int64_t Unannounced(PageRing& ring, uint32_t) { return ring.unannounced() ? 1 : 0; }
static int64_t CountSafety(PageRing& ring, uint32_t) { return ring.countSafety(), 0; }
static int64_t Finish(PageRing& ring, uint32_t) { return ring.finish(), 0; }
static int64_t Abort(PageRing& ring, uint32_t) { return ring.abort(), 0; }
static int64_t CloseReading(PageRing& ring, uint32_t reset) {
  return ring.closeReading(reset != 0), 0;
}
static int64_t ReleaseIdle(PageRing& ring, uint32_t) { return ring.releaseIdle(); }
static int64_t Cursor(PageRing& ring, uint32_t) { return ring.cursor(); }
static int64_t SetLimit(PageRing& ring, uint32_t bytes) { return ring.setLimit(bytes), 0; }
static int64_t SetSpin(PageRing& ring, uint32_t us) { return ring.setSpin(us), 0; }
static int64_t MemberOwner(PageRing& ring, uint32_t) { return ring.memberOwner(); }

/* (ring, fd, position or -1, bytes, sliceMs) */
static napi_value RingFillFromFile(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  return result(env, ring->fillFromFile(int(u32(env, args, 1)), int64_t(number(env, args, 2)),
                                        uint64_t(number(env, args, 3)), u32(env, args, 4)));
}

static napi_value RingDrainToFile(napi_env env, napi_callback_info info) {
  Args args;
  PageRing* ring = ringArgs(env, info, &args);
  if (ring == nullptr) return nullptr;
  return result(env, ring->drainToFile(int(u32(env, args, 1)), int64_t(number(env, args, 2)),
                                       uint64_t(number(env, args, 3)), u32(env, args, 4)));
}

/* Of a stream that was on its way to another thread when its peer died: what had arrived is still
 * to be read there, and then the reset. */
static const std::shared_ptr<Cable>& deadCable() {
  static const auto* dead = [] {
    auto cable = std::make_shared<Cable>(-1);
    cable->dead.store(true);
    return new std::shared_ptr<Cable>(cable); /* never destroyed: threads may outlive statics */
  }();
  return *dead;
}

/* ringOpen(stg, connection, generation, end, selfMember, selfGeneration, peerMember, cable, producer,
 * cursor): ten numbers, since a named property costs more to read than the ring to make. */
static napi_value RingOpen(napi_env env, napi_callback_info info) {
  napi_value given[10];
  size_t count = 10;
  uint32_t field[10] = {0};
  if (napi_get_cb_info(env, info, &count, given, nullptr, nullptr) != napi_ok) return nullptr;
  for (size_t i = 0; i < 10 && i < count; i++) napi_get_value_uint32(env, given[i], &field[i]);
  PageRing::Options options;
  options.stg = stgView(field[0]);
  options.connection = field[1];
  options.generation = field[2];
  options.end = field[3];
  options.selfMember = field[4];
  options.selfGeneration = field[5];
  options.peerMember = field[6];
  options.cable = cableOf(field[7]);
  options.producer = field[8] != 0;
  options.cursor = field[9];
  if (options.stg == nullptr || options.connection >= options.stg->connectionCount ||
      options.end > 1 || options.selfMember >= options.stg->memberCount ||
      options.peerMember >= options.stg->memberCount) {
    napi_throw_range_error(env, "ERANGE", "ERANGE: ringOpen: a number lies outside the STG");
    return nullptr;
  }
  if (options.cable == nullptr) options.cable = deadCable();
  uint32_t handle;
  if (freeRings.empty()) {
    handle = uint32_t(rings.size());
    rings.emplace_back();
  } else {
    handle = freeRings.back();
    freeRings.pop_back();
  }
  rings[handle] = std::make_unique<PageRing>(options);
  return result(env, handle);
}

static napi_value RingClose(napi_env env, napi_callback_info info) {
  Args args;
  if (napi_get_cb_info(env, info, &args.count, args.value, nullptr, nullptr) != napi_ok) {
    return nullptr;
  }
  const uint32_t handle = args.count == 0 ? UINT32_MAX : u32(env, args, 0);
  if (handle < rings.size() && rings[handle] != nullptr) {
    rings[handle].reset();
    freeRings.push_back(handle);
  }
  return nullptr;
}

/* connectionInit(stg, connection): director, before the slot is published. */
static void ConnectionInit(const Napi::CallbackInfo& info) {
  StgView* stg = stgView(info[0].ToNumber().Uint32Value());
  const uint32_t connection = info[1].ToNumber().Uint32Value();
  if (stg == nullptr || connection >= stg->connectionCount) {
    throw Napi::RangeError::New(info.Env(), "connectionInit: no such slot");
  }
  for (uint32_t end = 0; end < 2; end++) {
    stp_direction* direction = stg->direction(connection, end);
    memset(direction, 0, sizeof(*direction));
    store(&direction->head, STP_CURSOR_START);
    store(&direction->tail, STP_CURSOR_START);
  }
}

/* connectionRelease(stg, connection, generation): director, when both ends have let go. Frees the
 * pages of both lists; returns how many. */
static Napi::Value ConnectionRelease(const Napi::CallbackInfo& info) {
  StgView* stg = stgView(info[0].ToNumber().Uint32Value());
  const uint32_t connection = info[1].ToNumber().Uint32Value();
  const uint32_t generation = info[2].ToNumber().Uint32Value();
  if (stg == nullptr || connection >= stg->connectionCount) {
    throw Napi::RangeError::New(info.Env(), "connectionRelease: no such slot");
  }
  const uint32_t owner = (uint32_t(STP_OWNER_CONNECTION) << 30) | ((generation & 0x3fff) << 16) |
                         (connection & 0xffff);
  uint32_t freed = 0;
  for (uint32_t end = 0; end < 2; end++) {
    stp_direction* direction = stg->direction(connection, end);
    for (uint32_t i = 0; i < STP_PAGE_LIST_ENTRIES; i++) {
      const uint32_t listed = swap(&direction->pages[i], 0); /* SYNC[connection-release.list] */
      if (listed != 0 && releasePage(*stg, listed - 1, owner)) freed++;
    }
  }
  return Napi::Number::New(info.Env(), freed);
}

/* connectionAbort(stg, connection, end, peer, cable): resets on behalf of `end`, by its director or
 * its host; the survivor's next call sees it. Its threads and its event loop are woken whatever the
 * wait words say: who cleared them may have died before it woke anybody. `peer`: its member; `cable`
 * rings there. */
static void ConnectionAbort(const Napi::CallbackInfo& info) {
  StgView* stg = stgView(info[0].ToNumber().Uint32Value());
  const uint32_t connection = info[1].ToNumber().Uint32Value();
  const uint32_t end = info[2].ToNumber().Uint32Value();
  if (stg == nullptr || connection >= stg->connectionCount || end > 1) {
    throw Napi::RangeError::New(info.Env(), "connectionAbort: no such slot");
  }
  stp_direction* sent = stg->direction(connection, end);
  stp_direction* received = stg->direction(connection, 1 - end);
  if (load(&sent->fin) == 0) {
    sent->finished_at = wallClockUs();
    store(&sent->reset, 1); /* SYNC[director-abort.flags] */
  }
  if (load(&received->closed) == 0) {
    received->closed_at = wallClockUs();
    store(&received->closed, STP_CLOSED_RESET);
  }
  fence(); /* SYNC[director-abort.fence] */
  for (uint32_t* word : {&sent->consumer_wait, &received->producer_wait}) {
    swap(word, STP_WAIT_NONE); /* SYNC[director-abort.wait] */
    futexWake(word);           /* SYNC[director-abort.futex] */
  }
  auto cable = cableOf(info[4].ToNumber().Uint32Value());
  /* SYNC[director-abort.notify] */
  notifyLoop(*stg, info[3].ToNumber().Uint32Value(), connection * 2 + (1 - end), cable.get());
}

static void closeRings(void*) {
  rings.clear();
  freeRings.clear();
  places = Places();
}

void hot(Napi::Env env, Napi::Object exports, const char* name, napi_callback call) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  exports.Set(name, Napi::Value(env, function));
}

void registerPageRing(Napi::Env env, Napi::Object exports) {
  hot(env, exports, "ringWrite", RingWrite);
  hot(env, exports, "ringPut", RingPut);
  hot(env, exports, "ringRead", RingRead);
  hot(env, exports, "ringTake", RingTake);
  hot(env, exports, "receivePlaces", ReceivePlaces);
  hot(env, exports, "ringReceive", RingReceive);
  hot(env, exports, "ringCommit", Simple<Commit>);
  hot(env, exports, "ringConsume", Simple<Consume>);
  hot(env, exports, "ringExchange", Simple<Exchange>);
  hot(env, exports, "ringArm", Simple<Arm>);
  hot(env, exports, "ringState", Simple<State>);
  hot(env, exports, "ringWasReset", Simple<WasReset>);
  hot(env, exports, "ringUnannounced", Simple<Unannounced>);
  hot(env, exports, "ringCountSafety", Simple<CountSafety>);
  hot(env, exports, "ringFinish", Simple<Finish>);
  hot(env, exports, "ringAbort", Simple<Abort>);
  hot(env, exports, "ringCloseReading", Simple<CloseReading>);
  hot(env, exports, "ringReleaseIdle", Simple<ReleaseIdle>);
  hot(env, exports, "ringCursor", Simple<Cursor>);
  hot(env, exports, "ringSetLimit", Simple<SetLimit>);
  hot(env, exports, "ringSetSpin", Simple<SetSpin>);
  hot(env, exports, "ringMemberOwner", Simple<MemberOwner>);
  hot(env, exports, "ringFillFromFile", RingFillFromFile);
  hot(env, exports, "ringDrainToFile", RingDrainToFile);
  hot(env, exports, "ringOpen", RingOpen);
  hot(env, exports, "ringClose", RingClose);
  exports.Set("connectionInit", Napi::Function::New(env, ConnectionInit));
  exports.Set("connectionRelease", Napi::Function::New(env, ConnectionRelease));
  exports.Set("connectionAbort", Napi::Function::New(env, ConnectionAbort));
  napi_add_env_cleanup_hook(env, closeRings, nullptr);
}

}  // namespace stpd
