/*
 * Entry point of the addon: registers the functions of each file, and the helpers of addon.h.
 * Runs once for each JavaScript thread that loads the addon, on that thread.
 */
#include "addon.h"

#include <uv.h>

#include <climits>
#include <cmath>
#include <cstring>

#include "layout.h"

namespace stpd {

namespace {

/* The name of an error number as errors.ts has it: `E<number>` for what libuv does not know. */
std::string codeOf(int error) {
  char name[64];
  uv_err_name_r(-error, name, sizeof name);
  return name[0] == 'E' ? name : "E" + std::to_string(error);
}

}  // namespace

void throwSystemError(Napi::Env env, int error, const char* syscall, const std::string& detail) {
  const std::string code = codeOf(error);
  std::string message = code + ": " + syscall + ": " + std::strerror(error);
  if (!detail.empty()) message += ", " + detail;
  Napi::Error thrown = Napi::Error::New(env, message);
  thrown.Set("code", Napi::String::New(env, code));
  thrown.Set("errno", Napi::Number::New(env, -error));
  thrown.Set("syscall", Napi::String::New(env, syscall));
  throw thrown;
}

void throwRangeError(Napi::Env env, const std::string& message) {
  Napi::RangeError thrown = Napi::RangeError::New(env, "EINVAL: " + message);
  thrown.Set("code", Napi::String::New(env, "EINVAL"));
  thrown.Set("errno", Napi::Number::New(env, -EINVAL));
  throw thrown;
}

uint64_t wholeNumber(Napi::Env env, Napi::Value value, const char* name, uint64_t max) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    /* max <= 2^53 everywhere, so the comparison is exact; NaN fails it. */
    if (number >= 0 && number <= static_cast<double>(max) && number == std::floor(number)) {
      return static_cast<uint64_t>(number);
    }
  }
  throwRangeError(env, std::string(name) + " is not a whole number from 0 to " +
                           std::to_string(max) + ": " + value.ToString().Utf8Value());
}

uint64_t wholeNumber(const Napi::CallbackInfo& info, size_t index, const char* name, uint64_t max) {
  return wholeNumber(info.Env(), info[index], name, max);
}

int descriptor(Napi::Env env, Napi::Value value) {
  return static_cast<int>(wholeNumber(env, value, "file descriptor", INT_MAX));
}

int descriptor(const Napi::CallbackInfo& info, size_t index) {
  return descriptor(info.Env(), info[index]);
}

std::string text(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (value.IsString()) {
    std::string result = value.As<Napi::String>().Utf8Value();
    if (result.find('\0') == std::string::npos) return result;
  }
  throw Napi::TypeError::New(info.Env(), std::string(name) + " is not a string without zero bytes");
}

bool flag(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsBoolean()) {
    throw Napi::TypeError::New(info.Env(), std::string(name) + " is neither true nor false");
  }
  return value.As<Napi::Boolean>().Value();
}

}  // namespace stpd

static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("layoutHash", Napi::String::New(env, STP_LAYOUT_HASH));
  stpd::registerSegment(env, exports);
  /* Before the watchers: hooks run backwards, and a cable closes after what watches it. */
  stpd::registerStg(env, exports);
  stpd::registerDescriptors(env, exports);
  stpd::registerPageRing(env, exports);
  stpd::registerPageBatch(env, exports);
  stpd::registerTouch(env, exports);
  stpd::registerEventLoop(env, exports);
  stpd::registerFileIo(env, exports);
  stpd::registerTcp(env, exports);
  stpd::registerCopyData(env, exports);
  stpd::registerReceiveSlabs(env, exports);
  stpd::registerProcess(env, exports);
  return exports;
}

NODE_API_MODULE(stpd_native, initialise)
