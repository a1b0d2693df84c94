/*
 * File operations that Node's fs has not, or has only with a loss: times to the nanosecond, special
 * files. Any thread; short system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string>

#include "addon.h"

namespace stpd {

/* A path as a Buffer of any bytes, or as text. */
static std::string pathOf(const Napi::CallbackInfo& info) {
  std::string path;
  if (info[0].IsBuffer()) {
    auto bytes = info[0].As<Napi::Buffer<char>>();
    path.assign(bytes.Data(), bytes.Length());
  } else {
    path = info[0].ToString().Utf8Value();
  }
  if (path.find('\0') != std::string::npos) {
    throwRangeError(info.Env(), "the path contains a zero byte");
  }
  return path;
}

/* setTimesNs(path, mtimeNs, followSymlink): the access time is left alone. */
static void SetTimesNs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = pathOf(info);
  bool lossless = false;
  const int64_t ns = info[1].As<Napi::BigInt>().Int64Value(&lossless);
  if (!lossless) throwRangeError(env, "the time has more than 64 bits");
  int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
  if (rest < 0) {
    rest += 1000000000;
    seconds--;
  }
  const timespec times[2] = {{0, UTIME_OMIT}, {time_t(seconds), long(rest)}};
  const int flags = info[2].ToBoolean().Value() ? 0 : AT_SYMLINK_NOFOLLOW;
  if (utimensat(AT_FDCWD, path.c_str(), times, flags) != 0) {
    throwSystemError(env, errno, "utimensat", path);
  }
}

/* makeNode(path, mode, major, minor): mknod; the device number counts for devices only. */
static void MakeNode(const Napi::CallbackInfo& info) {
  const std::string path = pathOf(info);
  const auto mode = mode_t(wholeNumber(info, 1, "mode", 0177777));
  const auto major = unsigned(wholeNumber(info, 2, "major", UINT32_MAX));
  const auto minor = unsigned(wholeNumber(info, 3, "minor", UINT32_MAX));
  if (mknod(path.c_str(), mode, makedev(major, minor)) != 0) {
    throwSystemError(info.Env(), errno, "mknod", path);
  }
}

void registerFileIo(Napi::Env env, Napi::Object exports) {
  exports.Set("setTimesNs", Napi::Function::New(env, SetTimesNs));
  exports.Set("makeNode", Napi::Function::New(env, MakeNode));
}

}  // namespace stpd
