/*
 * A SharedArrayBuffer over memory that is not V8's.
 */
#ifndef STPD_EXTERNAL_BUFFER_H
#define STPD_EXTERNAL_BUFFER_H

#include <napi.h>

#include <cstddef>

namespace stpd {

/*
 * The memory must outlive the process's last JavaScript thread: nothing is called when the buffer
 * is collected. Throws ENOTSUP where V8 does not take foreign memory.
 * At most one call for one address: V8 must not see two backing stores at one place.
 */
Napi::Value externalSharedBuffer(Napi::Env env, void* data, size_t bytes);

/*
 * A young ArrayBuffer over memory that V8 does not count, or null where this Node cannot make one.
 * It cannot be detached: who asks for its end (napi_add_finalizer) may use the memory for something
 * else then. No program may be given it that was not marked untransferable: Node ends the process
 * when it transfers a buffer and then cannot detach it.
 */
napi_value uncountedBuffer(void* data, size_t bytes);

}  // namespace stpd

#endif
