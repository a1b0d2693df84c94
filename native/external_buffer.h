/*
 * A SharedArrayBuffer over memory that is not V8's.
 */
#ifndef STPD_EXTERNAL_BUFFER_H
#define STPD_EXTERNAL_BUFFER_H

#include <napi.h>

#include <cstddef>
#include <memory>

namespace stpd {

/*
 * The memory must outlive the process's last JavaScript thread: nothing is called when the buffer
 * is collected. Throws ENOTSUP where V8 does not take foreign memory.
 * At most one call for one address: V8 must not see two backing stores at one place.
 */
Napi::Value externalSharedBuffer(Napi::Env env, void* data, size_t bytes);

/*
 * An ArrayBuffer over memory that V8 does not count, or null where this Node cannot make one.
 * `seen` expires when nobody has the memory any more: neither the buffer nor what it was transferred
 * to, on whatever thread, nor native code. Before that the memory must stay as it is.
 */
napi_value uncountedBuffer(void* data, size_t bytes, std::weak_ptr<void>* seen);

}  // namespace stpd

#endif
