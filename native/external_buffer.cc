/*
 * The only file that includes V8.
 *
 * Node-API creates such a buffer where node_api_create_external_sharedarraybuffer exists: late
 * releases of Node 22 and 24, and 26. It is looked for at run time, not by version, so that one
 * binary serves all. Elsewhere V8 does it. The calls to V8 are bound when they are first made
 * (-fplt, -z lazy): a Node without these symbols still loads the addon, and never gets here.
 */
#include "external_buffer.h"

#include <dlfcn.h>
#include <v8.h>

#include <cerrno>
#include <utility>

#include "addon.h"

namespace stpd {

namespace {

/* Node's documentation, n-api.md: the finalizer gets no env and runs on any thread. */
using Finalize = void (*)(void* data, void* hint);
using CreateExternal = napi_status (*)(napi_env env, void* data, size_t bytes, Finalize finalize,
                                       void* hint, napi_value* result);

void keepForever(void*, void*) {}

[[noreturn]] void throwRefused(Napi::Env env) {
  throwSystemError(env, ENOTSUP, "SharedArrayBuffer",
                   "this Node was built with the V8 sandbox or pointer compression, which refuses "
                   "memory of other owners: run stpd with the Node.js release from nodejs.org or "
                   "your distribution");
}

[[noreturn]] void throwFailed(Napi::Env env, napi_status status) {
  throwSystemError(env, EIO, "SharedArrayBuffer",
                   "Node-API status " + std::to_string(static_cast<int>(status)));
}

/* V8 aborts the process when its sandbox is given foreign memory; Node-API says no. Ask it. */
void probeForeignMemory(Napi::Env env) {
  static uint8_t foreign[8];
  napi_value ignored;
  const napi_status status = napi_create_external_arraybuffer(
      env, foreign, sizeof foreign, [](napi_env, void*, void*) {}, nullptr, &ignored);
  if (status == napi_no_external_buffers_allowed) throwRefused(env);
  if (status != napi_ok) throwFailed(env, status);
}

napi_value createThroughV8(void* data, size_t bytes) {
  std::shared_ptr<v8::BackingStore> store = v8::SharedArrayBuffer::NewBackingStore(
      data, bytes, [](void*, size_t, void*) {}, nullptr);
  v8::Local<v8::Value> buffer =
      v8::SharedArrayBuffer::New(v8::Isolate::GetCurrent(), std::move(store));
  /* How Node-API itself represents a value. */
  static_assert(sizeof(napi_value) == sizeof buffer, "napi_value is a v8::Local");
  napi_value result;
  static_cast<void>(new (&result) v8::Local<v8::Value>(buffer));
  return result;
}

/* What V8 counts would make it mark the whole heap again and again; what has the empty deleter it
 * does not count. Node-API knows no such buffer, so V8's functions are looked for by their names. */
struct Uncounted {
  using NewStore = std::unique_ptr<v8::BackingStore> (*)(void*, size_t,
                                                         void (*)(void*, size_t, void*), void*);
  using Make = v8::Local<v8::ArrayBuffer> (*)(v8::Isolate*, std::shared_ptr<v8::BackingStore>);
  NewStore newStore;
  void (*emptyDeleter)(void*, size_t, void*);
  Make make;

  template <typename Function>
  static void find(Function* function, const char* name) {
    *function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  }

  Uncounted() {
    find(&newStore, "_ZN2v811ArrayBuffer15NewBackingStoreEPvmPFvS1_mS1_ES1_");
    find(&emptyDeleter, "_ZN2v812BackingStore12EmptyDeleterEPvmS1_");
    find(&make, "_ZN2v811ArrayBuffer3NewEPNS_7IsolateESt10shared_ptrINS_12BackingStoreEE");
  }

  bool complete() const {
    return newStore != nullptr && emptyDeleter != nullptr && make != nullptr;
  }
};

}  // namespace

napi_value uncountedBuffer(void* data, size_t bytes, std::weak_ptr<void>* seen) {
  static const Uncounted v8s;
  if (!v8s.complete()) return nullptr;
  std::shared_ptr<v8::BackingStore> store =
      v8s.newStore(data, bytes, v8s.emptyDeleter, nullptr);
  *seen = store;
  v8::Local<v8::ArrayBuffer> buffer = v8s.make(v8::Isolate::GetCurrent(), std::move(store));
  napi_value result;
  static_cast<void>(new (&result) v8::Local<v8::Value>(buffer));
  return result;
}

Napi::Value externalSharedBuffer(Napi::Env env, void* data, size_t bytes) {
  const auto create = reinterpret_cast<CreateExternal>(
      dlsym(RTLD_DEFAULT, "node_api_create_external_sharedarraybuffer"));
  if (create == nullptr) {
    probeForeignMemory(env);
    return Napi::Value(env, createThroughV8(data, bytes));
  }
  napi_value result;
  const napi_status status = create(env, data, bytes, keepForever, nullptr, &result);
  if (status == napi_no_external_buffers_allowed) throwRefused(env);
  if (status != napi_ok) throwFailed(env, status);
  return Napi::Value(env, result);
}

}  // namespace stpd
