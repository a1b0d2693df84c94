/*
 * Memory that event loops read into, recycled: fresh memory for each read would cost a page fault
 * every 4 KiB, more than the copy itself.
 *
 * A slab is an ArrayBuffer. When V8 has collected it, and so every Buffer that was carved from it, it
 * comes back to the pool of the thread that made it, the next time that the pool is looked at. V8 is
 * not told of slabs in use: what it counts it also counts off when it collects, 32 MiB at once, and
 * each rise after such a fall makes it mark the whole heap. It is told of the pool, whose size is
 * bounded. That V8 looks for slabs that nobody sees often enough is the care of
 * src/socket/receive-slabs.ts.
 */
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "addon.h"
#include "external_buffer.h"

namespace stpd {

namespace {

constexpr size_t kSlabBytes = 1 << 20;
/* Far more than what is out when V8 collects: a thread of V8 brings them back, and where all cores
 * are busy it comes late. Who finds none left pays for fresh memory, and for marking the heap. */
constexpr uint32_t kSlabsMax = 128;

struct Slab {
  void* at;
  std::weak_ptr<void> seen;
};

struct Pool {
  std::vector<void*> free;
  std::vector<Slab> out;
};

thread_local Pool pool;

/* Of threads that have ended: what somebody may still see. */
std::mutex orphansMutex;
std::vector<Slab> orphans;

void account(napi_env env, int64_t bytes) {
  int64_t total = 0;
  napi_adjust_external_memory(env, bytes, &total);
}

/* Calls `back` with each slab that nobody sees any more, and takes it off the list. */
template <typename Back>
void sweep(std::vector<Slab>* slabs, Back back) {
  for (size_t i = 0; i < slabs->size();) {
    if (!(*slabs)[i].seen.expired()) {
      i++;
      continue;
    }
    back((*slabs)[i].at);
    (*slabs)[i] = std::move(slabs->back());
    slabs->pop_back();
  }
  /* Whoever saw it last, on whatever thread, had read it before. */
  std::atomic_thread_fence(std::memory_order_acquire);
}

void sweepOrphans() {
  const std::lock_guard<std::mutex> lock(orphansMutex);
  sweep(&orphans, [](void* slab) { munmap(slab, kSlabBytes); });
}

/* slabsBack(): looks which slabs have come back, and how many. */
Napi::Value SlabsBack(const Napi::CallbackInfo& info) {
  const size_t before = pool.free.size();
  sweep(&pool.out, [](void* slab) { pool.free.push_back(slab); });
  return Napi::Number::New(info.Env(), double(pool.free.size() - before));
}

/* slabTake(): an ArrayBuffer, or undefined when the thread has all its slabs in use. */
Napi::Value SlabTake(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Slab slab = {nullptr, {}};
  if (!pool.free.empty()) {
    slab.at = pool.free.back();
    pool.free.pop_back();
  } else {
    if (pool.out.size() == kSlabsMax) return env.Undefined();
    slab.at = mmap(nullptr, kSlabBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab.at == MAP_FAILED) return env.Undefined();
    account(env, int64_t(kSlabBytes));
  }
  napi_value out = uncountedBuffer(slab.at, kSlabBytes, &slab.seen);
  if (out == nullptr) {
    pool.free.push_back(slab.at);
    return env.Undefined();
  }
  pool.out.push_back(std::move(slab));
  return Napi::Value(env, out);
}

/* slabTrim(): what nobody uses goes back to the system. */
void SlabTrim(const Napi::CallbackInfo& info) {
  sweep(&pool.out, [](void* slab) { pool.free.push_back(slab); });
  account(info.Env(), -int64_t(pool.free.size() * kSlabBytes));
  for (void* slab : pool.free) munmap(slab, kSlabBytes);
  pool.free.clear();
  sweepOrphans();
}

/* JavaScript has run for the last time, but its buffers are still there, here or where they were
 * transferred to. */
void closePool(void*) {
  for (void* slab : pool.free) munmap(slab, kSlabBytes);
  pool.free.clear();
  {
    const std::lock_guard<std::mutex> lock(orphansMutex);
    for (Slab& slab : pool.out) orphans.push_back(std::move(slab));
  }
  pool.out.clear();
  sweepOrphans();
}

}  // namespace

void registerReceiveSlabs(Napi::Env env, Napi::Object exports) {
  exports.Set("slabTake", Napi::Function::New(env, SlabTake));
  exports.Set("slabsBack", Napi::Function::New(env, SlabsBack));
  exports.Set("slabTrim", Napi::Function::New(env, SlabTrim));
  napi_add_env_cleanup_hook(env, closePool, nullptr);
}

}  // namespace stpd
