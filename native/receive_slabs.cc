/*
 * Memory that event loops read into, recycled: fresh memory for each read would cost a page fault
 * every 4 KiB, more than the copy itself.
 *
 * A slab is an ArrayBuffer. When V8 has collected it, and so every Buffer that was carved from it, it
 * comes back to the pool of the thread that made it. V8 is not told of slabs in use: what it counts
 * it also counts off when it collects, 32 MiB at once, and each rise after such a fall makes it mark
 * the whole heap. It is told of the pool, whose size is bounded. That V8 looks for slabs that nobody
 * sees often enough is the care of src/socket/receive-slabs.ts.
 */
#include <sys/mman.h>

#include <vector>

#include "addon.h"
#include "external_buffer.h"

namespace stpd {

namespace {

constexpr size_t kSlabBytes = 1 << 20;
/* What is out when V8 collects, twice: some is kept, and some on its way back. */
constexpr uint32_t kSlabsMax = 64;

struct Pool {
  std::vector<void*> free;
  uint32_t made = 0;
  uint32_t back = 0; /* slabs that came back since the last slabsBack */
  bool closed = false;
};

thread_local Pool pool;

void account(napi_env env, int64_t bytes) {
  int64_t total = 0;
  napi_adjust_external_memory(env, bytes, &total);
}

void drop(napi_env env, void* slab) {
  munmap(slab, kSlabBytes);
  pool.made--;
  account(env, -int64_t(kSlabBytes));
}

/* On the thread of the pool, at a turn of its loop after the collection, or at its end. */
void onFree(napi_env env, void* slab, void*) {
  if (pool.closed) return drop(env, slab);
  pool.free.push_back(slab);
  pool.back++;
}

/* slabTake(): an ArrayBuffer that must be marked untransferable before anybody gets it, or
 * undefined when the thread has all its slabs in use. */
Napi::Value SlabTake(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  void* slab = nullptr;
  if (!pool.free.empty()) {
    slab = pool.free.back();
    pool.free.pop_back();
  } else {
    if (pool.made == kSlabsMax || pool.closed) return env.Undefined();
    slab = mmap(nullptr, kSlabBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab == MAP_FAILED) return env.Undefined();
    pool.made++;
    account(env, int64_t(kSlabBytes));
  }
  napi_value out = uncountedBuffer(slab, kSlabBytes);
  if (out == nullptr || napi_add_finalizer(env, out, slab, onFree, nullptr, nullptr) != napi_ok) {
    drop(env, slab);
    return env.Undefined();
  }
  return Napi::Value(env, out);
}

/* slabsBack(): how many have come back since the last call. */
Napi::Value SlabsBack(const Napi::CallbackInfo& info) {
  const uint32_t back = pool.back;
  pool.back = 0;
  return Napi::Number::New(info.Env(), back);
}

/* slabTrim(): what nobody uses goes back to the system. */
void SlabTrim(const Napi::CallbackInfo& info) {
  for (void* slab : pool.free) drop(info.Env(), slab);
  pool.free.clear();
}

void closePool(void* env) {
  pool.closed = true;
  for (void* slab : pool.free) drop(static_cast<napi_env>(env), slab);
  pool.free.clear();
}

}  // namespace

void registerReceiveSlabs(Napi::Env env, Napi::Object exports) {
  exports.Set("slabTake", Napi::Function::New(env, SlabTake));
  exports.Set("slabsBack", Napi::Function::New(env, SlabsBack));
  exports.Set("slabTrim", Napi::Function::New(env, SlabTrim));
  napi_add_env_cleanup_hook(env, closePool, static_cast<napi_env>(env));
}

}  // namespace stpd
