/*
 * Memory that event loops read into, recycled: fresh memory for each read would cost a page fault
 * every 4 KiB, more than the copy itself.
 *
 * A slab is an ArrayBuffer. When JavaScript has let go of it, it comes back to the pool of the
 * thread that made it. A thread makes so many at most; beyond, JavaScript allocates for itself,
 * which is what makes V8 collect, and the slabs that nobody sees any more come back.
 */
#include <sys/mman.h>

#include <vector>

#include "addon.h"

namespace stpd {

namespace {

constexpr size_t kSlabBytes = 1 << 20;
/* More than the 32 MiB of young buffers at which V8 collects, so that the pool bridges its rounds. */
constexpr uint32_t kSlabsMax = 48;

struct Pool {
  std::vector<void*> free;
  uint32_t made = 0;
  bool closed = false;
};

thread_local Pool pool;

/* V8 is told of each slab once, as long as the pool has it; that it counts a slab again while
 * JavaScript has it is taken back. The pool is bounded, and marking the whole heap every 64 MiB
 * received would cost more than it could find.
 * Invariant: V8's count stays above what JavaScript has. V8 counts that off at the end of the
 * environment, before any hook of ours runs, and aborts the process below zero. */
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
  account(env, int64_t(kSlabBytes));
  if (pool.closed) return drop(env, slab);
  pool.free.push_back(slab);
}

/* slabTake(): an ArrayBuffer, or undefined when the thread has all its slabs in use. */
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
  napi_value out;
  if (napi_create_external_arraybuffer(env, slab, kSlabBytes, onFree, nullptr, &out) != napi_ok) {
    drop(env, slab);
    return env.Undefined();
  }
  account(env, -int64_t(kSlabBytes));
  return Napi::Value(env, out);
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
  exports.Set("slabTrim", Napi::Function::New(env, SlabTrim));
  napi_add_env_cleanup_hook(env, closePool, static_cast<napi_env>(env));
}

}  // namespace stpd
