/*
 * Unix sockets, descriptors passed over them, and watching descriptors on the event loop.
 *
 * Invariant: a descriptor that arrives is handed to JavaScript or closed; none is lost on the way.
 * What a peer sends is hostile: more descriptors than asked for, none, longer messages, any order.
 *
 * Watchers belong to the JavaScript thread that started them: their table hangs on that thread's
 * functions, no other thread sees it. Handles of libuv are freed in their close callbacks only, and
 * the thread's end waits for those in an asynchronous clean-up hook.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "addon.h"

/* Linux 4.13; not in the headers of every system that has it. */
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

namespace stpd {

namespace {

/* Descriptors of one message. The grant of a host is the longest: superblock, STG, ring, socket. */
constexpr size_t kDescriptorsMax = 32;
/* A message is allocated at its greatest length before it is known: bounds what that may be. */
constexpr uint64_t kMessageBytesMax = 1 << 20;
constexpr uint64_t kWatchEvents = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
constexpr uint64_t kWatchMax = uint64_t{1} << 53;

static_assert(UV_READABLE == 1 && UV_WRITABLE == 2 && UV_DISCONNECT == 4, "src/native.ts says so");

/* Descriptors that are closed unless they are released. */
class Descriptors {
 public:
  Descriptors() = default;
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    for (const int fd : fds_) close(fd);
  }
  void add(int fd) { fds_.push_back(fd); }
  const std::vector<int>& list() const { return fds_; }
  void release() { fds_.clear(); }

 private:
  std::vector<int> fds_;
};

/* --- sockets ------------------------------------------------------------------------------ */

std::string quoted(const std::string& path) { return "'" + path + "'"; }

sockaddr_un addressOf(Napi::Env env, const std::string& path, const char* syscall) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  /* A path without its final zero would still bind, under a name nobody else can give. */
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throwSystemError(env, path.empty() ? EINVAL : ENAMETOOLONG, syscall,
                     quoted(path) + ": the path of a Unix socket has 1 to " +
                         std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int newSocket(Napi::Env env, int type) {
  const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throwSystemError(env, errno, "socket");
  return fd;
}

Napi::Value unixListen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = text(info, 0, "path");
  const int backlog = static_cast<int>(wholeNumber(info, 1, "backlog", INT_MAX));
  const auto mode = static_cast<mode_t>(wholeNumber(info, 2, "mode", 0777));
  const int type = info.Length() > 3 && flag(info, 3, "stream") ? SOCK_STREAM : SOCK_SEQPACKET;
  const sockaddr_un address = addressOf(env, path, "bind");
  Descriptors guard;
  const int fd = newSocket(env, type);
  guard.add(fd);
  /* Linux makes the file with the socket's mode less the umask: nobody gets in between. */
  if (fchmod(fd, mode) != 0) throwSystemError(env, errno, "fchmod");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throwSystemError(env, errno, "bind", quoted(path));
  }
  const char* failed = nullptr;
  if (chmod(path.c_str(), mode) != 0) {
    failed = "chmod";
  } else if (listen(fd, backlog) != 0) {
    failed = "listen";
  }
  if (failed != nullptr) {
    const int error = errno;
    unlink(path.c_str());
    throwSystemError(env, error, failed, quoted(path));
  }
  guard.release();
  return Napi::Number::New(env, fd);
}

Napi::Value unixConnect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = text(info, 0, "path");
  const int type = info.Length() > 1 && flag(info, 1, "stream") ? SOCK_STREAM : SOCK_SEQPACKET;
  const sockaddr_un address = addressOf(env, path, "connect");
  Descriptors guard;
  const int fd = newSocket(env, type);
  guard.add(fd);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throwSystemError(env, errno, "connect", quoted(path));
  }
  guard.release();
  return Napi::Number::New(env, fd);
}

Napi::Value unixAccept(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  for (;;) {
    const int accepted = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted >= 0) return Napi::Number::New(info.Env(), accepted);
    if (errno == EAGAIN) return Napi::Number::New(info.Env(), -1);
    if (errno != EINTR && errno != ECONNABORTED) throwSystemError(info.Env(), errno, "accept4");
  }
}

Napi::Value socketPair(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int type = flag(info, 0, "stream") ? SOCK_STREAM : SOCK_SEQPACKET;
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    throwSystemError(env, errno, "socketpair");
  }
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(0u, Napi::Number::New(env, ends[0]));
  result.Set(1u, Napi::Number::New(env, ends[1]));
  return result;
}

/* --- messages ----------------------------------------------------------------------------- */

union ControlBuffer {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * kDescriptorsMax)];
};

Napi::Value sendMessage(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 0);
  if (!info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(env, "data is not a Uint8Array");
  }
  if (!info[2].IsArray()) throw Napi::TypeError::New(env, "fds is not an array");
  Napi::Uint8Array data = info[1].As<Napi::Uint8Array>();
  const Napi::Array fds = info[2].As<Napi::Array>();
  const size_t bytes = data.ByteLength();
  const uint32_t count = fds.Length();
  if (bytes == 0) throwRangeError(env, "an empty message would be read as end-of-file");
  if (count > kDescriptorsMax) {
    throwRangeError(env, "a message carries at most " + std::to_string(kDescriptorsMax) +
                             " descriptors, not " + std::to_string(count));
  }

  msghdr message{};
  ControlBuffer control{};
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (uint32_t i = 0; i < count; i++) {
      const Napi::Value value = fds[i];
      const int passed = descriptor(env, value);
      std::memcpy(CMSG_DATA(header) + sizeof(int) * i, &passed, sizeof passed);
    }
  }

  iovec content{data.Data(), bytes};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == EAGAIN) return Napi::Boolean::New(env, false);
  if (sent < 0) throwSystemError(env, errno, "sendmsg");
  if (static_cast<size_t>(sent) != bytes) {
    /* Stream sockets only. The rest cannot be made good: the descriptors went with this part. */
    throwSystemError(env, EMSGSIZE, "sendmsg",
                     std::to_string(sent) + " of " + std::to_string(bytes) +
                         " bytes fitted: send single bytes over a stream socket");
  }
  return Napi::Boolean::New(env, true);
}

/* Takes charge of every descriptor that the kernel has installed for this message. */
void collect(msghdr* message, Descriptors* received) {
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + sizeof(int) * i, sizeof fd);
      received->add(fd);
    }
  }
}

Napi::Value receiveMessage(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 0);
  const uint64_t bytesMax = wholeNumber(info, 1, "bytesMax", kMessageBytesMax);
  if (bytesMax == 0) throwRangeError(env, "bytesMax is 0");

  const std::unique_ptr<uint8_t[]> data(new uint8_t[bytesMax]);
  iovec content{data.get(), bytesMax};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;

  Descriptors received;
  ssize_t bytes;
  do {
    bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) {
    if (errno == EAGAIN) return env.Undefined();
    throwSystemError(env, errno, "recvmsg");
  }
  collect(&message, &received);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    throwSystemError(env, EMSGSIZE, "recvmsg",
                     "the message is longer than " + std::to_string(bytesMax) + " bytes");
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    throwSystemError(env, EMSGSIZE, "recvmsg",
                     "the message carries more than " + std::to_string(kDescriptorsMax) +
                         " descriptors, or this process may not open more (ulimit -n)");
  }

  Napi::Object result = Napi::Object::New(env);
  result.Set("data", Napi::Buffer<uint8_t>::Copy(env, data.get(), static_cast<size_t>(bytes)));
  Napi::Array fds = Napi::Array::New(env);
  uint32_t count = 0;
  for (const int passed : received.list()) fds.Set(count++, Napi::Number::New(env, passed));
  result.Set("fds", fds);
  received.release();
  return result;
}

/* --- descriptors -------------------------------------------------------------------------- */

std::vector<gid_t> peerGroups(Napi::Env env, int fd) {
  std::vector<gid_t> groups(32);
  for (;;) {
    auto bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) == 0) {
      groups.resize(bytes / sizeof(gid_t));
      return groups;
    }
    if (errno == ENODATA) return {};
    /* ERANGE leaves in `bytes` what is needed. */
    if (errno != ERANGE) throwSystemError(env, errno, "getsockopt", "SO_PEERGROUPS");
    groups.resize(bytes / sizeof(gid_t));
  }
}

Napi::Value peerCredentials(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 0);
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    throwSystemError(env, errno, "getsockopt", "SO_PEERCRED");
  }
  /* What the kernel says of a socket that has no peer. */
  if (peer.uid == static_cast<uid_t>(-1)) throwSystemError(env, ENOTCONN, "getsockopt");
  const std::vector<gid_t> list = peerGroups(env, fd);
  Napi::Array groups = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); i++) groups.Set(i, Napi::Number::New(env, list[i]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", Napi::Number::New(env, peer.pid));
  result.Set("uid", Napi::Number::New(env, peer.uid));
  result.Set("gid", Napi::Number::New(env, peer.gid));
  result.Set("groups", groups);
  return result;
}

Napi::Value lockFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  int result;
  do {
    result = flock(fd, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EWOULDBLOCK) throwSystemError(info.Env(), errno, "flock");
  return Napi::Boolean::New(info.Env(), result == 0);
}

/* streamPeerPid(fd): of the process at the other end of a stream socket, 0 over a network */
Napi::Value streamPeerPid(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info, 0);
  int domain = 0;
  int type = 0;
  socklen_t bytes = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0) {
    throwSystemError(env, errno, "getsockopt");
  }
  const bool isNetwork = domain == AF_INET || domain == AF_INET6;
  if (type != SOCK_STREAM || (domain != AF_UNIX && !isNetwork)) {
    throwSystemError(env, EPROTOTYPE, "getsockopt");
  }
  sockaddr_storage name{};
  bytes = sizeof name;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&name), &bytes) != 0) {
    throwSystemError(env, errno, "getpeername");
  }
  ucred peer{};
  bytes = sizeof peer;
  if (!isNetwork && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    throwSystemError(env, errno, "getsockopt", "SO_PEERCRED");
  }
  return Napi::Number::New(env, peer.pid);
}

/*
 * endConnection(fd): nothing comes or goes any more, whoever else has the socket, and whoever blocks
 * there wakes. Then no close waits for a peer, whatever somebody who had the socket has set.
 */
void endConnection(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  const linger none = {0, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  if (shutdown(fd, SHUT_RDWR) != 0 && errno != ENOTCONN) {
    throwSystemError(info.Env(), errno, "shutdown");
  }
}

/* --- watchers ----------------------------------------------------------------------------- */

struct Watchers;

struct Watch {
  uv_poll_t poll;
  Watchers* owner;
  uint64_t number;
  int fd;
  napi_ref callback;
};

/* The watchers of one JavaScript thread. */
struct Watchers {
  napi_env env;
  napi_async_context context = nullptr;
  uint64_t numbers = 0;
  std::unordered_map<uint64_t, Watch*> active;
  /* Handles whose close callback is still to come, active ones included. */
  size_t open = 0;
  /* Set when the thread ends: the last close callback reports to it. */
  napi_async_cleanup_hook_handle ending = nullptr;
};

void finish(Watchers* watchers) {
  const napi_async_cleanup_hook_handle ending = watchers->ending;
  delete watchers;
  napi_remove_async_cleanup_hook(ending);
}

void onClosed(uv_handle_t* handle) {
  Watch* watch = static_cast<Watch*>(handle->data);
  Watchers* owner = watch->owner;
  delete watch;
  owner->open--;
  if (owner->open == 0 && owner->ending != nullptr) finish(owner);
}

/* The descriptor may be closed, and its number used again, as soon as this returns. */
void stop(Watch* watch) {
  uv_poll_stop(&watch->poll);
  napi_delete_reference(watch->owner->env, watch->callback);
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), onClosed);
}

void onThreadEnd(napi_async_cleanup_hook_handle handle, void* data) {
  auto* watchers = static_cast<Watchers*>(data);
  watchers->ending = handle;
  for (const auto& entry : watchers->active) stop(entry.second);
  watchers->active.clear();
  napi_async_destroy(watchers->env, watchers->context);
  if (watchers->open == 0) finish(watchers);
}

/*
 * libuv reports an error of a socket (POLLERR: the peer is gone and left our bytes unread) as a bad
 * descriptor, and ends the watch. Says what it was.
 */
int errorOf(const Watch* watch, int status) {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (status == UV_EBADF &&
      getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error != 0) {
    return -error;
  }
  return status;
}

void onPoll(uv_poll_t* handle, int status, int events) {
  const Watch* watch = static_cast<Watch*>(handle->data);
  const napi_env env = watch->owner->env;
  /* Not the C++ wrappers: they end the process when a call fails because the thread is ending. */
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, receiver, argument, result;
  if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok &&
      napi_get_global(env, &receiver) == napi_ok &&
      napi_create_int32(env, status < 0 ? errorOf(watch, status) : events, &argument) == napi_ok) {
    const napi_status called = napi_make_callback(env, watch->owner->context, receiver, callback, 1,
                                                  &argument, &result);
    /* From here on `watch` may be gone: the callback may have stopped it. */
    napi_value thrown;
    if (called == napi_pending_exception &&
        napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
      napi_fatal_exception(env, thrown);
    }
  }
  napi_close_handle_scope(env, scope);
}

Watchers* watchersOf(const Napi::CallbackInfo& info) { return static_cast<Watchers*>(info.Data()); }

Napi::Value watchStart(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Watchers* watchers = watchersOf(info);
  const int fd = descriptor(info, 0);
  const auto events = static_cast<int>(wholeNumber(info, 1, "events", kWatchEvents));
  if (events == 0) throwRangeError(env, "no events to watch for");
  if (!info[2].IsFunction()) throw Napi::TypeError::New(env, "callback is not a function");
  uv_loop_t* loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env);

  auto watch = std::make_unique<Watch>();
  watch->owner = watchers;
  watch->number = ++watchers->numbers;
  watch->fd = fd;
  const int initialised = uv_poll_init(loop, &watch->poll, fd);
  if (initialised != 0) throwSystemError(env, -initialised, "uv_poll_init");
  watch->poll.data = watch.get();
  watchers->open++;
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  const napi_status referenced = napi_create_reference(env, info[2], 1, &watch->callback);
  const int started =
      referenced == napi_ok ? uv_poll_start(&watch->poll, events, onPoll) : UV_ENOMEM;
  if (started != 0) {
    if (referenced == napi_ok) napi_delete_reference(env, watch->callback);
    uv_close(reinterpret_cast<uv_handle_t*>(&watch.release()->poll), onClosed);
    throwSystemError(env, -started, "uv_poll_start");
  }
  watchers->active.emplace(watch->number, watch.get());
  return Napi::Number::New(env, static_cast<double>(watch.release()->number));
}

/* Null for one that has been stopped. Numbers are not used again. */
Watch* activeWatch(const Napi::CallbackInfo& info) {
  Watchers* watchers = watchersOf(info);
  const uint64_t number = wholeNumber(info, 0, "watch", kWatchMax);
  if (number == 0 || number > watchers->numbers) {
    throwRangeError(info.Env(), "no watch has the number " + std::to_string(number));
  }
  const auto found = watchers->active.find(number);
  return found == watchers->active.end() ? nullptr : found->second;
}

void watchStop(const Napi::CallbackInfo& info) {
  Watch* watch = activeWatch(info);
  if (watch == nullptr) return;
  watch->owner->active.erase(watch->number);
  stop(watch);
}

void watchRef(const Napi::CallbackInfo& info) {
  Watch* watch = activeWatch(info);
  const bool referenced = flag(info, 1, "referenced");
  if (watch == nullptr) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(&watch->poll);
  if (referenced) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

Napi::Value duplicateDescriptor(const Napi::CallbackInfo& info) {
  const int fd = fcntl(descriptor(info, 0), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throwSystemError(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), fd);
}

void closeDescriptor(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info, 0);
  for (const auto& entry : watchersOf(info)->active) {
    /* The watcher would go on, for whatever gets this number next. */
    if (entry.second->fd == fd) {
      throwSystemError(info.Env(), EBUSY, "close",
                       "descriptor " + std::to_string(fd) + " is watched: stop that first");
    }
  }
  /* Linux has closed it also when it says EINTR. */
  if (close(fd) != 0 && errno != EINTR) throwSystemError(info.Env(), errno, "close");
}

Watchers* newWatchers(Napi::Env env) {
  auto watchers = std::make_unique<Watchers>();
  watchers->env = env;
  const Napi::String name = Napi::String::New(env, "stpd:watch");
  if (napi_async_init(env, nullptr, name, &watchers->context) != napi_ok ||
      napi_add_async_cleanup_hook(env, onThreadEnd, watchers.get(), nullptr) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return watchers.release();
}

}  // namespace

void registerDescriptors(Napi::Env env, Napi::Object exports) {
  exports.Set("unixListen", Napi::Function::New<unixListen>(env, "unixListen"));
  exports.Set("unixConnect", Napi::Function::New<unixConnect>(env, "unixConnect"));
  exports.Set("unixAccept", Napi::Function::New<unixAccept>(env, "unixAccept"));
  exports.Set("socketPair", Napi::Function::New<socketPair>(env, "socketPair"));
  exports.Set("sendMessage", Napi::Function::New<sendMessage>(env, "sendMessage"));
  exports.Set("receiveMessage", Napi::Function::New<receiveMessage>(env, "receiveMessage"));
  exports.Set("peerCredentials", Napi::Function::New<peerCredentials>(env, "peerCredentials"));
  exports.Set("streamPeerPid", Napi::Function::New<streamPeerPid>(env, "streamPeerPid"));
  exports.Set("endConnection", Napi::Function::New<endConnection>(env, "endConnection"));
  exports.Set("lockFile", Napi::Function::New<lockFile>(env, "lockFile"));

  Watchers* watchers = newWatchers(env);
  exports.Set("duplicateDescriptor",
              Napi::Function::New<duplicateDescriptor>(env, "duplicateDescriptor"));
  exports.Set("closeDescriptor",
              Napi::Function::New<closeDescriptor>(env, "closeDescriptor", watchers));
  exports.Set("watchStart", Napi::Function::New<watchStart>(env, "watchStart", watchers));
  exports.Set("watchStop", Napi::Function::New<watchStop>(env, "watchStop", watchers));
  exports.Set("watchRef", Napi::Function::New<watchRef>(env, "watchRef", watchers));
}

}  // namespace stpd
