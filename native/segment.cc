/*
 * Memory files, and the ranges they are mapped into.
 *
 * Invariant: a reserved range is mapped from end to end until the process ends. JavaScript holds it
 * as a SharedArrayBuffer, which cannot be taken back, so parts are only ever replaced: zero memory
 * by a file, a file by zero memory. No call leaves a hole, in which another thread's allocation
 * could come to lie.
 *
 * The table of ranges belongs to the process: a worker thread uses the number that another thread
 * got. Its entries are written once, under the lock, and read without it.
 */
#include "segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <string>

#include "addon.h"
#include "external_buffer.h"

/* Not in the headers of every system that has the kernel. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace stpd {

namespace {

/* Numbers start at 1. A segment lasts as long as the process, so this bounds its attaches. */
constexpr uint32_t kSegmentsMax = 1024;
/* Exact in a double, and far above any address range. */
constexpr uint64_t kBytesMax = uint64_t{1} << 47;
/* fallocate starts again when a signal comes: pieces make sure that it gets on. */
constexpr uint64_t kClaimBytes = 32 << 20;
constexpr int kSealsHeld = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

struct Segment {
  std::atomic<uint8_t*> base;
  std::atomic<uint64_t> bytes;
};

Segment segments[kSegmentsMax + 1];
std::mutex reserving;
uint32_t segmentCount = 0;

uint64_t pageBytes() {
  static const uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

uint64_t wholePages(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const uint64_t value = wholeNumber(info, index, name, kBytesMax);
  if (value % pageBytes() != 0) {
    throwRangeError(info.Env(), std::string(name) + " is not a multiple of the page size, " +
                                    std::to_string(pageBytes()) + ": " + std::to_string(value));
  }
  return value;
}

uint64_t wholePagesNotNone(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const uint64_t value = wholePages(info, index, name);
  if (value == 0) throwRangeError(info.Env(), std::string(name) + " is 0");
  return value;
}

/* The arguments (segment, offset) at 0 and 1, checked against a length. */
uint8_t* partOfSegment(const Napi::CallbackInfo& info, uint64_t bytes) {
  uint64_t segmentBytes = 0;
  const auto segment = static_cast<uint32_t>(wholeNumber(info, 0, "segment", UINT32_MAX));
  uint8_t* base = segmentBase(segment, &segmentBytes);
  if (base == nullptr) {
    throwRangeError(info.Env(), "no segment has the number " + std::to_string(segment));
  }
  const uint64_t offset = wholePages(info, 1, "offset");
  if (offset > segmentBytes || bytes > segmentBytes - offset) {
    throwRangeError(info.Env(), std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                    " are not within a segment of " + std::to_string(segmentBytes));
  }
  return base + offset;
}

Napi::Value memfdCreate(const Napi::CallbackInfo& info) {
  const std::string name = text(info, 0, "name");
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  /* Kernels before 6.3 do not know NOEXEC_SEAL; later ones may insist on it (vm.memfd_noexec). */
  int fd = memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name.c_str(), flags);
  if (fd < 0) throwSystemError(info.Env(), errno, "memfd_create");
  /* A memfd is born open to everybody who gets at it through /proc/PID/fd. */
  if (fchmod(fd, S_IRUSR | S_IWUSR) != 0) {
    const int error = errno;
    close(fd);
    throwSystemError(info.Env(), error, "fchmod");
  }
  return Napi::Number::New(info.Env(), fd);
}

void claim(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const uint64_t bytes = wholePagesNotNone(info, 1, "bytes");
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throwSystemError(info.Env(), errno, "ftruncate");
  }
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(kClaimBytes, bytes - done);
    if (fallocate(fd, 0, static_cast<off_t>(done), static_cast<off_t>(piece)) == 0) {
      done += piece;
    } else if (errno != EINTR) {
      throwSystemError(info.Env(), errno, "fallocate",
                       std::to_string(bytes) + " bytes wanted, " + std::to_string(done) + " there");
    }
  }
}

void seal(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const int future = flag(info, 1, "future") ? F_SEAL_FUTURE_WRITE : 0;
  if (fcntl(fd, F_ADD_SEALS, kSealsHeld | future) != 0) {
    throwSystemError(info.Env(), errno, "fcntl", "F_ADD_SEALS");
  }
}

void verifySealed(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const uint64_t bytes = wholeNumber(info, 1, "bytes", kBytesMax);
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    /* EINVAL: the file is of a kind that has no seals. */
    if (errno == EINVAL) throwSystemError(info.Env(), EPERM, "fcntl", "not a memory file");
    throwSystemError(info.Env(), errno, "fcntl", "F_GET_SEALS");
  }
  if ((seals & kSealsHeld) != kSealsHeld) {
    throwSystemError(info.Env(), EPERM, "fcntl",
                     "the memory file is not sealed against SHRINK, GROW and SEAL");
  }
  struct stat status;
  if (fstat(fd, &status) != 0) throwSystemError(info.Env(), errno, "fstat");
  if (static_cast<uint64_t>(status.st_size) != bytes) {
    throwSystemError(info.Env(), EPERM, "fstat",
                     "the memory file has " + std::to_string(status.st_size) + " bytes, not " +
                         std::to_string(bytes));
  }
}

Napi::Value reserve(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t bytes = wholePagesNotNone(info, 0, "bytes");
  const std::lock_guard<std::mutex> lock(reserving);
  if (segmentCount == kSegmentsMax) {
    throwSystemError(env, ENOMEM, "mmap",
                     "this process has attached " + std::to_string(kSegmentsMax) +
                         " times, and each segment stays until it ends: start a new process");
  }
  void* range =
      mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throwSystemError(env, errno, "mmap");
  Napi::Value buffer;
  try {
    buffer = externalSharedBuffer(env, range, bytes);
  } catch (...) {
    munmap(range, bytes);
    throw;
  }
  Segment& segment = segments[++segmentCount];
  segment.bytes.store(bytes, std::memory_order_relaxed);
  /* SYNC: release, pairs with segmentBase(). */
  segment.base.store(static_cast<uint8_t*>(range), std::memory_order_release);
  Napi::Object result = Napi::Object::New(env);
  result.Set("segment", Napi::Number::New(env, segmentCount));
  result.Set("buffer", buffer);
  return result;
}

/*
 * Everything that can be wrong with the file is found here. A failed MAP_FIXED may already have
 * removed what was there (kernels before 6.12), so the range must not be where it fails.
 */
void checkMappable(Napi::Env env, int fd, uint64_t bytes, int protection) {
  struct stat status;
  if (fstat(fd, &status) != 0) throwSystemError(env, errno, "fstat");
  if (status.st_size < 0 || static_cast<uint64_t>(status.st_size) < bytes) {
    throwRangeError(env, "the file has " + std::to_string(status.st_size) + " bytes, not the " +
                             std::to_string(bytes) + " to map");
  }
  void* probe = mmap(nullptr, pageBytes(), protection, MAP_SHARED, fd, 0);
  if (probe == MAP_FAILED) throwSystemError(env, errno, "mmap");
  munmap(probe, pageBytes());
}

/* Private zero memory in place of what is there. */
bool replaceByZero(uint8_t* at, uint64_t bytes, int protection) {
  const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return mmap(at, bytes, protection, flags, -1, 0) != MAP_FAILED;
}

void map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 2);
  const uint64_t bytes = wholePagesNotNone(info, 3, "bytes");
  const int protection = PROT_READ | (flag(info, 4, "writable") ? PROT_WRITE : 0);
  uint8_t* at = partOfSegment(info, bytes);
  checkMappable(env, fd, bytes, protection);
  if (mmap(at, bytes, protection, MAP_FIXED | MAP_SHARED | MAP_POPULATE, fd, 0) == MAP_FAILED) {
    const int error = errno;
    replaceByZero(at, bytes, PROT_READ);
    throwSystemError(env, error, "mmap");
  }
}

/* mapLater(segment, offset, fd, bytes, writable): as map, by a thread of libuv's pool, since
 * populating takes 65 to 93 ms a GiB. Takes the descriptor over, also where it throws. A promise. */
struct CloseFile {
  void operator()(const int* fd) const {
    close(*fd);
    delete fd;
  }
};
using OwnedFile = std::unique_ptr<const int, CloseFile>;

class MapWorker : public Napi::AsyncWorker {
 public:
  MapWorker(Napi::Env env, uint8_t* at, uint64_t bytes, OwnedFile file, int protection)
      : Napi::AsyncWorker(env),
        promise(Napi::Promise::Deferred::New(env)),
        at_(at),
        bytes_(bytes),
        file_(std::move(file)),
        protection_(protection) {}

  void Execute() override {
    const int flags = MAP_FIXED | MAP_SHARED | MAP_POPULATE;
    if (mmap(at_, bytes_, protection_, flags, *file_, 0) == MAP_FAILED) {
      error_ = errno;
      replaceByZero(at_, bytes_, PROT_READ);
    }
  }

  void OnOK() override {
    if (error_ == 0) return promise.Resolve(Env().Undefined());
    try {
      throwSystemError(Env(), error_, "mmap");
    } catch (const Napi::Error& error) {
      promise.Reject(error.Value());
    }
  }

  const Napi::Promise::Deferred promise;

 private:
  uint8_t* const at_;
  const uint64_t bytes_;
  const OwnedFile file_;
  const int protection_;
  int error_ = 0;
};

Napi::Value mapLater(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  OwnedFile file(new int(descriptor(info, 2)));
  const uint64_t bytes = wholePagesNotNone(info, 3, "bytes");
  const int protection = PROT_READ | (flag(info, 4, "writable") ? PROT_WRITE : 0);
  uint8_t* at = partOfSegment(info, bytes);
  checkMappable(env, *file, bytes, protection);
  auto* worker = new MapWorker(env, at, bytes, std::move(file), protection);
  const Napi::Value promise = worker->promise.Promise();
  worker->Queue();
  return promise;
}

void unmapToZero(const Napi::CallbackInfo& info) {
  const uint64_t bytes = wholePagesNotNone(info, 2, "bytes");
  uint8_t* at = partOfSegment(info, bytes);
  if (!replaceByZero(at, bytes, PROT_READ | PROT_WRITE)) {
    throwSystemError(info.Env(), errno, "mmap");
  }
}

}  // namespace

uint8_t* segmentBase(uint32_t segment, uint64_t* bytes) {
  if (segment == 0 || segment > kSegmentsMax) return nullptr;
  /* SYNC: acquire, pairs with reserve(). */
  uint8_t* base = segments[segment].base.load(std::memory_order_acquire);
  if (bytes != nullptr) *bytes = segments[segment].bytes.load(std::memory_order_relaxed);
  return base;
}

void registerSegment(Napi::Env env, Napi::Object exports) {
  exports.Set("memfdCreate", Napi::Function::New<memfdCreate>(env, "memfdCreate"));
  exports.Set("claim", Napi::Function::New<claim>(env, "claim"));
  exports.Set("seal", Napi::Function::New<seal>(env, "seal"));
  exports.Set("verifySealed", Napi::Function::New<verifySealed>(env, "verifySealed"));
  exports.Set("reserve", Napi::Function::New<reserve>(env, "reserve"));
  exports.Set("map", Napi::Function::New<map>(env, "map"));
  exports.Set("mapLater", Napi::Function::New<mapLater>(env, "mapLater"));
  exports.Set("unmapToZero", Napi::Function::New<unmapToZero>(env, "unmapToZero"));
}

}  // namespace stpd
