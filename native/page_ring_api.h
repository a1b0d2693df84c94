/*
 * What the files share that give page rings to JavaScript: arguments of hot calls, and results.
 * Plain Node-API: no exception, no allocation. The JavaScript thread that calls.
 */
#pragma once
#include "addon.h"
#include "page_ring.h"

namespace stpd {

/* nullptr for a number that ringOpen did not give to this thread. */
PageRing* ringOf(uint32_t handle);

/* Registers a function that is called for each message. */
void hot(Napi::Env env, Napi::Object exports, const char* name, napi_callback call);

template <size_t N>
struct ArgsOf {
  napi_value value[N];
  size_t count = N;
};
using Args = ArgsOf<5>;

template <size_t N>
uint32_t u32(napi_env env, const ArgsOf<N>& args, size_t index) {
  uint32_t value = 0;
  if (index < args.count) napi_get_value_uint32(env, args.value[index], &value);
  return value;
}

template <size_t N>
double number(napi_env env, const ArgsOf<N>& args, size_t index) {
  double value = 0;
  if (index < args.count) napi_get_value_double(env, args.value[index], &value);
  return value;
}

/* The ring that the first argument names; else throws EBADF. */
template <size_t N>
PageRing* ringArgs(napi_env env, napi_callback_info info, ArgsOf<N>* args) {
  if (napi_get_cb_info(env, info, &args->count, args->value, nullptr, nullptr) == napi_ok) {
    if (PageRing* ring = ringOf(args->count == 0 ? UINT32_MAX : u32(env, *args, 0))) return ring;
  }
  napi_throw_range_error(env, "EBADF", "EBADF: no such ring on this thread");
  return nullptr;
}

inline napi_value result(napi_env env, int64_t value) {
  napi_value out = nullptr;
  if (value == int32_t(value)) napi_create_int32(env, int32_t(value), &out);
  else napi_create_double(env, double(value), &out);
  return out;
}

struct Bytes {
  uint8_t* at = nullptr;
  uint64_t bytes = 0;
};

/* A whole Uint8Array; else throws EINVAL. */
inline bool bytesOf(napi_env env, napi_value from, Bytes* out) {
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, from, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      (type != napi_uint8_array && type != napi_uint8_clamped_array)) {
    napi_throw_type_error(env, "EINVAL", "EINVAL: a Uint8Array is needed");
    return false;
  }
  *out = {static_cast<uint8_t*>(data), length};
  return true;
}

/* Three arguments from `index` on: a Uint8Array, an offset and a length within it. */
template <size_t N>
bool bytesArgs(napi_env env, const ArgsOf<N>& args, size_t index, Bytes* out) {
  Bytes whole;
  if (!bytesOf(env, args.value[index], &whole)) return false;
  const double offset = number(env, args, index + 1), bytes = number(env, args, index + 2);
  if (!(offset >= 0) || !(bytes >= 0) || offset + bytes > double(whole.bytes)) {
    napi_throw_range_error(env, "ERANGE", "ERANGE: offset and length lie outside the buffer");
    return false;
  }
  *out = {whole.at + uint64_t(offset), uint64_t(bytes)};
  return true;
}

}  // namespace stpd
