/*
 * PostgreSQL's CopyData messages from a socket straight to where their data is wanted: for a thread
 * that blocks.
 *
 *   offset  bytes
 *   0       1      'd'
 *   1       4      length of all but the byte before, big-endian
 *   5       1      kind; of a base backup 'd' is data
 *   6       length - 5
 *
 * The descriptor is libuv's, which does not read it meanwhile; it may belong to anybody, and is only
 * read. What is no plain run of data messages is put aside byte for byte, for JavaScript to look at.
 * Source: PostgreSQL 15 documentation, 55.7 Message Formats.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "addon.h"
#include "stg.h"

namespace stpd {

namespace {

constexpr size_t kHeaderBytes = 6;
/* Data of a message as PostgreSQL cuts it; what comes beyond a shorter one is moved. */
constexpr size_t kAheadBytes = 32 << 10;
constexpr size_t kAsideBytes = kHeaderBytes + kAheadBytes;
bool wait(int fd, uint32_t sliceMs) {
  pollfd one = {fd, POLLIN, 0};
  return poll(&one, 1, int(sliceMs)) > 0;
}

ssize_t receive(int fd, iovec* parts, size_t count) {
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  ssize_t got;
  do {
    got = recvmsg(fd, &message, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

struct Span {
  uint8_t* at;
  size_t count;
};

Span spanOf(const Napi::CallbackInfo& info) {
  if (!info[1].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "not a Uint8Array");
  auto array = info[1].As<Napi::Uint8Array>();
  const uint64_t offset = wholeNumber(info, 2, "offset", array.ElementLength());
  const uint64_t count = wholeNumber(info, 3, "bytes", array.ElementLength() - offset);
  return {array.Data() + offset, size_t(count)};
}

/* The state of a run of data messages. */
struct Run {
  const int fd;
  const Span into;
  /* Bytes of the message at hand that are still to come. */
  uint64_t left;
  uint8_t* const aside;
  size_t filled = 0;
  size_t asideBytes = 0;

  /* One read: bytes, 0 at the end, or minus the error. */
  ssize_t step() {
    uint8_t header[kHeaderBytes];
    const size_t room = into.count - filled;
    const size_t own = size_t(std::min<uint64_t>(left, room));
    const size_t ahead = std::min(room - own, kAheadBytes);
    iovec parts[] = {
        {into.at + filled, own}, {header, kHeaderBytes}, {into.at + filled + own, ahead}};
    const ssize_t got = receive(fd, parts, ahead > 0 ? 3 : 1);
    if (got <= 0) return got;
    const size_t taken = std::min(size_t(got), own);
    filled += taken;
    left -= taken;
    if (size_t(got) > taken) next(header, size_t(got) - taken);
    return got;
  }

  /* A header, or a part of one, and what came behind it. */
  void next(const uint8_t* header, size_t bytes) {
    const size_t behind = bytes > kHeaderBytes ? bytes - kHeaderBytes : 0;
    if (bytes >= kHeaderBytes && header[0] == 'd' && header[5] == 'd') {
      const uint32_t length = uint32_t(header[1]) << 24 | uint32_t(header[2]) << 16 |
                              uint32_t(header[3]) << 8 | header[4];
      if (length > 5 && length - 5 >= behind) {
        filled += behind;
        left = length - 5 - behind;
        return;
      }
    }
    const size_t own = bytes - behind;
    std::memcpy(aside, header, own);
    std::memcpy(aside + own, into.at + filled, behind);
    asideBytes = own + behind;
  }
};

/*
 * copyDataReceive(fd, into, offset, count, state: Float64Array, aside: Uint8Array, sliceMs): bytes of
 * data, up to `count`; with none 0 at the end of the stream or where something was put aside, or
 * minus the error: -EAGAIN if nothing came all that time.
 * state[0]: bytes of the message at hand that are still to come, at least 1; kept up to date.
 * state[1]: bytes put aside, which follow the data. Nothing more is read then.
 */
Napi::Value copyDataReceive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 0);
  const Span into = spanOf(info);
  if (!info[4].IsTypedArray() || !info[5].IsTypedArray()) {
    throw Napi::TypeError::New(env, "not a Float64Array and a Uint8Array");
  }
  auto state = info[4].As<Napi::Float64Array>();
  auto aside = info[5].As<Napi::Uint8Array>();
  if (state.TypedArrayType() != napi_float64_array || state.ElementLength() < 2) {
    throwRangeError(env, "the state is not two numbers");
  }
  if (aside.ByteLength() < kAsideBytes) {
    throwRangeError(env, "less than " + std::to_string(kAsideBytes) + " bytes to put aside");
  }
  const uint32_t sliceMs = uint32_t(wholeNumber(info, 6, "sliceMs", 1000));
  const double left = state[0];
  if (!(left >= 0 && left <= UINT32_MAX)) throwRangeError(env, "no length of a message");

  Run run = {fd, into, uint64_t(left), aside.Data()};
  ssize_t result = 0;
  const uint64_t end = nowNs() + uint64_t(sliceMs) * 1000000;
  while (run.filled < into.count && run.asideBytes == 0) {
    result = run.step();
    if (result > 0) continue;
    /* Also where a little comes again and again: JavaScript must have its turn. */
    const uint64_t now = nowNs();
    if (result != -EAGAIN || now >= end) break;
    wait(fd, uint32_t((end - now + 999999) / 1000000));
  }
  state[0] = double(run.left);
  state[1] = double(run.asideBytes);
  if (run.filled > 0 || run.asideBytes > 0) return Napi::Number::New(env, double(run.filled));
  return Napi::Number::New(env, double(result));
}

/* socketReceive(fd, into, offset, count, sliceMs): as tcpReceive, of a descriptor of anybody's */
Napi::Value socketReceive(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const Span into = spanOf(info);
  const uint32_t sliceMs = uint32_t(wholeNumber(info, 4, "sliceMs", 1000));
  iovec part = {into.at, into.count};
  ssize_t got = receive(fd, &part, 1);
  if (got == -EAGAIN && wait(fd, sliceMs)) got = receive(fd, &part, 1);
  return Napi::Number::New(info.Env(), double(got));
}

}  // namespace

void registerCopyData(Napi::Env env, Napi::Object exports) {
  exports.Set("copyDataReceive", Napi::Function::New<copyDataReceive>(env, "copyDataReceive"));
  exports.Set("socketReceive", Napi::Function::New<socketReceive>(env, "socketReceive"));
}

}  // namespace stpd
