/*
 * TCP sockets by number: for threads that block in JavaScript, and for what node:net has no call
 * for (a port that is held without listening).
 *
 * Every descriptor is non-blocking and close-on-exec; whoever waits does so in `poll` for a slice
 * that the caller gives. A descriptor belongs to the thread that made or adopted it and is closed
 * with that thread, however it ends, unless it was released to libuv or put into transit.
 * Results of the streaming calls are values: bytes, or minus the error number.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "addon.h"
#include "stg.h"

namespace stpd {

namespace {

thread_local std::set<int> owned;

std::mutex transitMutex;
std::map<uint32_t, int> transit;
uint32_t transitNext = 1;

void closeOwned(void*) {
  for (const int fd : owned) close(fd);
  owned.clear();
}

/* A descriptor of this thread. The number of one that was closed may be anybody's. */
int socketOf(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  if (owned.count(fd) == 0) throwSystemError(info.Env(), EBADF, "tcp", "not a socket of this thread");
  return fd;
}

struct Name {
  sockaddr_storage storage = {};
  socklen_t bytes = 0;
  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }
};

/* An address, not a host name. */
Name nameOf(Napi::Env env, const std::string& host, uint16_t port) {
  Name name;
  auto* four = reinterpret_cast<sockaddr_in*>(&name.storage);
  auto* six = reinterpret_cast<sockaddr_in6*>(&name.storage);
  const size_t zone = host.find('%');
  if (inet_pton(AF_INET, host.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    name.bytes = sizeof(*four);
  } else if (inet_pton(AF_INET6, host.substr(0, zone).c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    name.bytes = sizeof(*six);
    if (zone != std::string::npos) {
      addrinfo hints = {}, *found = nullptr; /* for its scope id; numeric, so nothing is asked */
      hints.ai_flags = AI_NUMERICHOST;
      if (getaddrinfo(host.c_str(), nullptr, &hints, &found) == 0) {
        six->sin6_scope_id = reinterpret_cast<sockaddr_in6*>(found->ai_addr)->sin6_scope_id;
        freeaddrinfo(found);
      }
    }
  } else {
    throwRangeError(env, "'" + host + "' is not an IPv4 or IPv6 address");
  }
  return name;
}

Name nameArgument(const Napi::CallbackInfo& info) {
  return nameOf(info.Env(), text(info, 1, "address"),
                uint16_t(wholeNumber(info, 2, "port", 65535)));
}

Napi::Value keep(Napi::Env env, int fd) {
  owned.insert(fd);
  return Napi::Number::New(env, fd);
}

Napi::Value value(const Napi::CallbackInfo& info, int64_t result) {
  return Napi::Number::New(info.Env(), double(result));
}

/* Waits until the descriptor has one of `events`, for `sliceMs` at most. */
bool wait(int fd, short events, uint32_t sliceMs) {
  pollfd one = {fd, events, 0};
  return poll(&one, 1, int(sliceMs)) > 0;
}

struct Bytes {
  uint8_t* at;
  size_t count;
};

/* (fd, bytes: Uint8Array, offset, count, sliceMs) */
Bytes bytesOf(const Napi::CallbackInfo& info) {
  if (!info[1].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "not a Uint8Array");
  auto array = info[1].As<Napi::Uint8Array>();
  const uint64_t offset = wholeNumber(info, 2, "offset", array.ElementLength());
  const uint64_t count = wholeNumber(info, 3, "bytes", array.ElementLength() - offset);
  return {array.Data() + offset, size_t(count)};
}

/* tcpOpen(version: 4 | 6) */
Napi::Value tcpOpen(const Napi::CallbackInfo& info) {
  const bool six = wholeNumber(info, 0, "version", 6) == 6;
  const int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throwSystemError(info.Env(), errno, "socket");
  return keep(info.Env(), fd);
}

/* tcpBind(fd, address, port): 0 or minus the error */
Napi::Value tcpBind(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  Name name = nameArgument(info);
  return value(info, bind(fd, name.address(), name.bytes) == 0 ? 0 : -errno);
}

Napi::Value tcpListen(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  const int backlog = int(wholeNumber(info, 1, "backlog", 65535));
  return value(info, listen(fd, backlog) == 0 ? 0 : -errno);
}

/* tcpConnect(fd, address, port): 0, or minus the error: -EINPROGRESS until it is writable */
Napi::Value tcpConnect(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  Name name = nameArgument(info);
  return value(info, connect(fd, name.address(), name.bytes) == 0 ? 0 : -errno);
}

/* tcpAccept(fd): a descriptor, or minus the error */
Napi::Value tcpAccept(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  int got;
  do {
    got = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  } while (got < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (got < 0) return value(info, -errno);
  return keep(info.Env(), got);
}

/* tcpName(fd, ofPeer): { host, port }, or undefined for a peer that is not there */
Napi::Value tcpName(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  Name name;
  name.bytes = sizeof(name.storage);
  const int failed = flag(info, 1, "ofPeer") ? getpeername(fd, name.address(), &name.bytes)
                                             : getsockname(fd, name.address(), &name.bytes);
  if (failed != 0) return info.Env().Undefined();
  char host[INET6_ADDRSTRLEN] = "";
  uint16_t port;
  if (name.storage.ss_family == AF_INET6) {
    const auto* six = reinterpret_cast<sockaddr_in6*>(&name.storage);
    inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
    port = ntohs(six->sin6_port);
  } else {
    const auto* four = reinterpret_cast<sockaddr_in*>(&name.storage);
    inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
    port = ntohs(four->sin_port);
  }
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("host", Napi::String::New(info.Env(), host));
  out.Set("port", Napi::Number::New(info.Env(), port));
  return out;
}

/* tcpSend(fd, bytes, offset, count, sliceMs): bytes taken, 0 if there was no room all that time */
Napi::Value tcpSend(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  const Bytes from = bytesOf(info);
  const uint32_t sliceMs = uint32_t(wholeNumber(info, 4, "sliceMs", 1000));
  const uint64_t until = nowNs() + uint64_t(sliceMs) * 1'000'000;
  size_t done = 0;
  while (done < from.count) {
    const ssize_t sent = send(fd, from.at + done, from.count - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      done += size_t(sent);
    } else if (sent < 0 && errno == EINTR) {
      continue;
    } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      const uint64_t now = nowNs();
      if (now >= until || !wait(fd, POLLOUT, uint32_t((until - now) / 1'000'000 + 1))) break;
    } else {
      /* What went before it is told first; the error comes again. */
      return value(info, done > 0 ? int64_t(done) : -errno);
    }
  }
  return value(info, int64_t(done));
}

/* tcpReceive(fd, into, offset, count, sliceMs): bytes, 0 at the orderly end, or minus the error:
 * -EAGAIN if nothing came all that time */
Napi::Value tcpReceive(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  const Bytes into = bytesOf(info);
  const uint32_t sliceMs = uint32_t(wholeNumber(info, 4, "sliceMs", 1000));
  for (bool waited = sliceMs == 0;; waited = true) {
    ssize_t got;
    do {
      got = recv(fd, into.at, into.count, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got >= 0) return value(info, got);
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || waited) return value(info, -errno);
    wait(fd, POLLIN | POLLRDHUP, sliceMs);
  }
}

/* tcpShutdown(fd, how: 0 reading, 1 writing): 0 or minus the error */
Napi::Value tcpShutdown(const Napi::CallbackInfo& info) {
  const int how = wholeNumber(info, 1, "how", 1) == 0 ? SHUT_RD : SHUT_WR;
  return value(info, shutdown(socketOf(info), how) == 0 ? 0 : -errno);
}

/* Options by number, so that nobody can ask the kernel for anything else. */
constexpr int kOptions[][2] = {
    {SOL_SOCKET, SO_REUSEADDR}, {IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_SNDBUF},    {SOL_SOCKET, SO_RCVBUF},    {SOL_SOCKET, SO_ERROR},
};
constexpr uint64_t kOptionMax = sizeof(kOptions) / sizeof(kOptions[0]) - 1;

/* tcpSetOption(fd, option, number): any descriptor, as those of libuv are set here too */
Napi::Value tcpSetOption(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const auto& option = kOptions[wholeNumber(info, 1, "option", kOptionMax)];
  const int number = int(wholeNumber(info, 2, "value", 0x7fffffff));
  const int failed = setsockopt(fd, option[0], option[1], &number, sizeof(number));
  return value(info, failed == 0 ? 0 : -errno);
}

Napi::Value tcpGetOption(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const auto& option = kOptions[wholeNumber(info, 1, "option", kOptionMax)];
  int number = 0;
  socklen_t bytes = sizeof(number);
  const int failed = getsockopt(fd, option[0], option[1], &number, &bytes);
  return value(info, failed == 0 ? number : -errno);
}

/* tcpClose(fd, reset): reset sends RST instead of an end, and drops what is unsent */
void tcpClose(const Napi::CallbackInfo& info) {
  const int fd = socketOf(info);
  if (flag(info, 1, "reset")) {
    const linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  }
  owned.erase(fd);
  close(fd);
}

/* tcpRelease(fd): somebody else closes it from now on */
void tcpRelease(const Napi::CallbackInfo& info) { owned.erase(socketOf(info)); }

/* tcpDispatch(fd): a second descriptor of the same socket, on its way to whichever thread adopts it.
 * Returns its number for adoption, which works once. */
Napi::Value tcpDispatch(const Napi::CallbackInfo& info) {
  const int copy = fcntl(descriptor(info, 0), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throwSystemError(info.Env(), errno, "dup");
  std::lock_guard<std::mutex> guard(transitMutex);
  const uint32_t number = transitNext++;
  transit[number] = copy;
  return Napi::Number::New(info.Env(), number);
}

Napi::Value tcpAdopt(const Napi::CallbackInfo& info) {
  const uint32_t number = uint32_t(wholeNumber(info, 0, "number", UINT32_MAX));
  std::lock_guard<std::mutex> guard(transitMutex);
  const auto found = transit.find(number);
  if (found == transit.end()) {
    throwSystemError(info.Env(), EBADF, "adopt", "the socket was adopted already");
  }
  const int fd = found->second;
  transit.erase(found);
  return keep(info.Env(), fd);
}

/* ---- host names ------------------------------------------------------------------------------ */

/* A look-up may take as long as a name server does, so it has a thread of its own, and whoever
 * waits for it does so in slices. */
struct Lookup {
  std::mutex mutex;
  std::condition_variable done;
  bool finished = false;
  int error = 0;
  std::string address;
};

thread_local std::map<uint32_t, std::shared_ptr<Lookup>> lookups;
thread_local uint32_t lookupNext = 1;

void lookUp(std::shared_ptr<Lookup> lookup, std::string host) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  char address[NI_MAXHOST] = "";
  if (error == 0) {
    getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof(address), nullptr, 0,
                NI_NUMERICHOST);
    freeaddrinfo(found);
  }
  std::lock_guard<std::mutex> guard(lookup->mutex);
  lookup->finished = true;
  lookup->error = error;
  lookup->address = address;
  lookup->done.notify_all();
}

/* hostLookup(name): a number for hostAddress */
Napi::Value hostLookup(const Napi::CallbackInfo& info) {
  auto lookup = std::make_shared<Lookup>();
  std::thread(lookUp, lookup, text(info, 0, "host name")).detach();
  const uint32_t number = lookupNext++;
  lookups[number] = lookup;
  return Napi::Number::New(info.Env(), number);
}

/* hostAddress(number, sliceMs): the address, '' for a name that has none, undefined: not yet. A
 * number is good until it has given an answer or hostForget. */
Napi::Value hostAddress(const Napi::CallbackInfo& info) {
  const auto found = lookups.find(uint32_t(wholeNumber(info, 0, "number", UINT32_MAX)));
  if (found == lookups.end()) throwRangeError(info.Env(), "no such look-up");
  const auto slice = std::chrono::milliseconds(wholeNumber(info, 1, "sliceMs", 1000));
  std::shared_ptr<Lookup> lookup = found->second;
  std::unique_lock<std::mutex> guard(lookup->mutex);
  if (!lookup->done.wait_for(guard, slice, [&] { return lookup->finished; })) {
    return info.Env().Undefined();
  }
  lookups.erase(found);
  return Napi::String::New(info.Env(), lookup->error == 0 ? lookup->address : "");
}

void hostForget(const Napi::CallbackInfo& info) {
  lookups.erase(uint32_t(wholeNumber(info, 0, "number", UINT32_MAX)));
}

}  // namespace

void registerTcp(Napi::Env env, Napi::Object exports) {
  exports.Set("tcpOpen", Napi::Function::New<tcpOpen>(env, "tcpOpen"));
  exports.Set("tcpBind", Napi::Function::New<tcpBind>(env, "tcpBind"));
  exports.Set("tcpListen", Napi::Function::New<tcpListen>(env, "tcpListen"));
  exports.Set("tcpConnect", Napi::Function::New<tcpConnect>(env, "tcpConnect"));
  exports.Set("tcpAccept", Napi::Function::New<tcpAccept>(env, "tcpAccept"));
  exports.Set("tcpName", Napi::Function::New<tcpName>(env, "tcpName"));
  exports.Set("tcpSend", Napi::Function::New<tcpSend>(env, "tcpSend"));
  exports.Set("tcpReceive", Napi::Function::New<tcpReceive>(env, "tcpReceive"));
  exports.Set("tcpShutdown", Napi::Function::New<tcpShutdown>(env, "tcpShutdown"));
  exports.Set("tcpSetOption", Napi::Function::New<tcpSetOption>(env, "tcpSetOption"));
  exports.Set("tcpGetOption", Napi::Function::New<tcpGetOption>(env, "tcpGetOption"));
  exports.Set("tcpClose", Napi::Function::New<tcpClose>(env, "tcpClose"));
  exports.Set("tcpRelease", Napi::Function::New<tcpRelease>(env, "tcpRelease"));
  exports.Set("tcpDispatch", Napi::Function::New<tcpDispatch>(env, "tcpDispatch"));
  exports.Set("tcpAdopt", Napi::Function::New<tcpAdopt>(env, "tcpAdopt"));
  exports.Set("hostLookup", Napi::Function::New<hostLookup>(env, "hostLookup"));
  exports.Set("hostAddress", Napi::Function::New<hostAddress>(env, "hostAddress"));
  exports.Set("hostForget", Napi::Function::New<hostForget>(env, "hostForget"));
  napi_add_env_cleanup_hook(env, closeOwned, nullptr);
}

}  // namespace stpd
