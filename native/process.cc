/*
 * What a service tells its supervisor and the kernel about itself, which Node cannot: a datagram to
 * systemd's socket, and the I/O priority and the scheduling of the calling thread. Any thread; short system calls.
 */
#include <errno.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "addon.h"

namespace stpd {

/* See ioprio_set(2): libc has neither the call nor its constants. */
constexpr int kIoprioWhoProcess = 1;
constexpr int kIoprioClassShift = 13;

/* setIoPriority(class, level): of the calling thread; 2 is best effort, 3 idle. */
static void SetIoPriority(const Napi::CallbackInfo& info) {
  const auto ioClass = int(wholeNumber(info, 0, "I/O class", 3));
  const auto level = int(wholeNumber(info, 1, "I/O level", 7));
  const int priority = (ioClass << kIoprioClassShift) | level;
  if (syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, priority) != 0) {
    throwSystemError(info.Env(), errno, "ioprio_set");
  }
}

/*
 * setBatchScheduling(): the calling thread no longer interrupts who wakes it, where they have one core:
 * see sched(7). Does nothing for a thread whose policy somebody has chosen, nor where a filter of
 * system calls forbids it: it is a hint. True if it has that policy now.
 */
static Napi::Value SetBatchScheduling(const Napi::CallbackInfo& info) {
  const sched_param none = {};
  if (sched_getscheduler(0) == SCHED_OTHER) sched_setscheduler(0, SCHED_BATCH, &none);
  return Napi::Boolean::New(info.Env(), sched_getscheduler(0) == SCHED_BATCH);
}

/*
 * sendDatagram(path, text): one datagram to a Unix socket; a name that begins with @ is abstract.
 * Does not wait: a supervisor that does not read is not waited for.
 */
static void SendDatagram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = text(info, 0, "path");
  const std::string message = text(info, 1, "message");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throwSystemError(env, ENAMETOOLONG, "sendto", path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  const auto length = socklen_t(offsetof(sockaddr_un, sun_path) + path.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throwSystemError(env, errno, "socket");
  const ssize_t sent = sendto(fd, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                              reinterpret_cast<const sockaddr*>(&address), length);
  const int error = errno;
  close(fd);
  if (sent < 0) throwSystemError(env, error, "sendto", path);
}

void registerProcess(Napi::Env env, Napi::Object exports) {
  exports.Set("setIoPriority", Napi::Function::New(env, SetIoPriority));
  exports.Set("setBatchScheduling", Napi::Function::New(env, SetBatchScheduling));
  exports.Set("sendDatagram", Napi::Function::New(env, SendDatagram));
}

}  // namespace stpd
