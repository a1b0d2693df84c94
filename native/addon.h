/*
 * What the files of the addon share: registration, and reading arguments and reporting errors.
 *
 * The addon is loaded once a process and initialised once a JavaScript thread. Everything here runs
 * on the JavaScript thread that calls it. Errors are C++ exceptions that node-addon-api turns into
 * JavaScript ones.
 */
#ifndef STPD_ADDON_H
#define STPD_ADDON_H

#include <napi.h>

#include <cstdint>
#include <string>

namespace stpd {

/* One function a source file: puts its functions into the addon's exports. */
void registerSegment(Napi::Env env, Napi::Object exports);
void registerDescriptors(Napi::Env env, Napi::Object exports);
void registerStg(Napi::Env env, Napi::Object exports);
void registerPageRing(Napi::Env env, Napi::Object exports);
void registerPageBatch(Napi::Env env, Napi::Object exports);
void registerTouch(Napi::Env env, Napi::Object exports);
void registerEventLoop(Napi::Env env, Napi::Object exports);
void registerFileIo(Napi::Env env, Napi::Object exports);
void registerTcp(Napi::Env env, Napi::Object exports);
void registerCopyData(Napi::Env env, Napi::Object exports);
void registerReceiveSlabs(Napi::Env env, Napi::Object exports);
void registerProcess(Napi::Env env, Napi::Object exports);

/*
 * `ENOMEM: memfd_create: Cannot allocate memory`, with `code`, `errno` (negative) and `syscall`.
 * `detail` is appended to the message: what it happened to, or what to do.
 */
[[noreturn]] void throwSystemError(Napi::Env env, int error, const char* syscall,
                                   const std::string& detail = "");

/* RangeError with code EINVAL. */
[[noreturn]] void throwRangeError(Napi::Env env, const std::string& message);

/* The value as a whole number in [0, max], max <= 2^53. RangeError if it is none: name says which. */
uint64_t wholeNumber(Napi::Env env, Napi::Value value, const char* name, uint64_t max);
uint64_t wholeNumber(const Napi::CallbackInfo& info, size_t index, const char* name, uint64_t max);

/* The value as a file descriptor: not checked to be open. */
int descriptor(Napi::Env env, Napi::Value value);
int descriptor(const Napi::CallbackInfo& info, size_t index);

/* The argument as text. TypeError if it is none or holds a zero byte, which would cut it short. */
std::string text(const Napi::CallbackInfo& info, size_t index, const char* name);

bool flag(const Napi::CallbackInfo& info, size_t index, const char* name);

}  // namespace stpd

#endif
